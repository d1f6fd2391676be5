/** snapshot: the whole state of a swarm as a file, and a swarm brought back from one. */
import { createReadStream } from 'node:fs';
import { formatSize } from '../base/bytes.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import { addCommand, type Command } from './command.ts';
import type { Context, Run } from './context.ts';
import { unreadable } from './input.ts';
import { type KeyFlags, unlockKeyOf, withKeyFlag } from './unlockKey.ts';
import { checkFileName, writeWhole } from './wholeFile.ts';

interface InspectFlags extends KeyFlags {
  readonly json?: boolean;
}

interface RestoreFlags extends KeyFlags {
  readonly advertiseAddr?: string;
  readonly listenAddr?: string;
  readonly force?: boolean;
}

export function registerSnapshot(program: Command, run: Run): void {
  const snapshot = addCommand(program, 'snapshot', 'backups of the swarm');
  addCommand(snapshot, 'save <file>', 'write the whole state of the swarm to a file').action(
    (file: string) => run((context) => save(context, file)),
  );
  withKeyFlag(addCommand(snapshot, 'inspect <file>', 'check a backup and tell what it holds'))
    .option('--json', 'for programs')
    .action((file: string, flags: InspectFlags) => run((context) => inspect(context, file, flags)));
  const about = 'make this host the only manager of the swarm in a backup';
  withKeyFlag(addCommand(snapshot, 'restore <file>', about))
    .option('--advertise-addr <address>', 'address other hosts reach this one at, or its interface')
    .option('--listen-addr <address>', 'address to listen on')
    .option('-f, --force', 'leave the swarm that this host is in first')
    .action((file: string, flags: RestoreFlags) => run((context) => restore(context, file, flags)));
}

type Inspected = Awaited<ReturnType<typeof look>>;

async function look(file: string, unlockKey: string) {
  const { inspectFile } = await import('../daemon/offline.ts');
  try {
    return await inspectFile(file, unlockKey);
  } catch (error) {
    if (error instanceof SwarmError) throw error;
    throw unreadable(file, error);
  }
}

/** There is a whole file, checked as a reader would check it, or none. */
async function save(context: Context, file: string): Promise<void> {
  checkFileName(file);
  const body = await context.client.stream('GET', '/tsswarm/snapshot', { signal: context.signal });
  try {
    const found = await writeWhole(file, body, (path) => look(path, ''));
    context.out.write(`Saved ${file}: ${summary(found)}\n`);
    context.out.write(
      found.head.sealed
        ? 'It is sealed with the unlock key of now; without that key it cannot be restored.\n'
        : 'It holds the key of the CA and every secret in the clear: keep it as you keep those.\n',
    );
  } catch (error) {
    body.destroy();
    if (error instanceof SwarmError) throw error;
    throw new SwarmError('internal', `the backup could not be written: ${messageOf(error)}`);
  }
}

function summary({ head, bytes }: Inspected): string {
  return `swarm ${head.clusterId} at version ${head.version}, ${formatSize(bytes)}`;
}

async function inspect(context: Context, file: string, flags: InspectFlags): Promise<void> {
  const { head, bytes, opened } = await look(file, await unlockKeyOf(context, flags));
  if (flags.json === true) {
    context.out.write(`${JSON.stringify({ ...head, bytes, opened }, undefined, 2)}\n`);
    return;
  }
  const { cluster: _, ...counts } = head.counts;
  const rows: [string, string][] = [
    ['Swarm', head.clusterId],
    ['Saved', `${new Date(head.savedAtMs).toISOString()} on ${head.hostname}`],
    ['Version', `${head.version} (term ${head.term})`],
    ['Written by', `tsswarm ${head.product}`],
    ['Size', formatSize(bytes)],
    ['Sealed', head.sealed ? 'yes, with the unlock key of that time' : 'no'],
    ...Object.entries(counts).map(([table, count]): [string, string] => [
      `${table[0].toUpperCase()}${table.slice(1)}s`,
      String(count),
    ]),
    ['Checked', opened ? 'all of it' : 'checksums; what is sealed needs the unlock key'],
  ];
  for (const [label, value] of rows) context.out.write(`${`${label}:`.padEnd(12)} ${value}\n`);
}

async function restore(context: Context, file: string, flags: RestoreFlags): Promise<void> {
  let unlockKey = await unlockKeyOf(context, flags);
  const { head, opened } = await look(file, unlockKey);
  if (!opened) {
    unlockKey = await unlockKeyOf(context, { unlockKeyFile: '-' });
    await look(file, unlockKey);
  }
  const nodeId = await context.client.json<string>('POST', '/tsswarm/snapshot/restore', {
    query: {
      'advertise-addr': flags.advertiseAddr,
      'listen-addr': flags.listenAddr,
      force: flags.force,
    },
    upload: createReadStream(file),
    headers: {
      'Content-Type': 'application/octet-stream',
      ...(unlockKey === '' ? {} : { 'X-Tsswarm-Unlock-Key': unlockKey }),
    },
    signal: context.signal,
  });
  context.out.write(
    `Swarm ${head.clusterId} restored: this host (${nodeId}) is its only manager now.\n` +
      'Its former managers are no part of it any more: "tsswarm leave --force" on them, then ' +
      'join again ("tsswarm join-token manager" prints the line).\n',
  );
}
