/**
 * What a node keeps of its membership: state.json and its certificate, key and root certificate
 * under <data root>/swarm. Written aside, synced and renamed, so that a crash leaves the old or the
 * new. Never the CA's key: that is in the replicated cluster object. While managers are locked the
 * keys are sealed, and nothing here can be used before the unlock key was given.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { messageOf, SwarmError } from '../base/errors.ts';
import type { Random } from '../base/random.ts';
import { SEAL_KEY_BYTES } from '../base/seal.ts';
import { isTrusted } from '../manager/ca/trust.ts';
import { isKeyOf, readCertificate } from '../manager/ca/x509.ts';
import { sameValue } from '../model/equal.ts';
import type { NodeRole } from '../model/types.ts';
import type { NodeCredentials } from '../proto/credentials.ts';
import { isSealed, keysText, type NodeKeys, readKeys } from './keyFile.ts';

export interface Membership {
  readonly nodeId: string;
  readonly role: NodeRole;
  readonly hostIndex: number;
  readonly advertiseHost: string;
  readonly port: number;
  readonly listenHost: string;
  readonly vxlanPort: number;
  /** host:port of managers, leader first when known. */
  readonly managers: readonly string[];
  /** 0 unless it is, or is becoming, a manager. */
  readonly raftId: number;
}

const FORMAT = 1;
/** Older ones go within seconds, unless the disk is full: then a lock comes without a new one. */
const RAFT_KEYS_MAX = 8;

const ROOT = 'root.crt';
const KEY = 'node.key';
const CERTIFICATE = 'node.crt';

function aside(path: string): string {
  return `${path}.new`;
}

