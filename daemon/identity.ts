/**
 * What a node keeps of its membership: state.json and its certificate, key and root certificate
 * under <data root>/swarm. Written aside, synced and renamed, so that a crash leaves the old or the
 * new. Never the CA's key: that is in the replicated cluster object.
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
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { messageOf, SwarmError } from '../base/errors.ts';
import type { NodeRole } from '../model/types.ts';
import type { NodeCredentials } from '../proto/credentials.ts';

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

function writeDurably(path: string, text: string): void {
  const aside = `${path}.new`;
  const fd = openSync(aside, 'w', 0o600);
  writeSync(fd, text);
  fsyncSync(fd);
  closeSync(fd);
  renameSync(aside, path);
  const directory = openSync(dirname(path), 'r');
  fsyncSync(directory);
  closeSync(directory);
}

export class Identity {
  readonly #directory: string;

  constructor(dataRoot: string) {
    this.#directory = join(dataRoot, 'swarm');
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
    if (state.format !== FORMAT) throw damaged(path, `format ${state.format} is not ${FORMAT}`);
    if (typeof state.nodeId !== 'string' || typeof state.hostIndex !== 'number') {
      throw damaged(path, 'nodeId or hostIndex is missing');
    }
    return state as Membership;
  }

  save(membership: Membership): void {
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    const text = JSON.stringify({ format: FORMAT, ...membership }, null, 2);
    writeDurably(join(this.#directory, 'state.json'), `${text}\n`);
  }

  credentials(): NodeCredentials {
    const read = (name: string): string => {
      const path = join(this.#directory, name);
      try {
        return readFileSync(path, 'utf8');
      } catch (error) {
        throw damaged(path, messageOf(error));
      }
    };
    const certificate = read('node.crt');
    return { certificate, privateKey: read('node.key'), rootCertificate: read('root.crt') };
  }

  saveCredentials(credentials: NodeCredentials): void {
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    writeDurably(join(this.#directory, 'root.crt'), credentials.rootCertificate);
    writeDurably(join(this.#directory, 'node.key'), credentials.privateKey);
    writeDurably(join(this.#directory, 'node.crt'), credentials.certificate);
  }

  /** Forgets the swarm: membership, certificates and Raft's files. */
  erase(): void {
    rmSync(this.#directory, { recursive: true, force: true });
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
