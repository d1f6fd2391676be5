/**
 * Volumes on disk: `<dataRoot>/volumes/<name>/_data` holds the files, `volume.json` beside it the
 * facts. A volume is there as soon as its facts are (written last), and gone as a whole. Who uses
 * one is told by whoever has containers; it is not kept here.
 */
import { execFile } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { isDeepStrictEqual, promisify } from 'node:util';
import type { Clock } from '../../base/clock.ts';
import { messageOf, SwarmError } from '../../base/errors.ts';
import type { Ids } from '../../base/id.ts';
import type { Log } from '../../base/log.ts';
import { readMounts, unmount } from '../sys/mount.ts';
import { removeTree } from '../sys/removeTree.ts';
import { copyUp } from './copyUp.ts';
import { mountLocal, parseLocalMount } from './localMount.ts';
import type { CopyUp, Volume, VolumeRequest, VolumeStore } from './types.ts';

const run = promisify(execFile);
const FACTS = 'volume.json';
const DATA = '_data';
const FILLING = '.filling';
const REMOVED_PREFIX = '.removed-';
const SCRATCH_PREFIX = '.scratch-';
const DU_TIMEOUT_MS = 60_000;
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;
const NAME_MAX = 255;

export interface VolumeStoreOptions {
  readonly dataRoot: string;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
}

export function openVolumeStore(options: VolumeStoreOptions): VolumeStore {
  return new LocalVolumes(options);
}

type Facts = Omit<Volume, 'mountpoint'>;

class LocalVolumes implements VolumeStore {
  readonly #directory: string;
  readonly #clock: Clock;
  readonly #ids: Ids;
  readonly #volumes = new Map<string, Volume>();
  readonly #users = new Map<string, Set<string>>();
  /** Copies under way, by volume. */
  readonly #filling = new Map<string, Promise<void>>();