function prepare(path: string, text: string): void {
  const fd = openSync(aside(path), 'w', 0o600);
  try {
    // All of it: a disk about to be full takes a part and says so by the count alone.
    writeFileSync(fd, text);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function commit(path: string): void {
  renameSync(aside(path), path);
  syncDirectory(dirname(path));
}

function syncDirectory(path: string): void {
  const directory = openSync(path, 'r');
  fsyncSync(directory);
  closeSync(directory);
}

function writeDurably(path: string, text: string): void {
  prepare(path, text);
  commit(path);
}

export class Identity {
  readonly #directory: string;
  readonly #random: Random;
  /** The keys on disk are sealed with it; undefined while they are in the clear. */
  #lockKey: Uint8Array | undefined;

  constructor(dataRoot: string, random: Random) {
    this.#directory = join(dataRoot, 'swarm');
    this.#random = random;
  }

  get raftDirectory(): string {
    return join(this.#directory, 'raft');
  }

  /** undefined when this node is in no swarm. SwarmError corrupt when the file cannot be used. */
  membership(): Membership | undefined {
    const path = join(this.#directory, 'state.json');
    if (!existsSync(path)) return undefined;
    let state: { format?: unknown } & Partial<Membership>;
    try {
      state = JSON.parse(readFileSync(path, 'utf8'));
    } catch (error) {
      throw damaged(path, messageOf(error));
    }
    if (typeof state.format === 'number' && state.format > FORMAT) {
      throw new SwarmError(
        'unsupported',
        `${path} was written by a newer version of tsswarm (format ${state.format}; this one ` +
          `knows up to ${FORMAT}): start that version again; nothing was changed`,
      );
    }
    if (state.format !== FORMAT) throw damaged(path, `format ${state.format} is not ${FORMAT}`);
    if (typeof state.nodeId !== 'string' || typeof state.hostIndex !== 'number') {
      throw damaged(path, 'nodeId or hostIndex is missing');
    }
    return state as Membership;
  }

  /** The directory itself must outlive a loss of power too. */
  #makeDirectory(): void {
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    syncDirectory(dirname(this.#directory));
  }

  save(membership: Membership): void {
    this.#makeDirectory();
    const text = JSON.stringify({ format: FORMAT, ...membership }, null, 2);
    writeDurably(join(this.#directory, 'state.json'), `${text}\n`);
  }

  /** SwarmError corrupt, naming the file, when they are damaged or do not belong together. */
  credentials(): NodeCredentials {
    const rootCertificate = this.#read(ROOT, readCertificate);
    const { privateKey } = this.#keys();
    let certificate = this.#read(CERTIFICATE, (pem) => {
      readCertificate(pem);
      if (!isTrusted(pem, rootCertificate)) {
        throw new SwarmError('corrupt', `it was not issued by ${ROOT} beside it`);
      }
    });
    const paired = (pem: string): boolean =>
      this.#check(KEY, () => isKeyOf(privateKey, pem)) === true;
    if (!paired(certificate)) {
      const newer = this.#path(aside(CERTIFICATE));
      certificate = existsSync(newer) ? readFileSync(newer, 'utf8') : certificate;
      if (!paired(certificate))
        throw damaged(this.#path(KEY), `it is not the key of ${CERTIFICATE}`);
      // A crash came between the two renames of saveCredentials: the second is made good.
      commit(this.#path(CERTIFICATE));
    }
    return { certificate, privateKey, rootCertificate };
  }

  /**
   * Key and certificate belong together, but are two files: the certificate is on disk before the
   * key takes its place, so that after a crash one pair or the other can be had.
   */
  saveCredentials(credentials: NodeCredentials): void {
    this.#makeDirectory();
    writeDurably(this.#path(ROOT), credentials.rootCertificate);
    prepare(this.#path(CERTIFICATE), credentials.certificate);
    const raftKeys = existsSync(this.#path(KEY)) ? this.#keys().raftKeys : [];
    this.#writeKeys({ privateKey: credentials.privateKey, raftKeys });
    commit(this.#path(CERTIFICATE));
  }

  /** What Raft's files are sealed with; made, and kept, when there is none yet. */
  raftKey(): Uint8Array {
    const keys = this.#keys();
    if (keys.raftKeys.length > 0) return keys.raftKeys[0];
    const raftKey = this.#random.bytes(SEAL_KEY_BYTES);
    this.#writeKeys({ ...keys, raftKeys: [raftKey] });
    return raftKey;
  }

  /** What Raft's files may be sealed with, the one in use first; makes none. */
  storedRaftKeys(): readonly Uint8Array[] {
    return this.#keys().raftKeys;
  }

  /** With which parts of Raft's files may still be sealed. */
  olderRaftKeys(): readonly Uint8Array[] {
    return this.#keys().raftKeys.slice(1);
  }

  forgetOlderRaftKeys(): void {
    const keys = this.#keys();
    if (keys.raftKeys.length > 1) {
      this.#writeKeys({ ...keys, raftKeys: keys.raftKeys.slice(0, 1) });
    }
  }

  /** The keys are sealed, and nobody has given the unlock key yet. */
  get isLocked(): boolean {
    const path = this.#path(KEY);
    return this.#lockKey === undefined && existsSync(path) && isSealed(readFileSync(path, 'utf8'));
  }

  /** SwarmError invalid when it is not the key. */
  unlock(lockKey: Uint8Array): void {
    readKeys(readFileSync(this.#path(KEY), 'utf8'), lockKey, this.#random);
    this.#lockKey = lockKey;
  }

  /**
   * From now on the keys on disk are sealed with `lockKey`, or in the clear. A new lock brings a
   * new key for Raft's files, which is returned, kept already: whoever has an earlier copy of the
   * keys must not read with it what is written later.
   */
  setLock(lockKey: Uint8Array | undefined): Uint8Array | undefined {
    if (sameValue(lockKey, this.#lockKey)) return undefined;
    const keys = this.#keys();
    const { raftKeys } = keys;
    const renews = lockKey !== undefined && raftKeys.length > 0 && raftKeys.length < RAFT_KEYS_MAX;
    const fresh = renews ? this.#random.bytes(SEAL_KEY_BYTES) : undefined;
    this.#lockKey = lockKey;
    this.#writeKeys({ ...keys, raftKeys: fresh === undefined ? raftKeys : [fresh, ...raftKeys] });
    return fresh;
  }

  #keys(): NodeKeys {
    return this.#check(KEY, () =>
      readKeys(readFileSync(this.#path(KEY), 'utf8'), this.#lockKey, this.#random),
    );
  }

  #writeKeys(keys: NodeKeys): void {
    writeDurably(this.#path(KEY), keysText(keys, this.#lockKey, this.#random));
  }

  #path(name: string): string {
    return join(this.#directory, name);
  }

  #read(name: string, check: (text: string) => void = () => {}): string {
    return this.#check(name, () => {
      const text = readFileSync(this.#path(name), 'utf8');
      check(text);
      return text;
    });
  }

  #check<T>(name: string, check: () => T): T {
    try {
      return check();
    } catch (error) {
      throw damaged(this.#path(name), messageOf(error));
    }
  }

  /** Forgets the swarm: membership, certificates and Raft's files. */
  erase(): void {
    rmSync(this.#directory, { recursive: true, force: true });
    this.#lockKey = undefined;
  }

  /** Forgets Raft's files only: this node is no manager any more. */
  eraseRaft(): void {
    rmSync(this.raftDirectory, { recursive: true, force: true });
  }
}

function damaged(path: string, why: string): SwarmError {
  return new SwarmError(
    'corrupt',
    `${path} cannot be used (${why}): restore it, or move ${dirname(path)} away and join again`,
  );
}
