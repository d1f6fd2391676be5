/**
 * What is applied, as JSON files under <execRoot>/network, one per thing, so that a restarted
 * daemon adopts the namespaces of containers that outlived it. Written by rename; not synced,
 * since the kernel's state these files describe does not outlive a boot either. A file that
 * cannot be read as its record is reported by path and skipped: the namespace it described is
 * then pruned.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Plug } from './plugs.ts';
import type { Tunnel } from './routers.ts';
import type {
  Attachment,
  AttachRequest,
  BridgeNetwork,
  IngressState,
  OverlaySelf,
  OverlayState,
  PublishedPort,
} from './types.ts';

export interface HostRecord {
  readonly format: 1;
  readonly self: OverlaySelf | null;
  /** What the ingress tunnel was made with. */
  readonly tunnel: Tunnel | null;
}

export interface OverlayRecord {
  readonly format: 1;
  readonly state: OverlayState;
  /** What the tunnel device was made with. */
  readonly tunnel: Tunnel | null;
}

export interface AttachmentRecord {
  readonly format: 1;
  readonly request: AttachRequest;
  readonly attachment: Attachment;
  readonly plugs: readonly Plug[];
  /** As given: with the ports that were chosen. */
  readonly ports: readonly PublishedPort[];
  readonly dnsPort: number;
}

const SUFFIX = '.json';
const UNDER_WAY = '.new';
const BRIDGES_DIRECTORY = join('network', 'bridges');

/** A directory of records of one kind, by name. */
export class Records<T extends { readonly format: 1 }> {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  save(name: string, record: T): void {
    const path = join(this.#directory, `${name}${SUFFIX}`);
    // Made again each time: somebody may have tidied up the exec root meanwhile.
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    writeFileSync(`${path}${UNDER_WAY}`, JSON.stringify(record), { mode: 0o600 });
    renameSync(`${path}${UNDER_WAY}`, path);
  }

  remove(name: string): void {
    rmSync(join(this.#directory, `${name}${SUFFIX}`), { force: true });
  }

  load(log: Log): Map<string, T> {
    const records = new Map<string, T>();
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    for (const file of readdirSync(this.#directory).sort()) {
      const path = join(this.#directory, file);
      // An earlier process died between writing and renaming it.
      if (file.endsWith(`${SUFFIX}${UNDER_WAY}`)) rmSync(path, { force: true });
      if (!file.endsWith(SUFFIX)) continue;
      try {
        const record = JSON.parse(readFileSync(path, 'utf8')) as T;
        if (record.format !== 1) throw new Error('unknown format');
        records.set(file.slice(0, -SUFFIX.length), record);
      } catch (error) {
        log.warn('network record skipped', { path, reason: messageOf(error) });
      }
    }
    return records;
  }
}

export interface IngressRecord {
  readonly format: 1;
  readonly state: IngressState;
}

export interface BridgeRecord {
  readonly format: 1;
  readonly network: BridgeNetwork;
}

export interface NetworkRecords {
  readonly host: Records<HostRecord>;
  readonly ingress: Records<IngressRecord>;
  readonly overlays: Records<OverlayRecord>;
  readonly attachments: Records<AttachmentRecord>;
}

/** In the data root: bridges are what the user made, and outlive a boot. */
export function openBridgeRecords(dataRoot: string): Records<BridgeRecord> {
  return new Records(join(dataRoot, BRIDGES_DIRECTORY));
}

/** All of them, and the directory of our namespaces' names. */
export function removeRecords(execRoot: string, dataRoot: string): void {
  rmSync(join(dataRoot, BRIDGES_DIRECTORY), { recursive: true, force: true });
  rmSync(join(execRoot, 'network'), { recursive: true, force: true });
  rmSync(join(execRoot, 'netns'), { recursive: true, force: true });
}

export function openRecords(execRoot: string): NetworkRecords {
  const root = join(execRoot, 'network');
  return {
    host: new Records(join(root, 'host')),
    ingress: new Records(join(root, 'ingress')),
    overlays: new Records(join(root, 'overlays')),
    attachments: new Records(join(root, 'attachments')),
  };
}
