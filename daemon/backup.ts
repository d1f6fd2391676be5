/**
 * Backups of a swarm: written from a manager that runs (saveBackup), looked at anywhere
 * (inspectBackup), read into a replica to go on from (readBackup). A backup is the store as of one
 * version: all objects, the key of the CA and the secrets among them. While managers are locked it
 * is sealed with the unlock key; otherwise it is in the clear. The form is manager/backup's.
 */
import type { Clock } from '../base/clock.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import type { Random } from '../base/random.ts';
import { Seal } from '../base/seal.ts';
import { VERSION } from '../base/version.ts';
import { type BackupHead, BackupReader, writeBackup } from '../manager/backup.ts';
import { Replica } from '../manager/replica.ts';
import { TABLES } from '../manager/store/contents.ts';
import type { View } from '../manager/store/types.ts';
import { parseUnlockKey } from './keyFile.ts';

export function countsOf(view: View): BackupHead['counts'] {
  const counts = TABLES.map((table) => [table, view.count(table)] as const);
  return Object.fromEntries(counts) as BackupHead['counts'];
}

export interface SaveOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly replica: Replica;
  readonly hostname: string;
  /** Raft's, which is not below that of the last entry. */
  readonly term: () => number;
}

/**
 * The file, of a moment after the call: nothing acknowledged before it is missing. SwarmError
 * no_quorum when that cannot be known.
 */
export async function saveBackup(options: SaveOptions): Promise<AsyncIterable<Uint8Array>> {
  const { clock, random, replica, hostname } = options;
  await replica.barrier();
  const { store } = replica;
  const cluster = store.cluster();
  if (cluster === undefined) throw new SwarmError('unavailable', 'the swarm is being created');
  const { unlockKey } = cluster;
  const sealed = unlockKey !== '';
  const counts = countsOf(store);
  // From here to the pin nothing waits: the head and the chunks are of one version.
  const { index, chunks } = replica.takeSnapshot();
  const head: BackupHead = {
    clusterId: cluster.id,
    savedAtMs: Math.floor(clock.wallMs()),
    hostname,
    product: VERSION,
    version: index,
    term: options.term(),
    counts,
    sealed,
  };
  const seal = sealed ? new Seal(Buffer.from(unlockKey, 'hex'), random) : undefined;
  return lettingGo(writeBackup(head, chunks, seal), chunks);
}

/**
 * Whoever stops reading lets go of what `pinned` pins, also before the first byte of it: a
 * generator that has not come to its loop does not end it.
 */
function lettingGo(
  file: AsyncGenerator<Uint8Array>,
  pinned: AsyncIterable<Uint8Array>,
): AsyncIterableIterator<Uint8Array> {
  const all: AsyncIterableIterator<Uint8Array> = {
    [Symbol.asyncIterator]: () => all,
    next: () => file.next(),
    return: async () => {
      await file.return(undefined);
      await pinned[Symbol.asyncIterator]().return?.();
      return { done: true, value: undefined };
    },
  };
  return all;
}

/** `unlockKey` '' = none was given. */
function sealOf(unlockKey: string, random: Random): Seal | undefined {
  return unlockKey === '' ? undefined : new Seal(parseUnlockKey(unlockKey), random);
}

export interface Backup {
  readonly head: BackupHead;
  readonly replica: Replica;
}

/**
 * All of it, checked to the end, in a replica that nobody else has. SwarmError corrupt, invalid or
 * unsupported, in one line.
 */
export async function readBackup(
  file: AsyncIterable<Uint8Array>,
  options: { readonly clock: Clock; readonly random: Random; readonly unlockKey: string },
): Promise<Backup> {
  const reader = await BackupReader.open(file);
  const { head } = reader;
  const replica = new Replica({ clock: options.clock });
  const seal = head.sealed ? sealOf(options.unlockKey, options.random) : undefined;
  try {
    await replica.restore(head.version, reader.chunks(seal));
  } catch (error) {
    if (error instanceof SwarmError) throw error;
    // What carries the objects could be read, and one of them could not.
    throw new SwarmError('corrupt', `the backup is damaged: ${messageOf(error)}`, { cause: error });
  }
  const { store } = replica;
  const counts = countsOf(store);
  const wrong = TABLES.filter((table) => counts[table] !== head.counts[table]);
  if (store.cluster()?.id !== head.clusterId || wrong.length > 0) {
    throw new SwarmError('corrupt', 'the backup is damaged: it is not what its head says');
  }
  return { head, replica };
}

/** What the head says, once the whole file has passed its checks; sealed parts stay sealed. */
export async function inspectBackup(
  file: AsyncIterable<Uint8Array>,
  options: { readonly clock: Clock; readonly random: Random; readonly unlockKey: string },
): Promise<{ readonly head: BackupHead; readonly bytes: number; readonly opened: boolean }> {
  let bytes = 0;
  async function* counted(): AsyncGenerator<Uint8Array> {
    for await (const chunk of file) {
      bytes += chunk.length;
      yield chunk;
    }
  }
  const reader = await BackupReader.open(counted());
  const { head } = reader;
  const opened = !head.sealed || options.unlockKey !== '';
  if (opened) {
    const seal = sealOf(options.unlockKey, options.random);
    const replica = new Replica({ clock: options.clock });
    await replica.restore(head.version, reader.chunks(seal));
  } else {
    for await (const chunk of reader.chunks('sealed')) void chunk;
  }
  return { head, bytes, opened };
}
