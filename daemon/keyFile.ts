/**
 * The file of a node's keys as text: the key of its certificate and the key that Raft's files are
 * sealed with (and older ones, until nothing they sealed is left), in the clear or, while managers
 * are locked, sealed together under the unlock key. One file, so that a crash leaves all under one
 * key. Makes and reads text; writes nothing.
 */
import { SwarmError } from '../base/errors.ts';
import type { Random } from '../base/random.ts';
import { SEAL_KEY_BYTES, Seal } from '../base/seal.ts';

export interface NodeKeys {
  /** PEM. */
  readonly privateKey: string;
  /** The one in use first; empty on a node that never was a manager. */
  readonly raftKeys: readonly Uint8Array[];
}

const SEALED = 'TSSWARM SEALED KEYS';
const RAFT = 'TSSWARM RAFT KEY';
/** What the sealed text is bound to. */
const PLACE = Buffer.from(SEALED);
const UNLOCK_PREFIX = 'SWMKEY-1-';

function block(label: string, bytes: Uint8Array): string {
  const text = Buffer.from(bytes).toString('base64');
  return `-----BEGIN ${label}-----\n${text}\n-----END ${label}-----\n`;
}

function blocksOf(label: string, text: string): Buffer[] {
  const pattern = new RegExp(`-----BEGIN ${label}-----\n([^-]+)\n-----END ${label}-----\n`, 'g');
  return [...text.matchAll(pattern)].map((found) => Buffer.from(found[1], 'base64'));
}

export function isSealed(text: string): boolean {
  return blocksOf(SEALED, text).length > 0;
}

export function keysText(keys: NodeKeys, lockKey: Uint8Array | undefined, random: Random): string {
  const raft = keys.raftKeys.map((key) => block(RAFT, key));
  const text = `${keys.privateKey}${raft.join('')}`;
  if (lockKey === undefined) return text;
  return block(SEALED, new Seal(lockKey, random).seal([Buffer.from(text)], PLACE));
}

/** SwarmError invalid when it is sealed with another key, or with one and none is given. */
export function readKeys(text: string, lockKey: Uint8Array | undefined, random: Random): NodeKeys {
  const [sealed] = blocksOf(SEALED, text);
  let plain = text;
  if (sealed !== undefined) {
    const opened = lockKey && new Seal(lockKey, random).open(sealed, PLACE);
    if (opened === undefined) {
      throw new SwarmError('invalid', 'swarm could not be unlocked: invalid key provided');
    }
    plain = opened.toString('utf8');
  }
  const raftKeys = blocksOf(RAFT, plain);
  const [privateKey] = plain.split(`-----BEGIN ${RAFT}`);
  return { privateKey, raftKeys };
}

/** As Docker shows it to people: SWMKEY-1-<base64 without padding>. */
export function unlockKeyText(hex: string): string {
  if (hex === '') return '';
  return `${UNLOCK_PREFIX}${Buffer.from(hex, 'hex').toString('base64').replace(/=+$/, '')}`;
}

/** SwarmError invalid when it is not shaped like an unlock key. */
export function parseUnlockKey(text: string): Uint8Array {
  const bytes = Buffer.from(text.trim().slice(UNLOCK_PREFIX.length), 'base64');
  if (text.trim().startsWith(UNLOCK_PREFIX) && bytes.length === SEAL_KEY_BYTES) return bytes;
  throw new SwarmError(
    'invalid',
    'not an unlock key: copy it whole ("docker swarm unlock-key" on a manager that runs shows it)',
  );
}