  constructor(options: VolumeStoreOptions) {
    this.#directory = join(options.dataRoot, 'volumes');
    this.#clock = options.clock;
    this.#ids = options.ids;
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    // Programs that a container leaves in a volume, setuid perhaps, are nobody's on the host.
    chmodSync(this.#directory, 0o700);
    for (const name of readdirSync(this.#directory)) this.#load(name, options.log);
  }

  #load(name: string, log: Log): void {
    const path = join(this.#directory, name);
    if (name.startsWith('.')) {
      this.#discard(path, log);
      return;
    }
    if (existsSync(join(path, FILLING))) {
      // Of a process that was killed; whoever still copies there finds it gone.
      const doomed = join(this.#directory, `${REMOVED_PREFIX}${this.#ids.object()}`);
      renameSync(join(path, FILLING), doomed);
      this.#discard(doomed, log);
    }
    try {
      const facts = JSON.parse(readFileSync(join(path, FACTS), 'utf8')) as Facts;
      this.#volumes.set(name, { ...facts, mountpoint: join(path, DATA) });
    } catch (error) {
      // Its files are a user's: they stay where they are for him to look at.
      log.error('a volume whose facts cannot be read is left out', {
        path,
        error: messageOf(error),
      });
    }
  }

  #discard(path: string, log: Log): void {
    const within = readMounts().filter((mount) => mount.mountPoint.startsWith(`${path}/`));
    for (const mount of within.toReversed()) unmount(mount.mountPoint);
    removeTree(path).catch((error: unknown) => {
      log.warn('cannot remove what is left of a volume', { path, error: messageOf(error) });
    });
  }

  async create(request: VolumeRequest): Promise<Volume> {
    const { driver, labels, options } = request;
    if (!['', 'local'].includes(driver)) {
      throw new SwarmError(
        'not_found',
        `error looking up volume plugin ${driver}: plugin "${driver}" not found: use local`,
      );
    }
    const name = request.name === '' ? this.#ids.container() : request.name;
    const found = this.#volumes.get(name);
    if (found !== undefined) return sameOr(found, request);
    checkName(name);
    parseLocalMount(options);
    const volume: Volume = {
      name,
      driver: 'local',
      labels,
      options,
      createdAtMs: this.#clock.wallMs(),
      mountpoint: join(this.#directory, name, DATA),
      anonymous: request.name === '',
    };
    this.#write(volume);
    this.#volumes.set(name, volume);
    return volume;
  }

  #write(volume: Volume): void {
    const path = join(this.#directory, volume.name);
    if (existsSync(path)) {
      throw new SwarmError('conflict', `${path} is in the way: move it away, then try again`);
    }
    mkdirSync(path, { mode: 0o701 });
    mkdirSync(volume.mountpoint, { mode: 0o755 });
    const { mountpoint: _, ...facts } = volume;
    writeFileSync(join(path, `${FACTS}.tmp`), JSON.stringify(facts), { mode: 0o600 });
    renameSync(join(path, `${FACTS}.tmp`), join(path, FACTS));
  }

  get(name: string): Volume | undefined {
    return this.#volumes.get(name);
  }

  list(): readonly Volume[] {
    return [...this.#volumes.values()];
  }

  async remove(name: string): Promise<void> {
    const volume = this.#must(name);
    const users = this.users(name);
    if (users.length > 0) {
      throw new SwarmError(
        'conflict',
        `remove ${name}: volume is in use - [${users.join(', ')}]: remove these containers first`,
      );
    }
    if (this.#isMounted(volume)) unmount(volume.mountpoint);
    const doomed = join(this.#directory, `${REMOVED_PREFIX}${this.#ids.object()}`);
    renameSync(join(this.#directory, name), doomed);
    this.#volumes.delete(name);
    await removeTree(doomed);
  }

  hold(name: string, containerId: string): void {
    const users = this.#users.get(name) ?? new Set();
    users.add(containerId);
    this.#users.set(name, users);
  }

  release(name: string, containerId: string): void {
    const users = this.#users.get(name);
    users?.delete(containerId);
    if (users?.size === 0) this.#users.delete(name);
  }

  users(name: string): readonly string[] {
    return [...(this.#users.get(name) ?? [])];
  }

  async mount(name: string): Promise<void> {
    const volume = this.#must(name);
    const mount = parseLocalMount(volume.options);
    if (mount === undefined || this.#isMounted(volume)) return;
    mountLocal(mount, volume.mountpoint, name);
  }

  #isMounted(volume: Volume): boolean {
    if (Object.keys(volume.options).length === 0) return false;
    return readMounts().some((mount) => mount.mountPoint === volume.mountpoint);
  }

  async fill(name: string, from: CopyUp): Promise<void> {
    const volume = this.#must(name);
    for (let other = this.#filling.get(name); other !== undefined; ) {
      await other.catch(() => {}); // told to whoever asked for it
      other = this.#filling.get(name);
    }
    if (readdirSync(volume.mountpoint).length > 0) return;
    const copy = this.#fillEmpty(volume, from).finally(() => this.#filling.delete(name));
    this.#filling.set(name, copy);
    await copy;
  }

  async #fillEmpty(volume: Volume, from: CopyUp): Promise<void> {
    const scratch = join(this.#directory, `${SCRATCH_PREFIX}${this.#ids.object()}`);
    mkdirSync(scratch, { mode: 0o700 });
    // Elsewhere first: what a crash or a full disk cuts short would pass for filled. Not where
    // another container may have the directory mounted already, or where it is a mount itself.
    const isFree = this.users(volume.name).length <= 1 && Object.keys(volume.options).length === 0;
    const staging = isFree ? join(dirname(volume.mountpoint), FILLING) : volume.mountpoint;
    try {
      if (isFree) mkdirSync(staging, { mode: 0o755 });
      const isCopied = await copyUp(from, staging, scratch);
      if (isFree && isCopied) replaceEmpty(volume.mountpoint, staging);
    } finally {
      if (isFree) await removeTree(staging);
      rmSync(scratch, { recursive: true, force: true });
    }
  }

  async sizeBytes(name: string): Promise<number> {
    const volume = this.#must(name);
    if (Object.keys(volume.options).length > 0) return -1;
    const { stdout } = await run('du', ['-sxB1', '--apparent-size', volume.mountpoint], {
      timeout: DU_TIMEOUT_MS,
    });
    // The directory itself is none of its contents.
    return Math.max(0, Number(stdout.split('\t')[0]) - lstatSync(volume.mountpoint).size);
  }

  #must(name: string): Volume {
    const volume = this.#volumes.get(name);
    if (volume === undefined) {
      throw new SwarmError('not_found', `get ${name}: no such volume`);
    }
    return volume;
  }
}

function replaceEmpty(directory: string, by: string): void {
  try {
    renameSync(by, directory);
  } catch (error) {
    // Somebody has put something there meanwhile: as with any volume that is not empty.
    if ((error as NodeJS.ErrnoException).code !== 'ENOTEMPTY') throw error;
  }
}

function sameOr(found: Volume, request: VolumeRequest): Volume {
  const { options } = request;
  if (Object.keys(options).length === 0 || isDeepStrictEqual({ ...found.options }, { ...options }))
    return found;
  throw new SwarmError(
    'conflict',
    `a volume named ${found.name} already exists with other options: remove it, or choose ` +
      'another name',
  );
}

function checkName(name: string): void {
  if (NAME.test(name) && name.length <= NAME_MAX) return;
  throw new SwarmError(
    'invalid',
    `create ${name}: "${name}" includes invalid characters for a local volume name, only ` +
      '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use ' +
      'absolute path',
  );
}
