/**
 * Everything that is done with a container's files from outside: looked at, copied out and in,
 * exported, compared with the image, made into a layer of one. Running or not; while it runs, what
 * is mounted in it shows.
 */
import { constants, readFileSync } from 'node:fs';
import { open, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { SwarmError } from '../../base/errors.ts';
import { writeTar } from '../image/tar.ts';
import { parseMountInfo } from '../sys/mount.ts';
import { unpackInside } from './archiveIn.ts';
import { statInside, walkInside } from './archiveOut.ts';
import type { InsideRoot } from './insideRoot.ts';
import { layerEntries } from './layerArchive.ts';
import { layerChanges, treeBytes } from './layerDiff.ts';
import type { ContainerLife } from './life.ts';
import { lentPlaces } from './loans.ts';
import { type ContainerPaths, UPPER_DIR } from './paths.ts';
import type { OpenRoot, RootAccess } from './rootAccess.ts';
import { buildHoldSpec } from './spec.ts';
import type { Container, FileChange, FileStat } from './types.ts';
import { userMapsOf } from './userNamespace.ts';

/** What is in them is no file that could be copied, and some of it cannot be read at all. */
const KERNEL_TYPES = new Set(['proc', 'sysfs', 'cgroup', 'cgroup2', 'devpts', 'mqueue']);
const START_TIMEOUT_MS = 60_000;
/** As the shim reads of it (user.c). */
const ACCOUNTS_MAX_BYTES = 256 * 1024;

type WriteOptions = Parameters<Container['writeArchive']>[2];

export class ContainerFiles {
  readonly #life: ContainerLife;
  readonly #paths: ContainerPaths;
  readonly #access: RootAccess;

  constructor(life: ContainerLife, paths: ContainerPaths, access: RootAccess) {
    this.#life = life;
    this.#paths = paths;
    this.#access = access;
  }

  async stat(path: string): Promise<FileStat> {
    return await this.#with(({ root }) => statInside(root, path));
  }

  async read(path: string): Promise<{ readonly stat: FileStat; readonly tar: Readable }> {
    const open = await this.#open();
    try {
      const stat = await statInside(open.root, path);
      const prefix = stat.name === '/' ? '.' : stat.name;
      let isOpen = true;
      const close = (): void => {
        if (isOpen) open.close();
        isOpen = false;
      };
      const covered = mountPoints(open.pid, (type) => KERNEL_TYPES.has(type));
      const tar = Readable.from(archive({ ...open, close }, path, { prefix, covered }), {
        objectMode: false,
      });
      // A stream that nobody began to read runs no line of what it would have read from.
      tar.once('close', close);
      return { stat, tar };
    } catch (error) {
      open.close();
      throw error;
    }
  }

  async write(path: string, tar: Readable, options: WriteOptions): Promise<void> {
    await this.#with(async ({ root, ids }) => {
      const owner = options.copyUidGid ? await this.#owner(root) : undefined;
      const { noOverwriteDirNonDir } = options;
      await unpackInside(root, path, tar, {
        noOverwriteDirNonDir,
        ...(owner === undefined ? {} : { owner }),
        ...(ids === undefined ? {} : { ids }),
      });
    });
  }

  /** Without what is mounted in it. */
  exportRoot(): Readable {
    const open = (): Promise<OpenRoot> => this.#open();
    async function* whole(): AsyncGenerator<Uint8Array> {
      const opened = await open();
      yield* archive(opened, '/', { prefix: '', covered: mountPoints(opened.pid) });
    }
    return Readable.from(whole(), { objectMode: false });
  }

  /** Nothing that is mounted in it shows. */
  layer(): Readable {
    const upper = join(this.#paths.dataDir, UPPER_DIR);
    const { layers } = this.#life.config;
    return Readable.from(writeTar(layerEntries(upper, layers)), { objectMode: false });
  }

  async changes(): Promise<readonly FileChange[]> {
    return await layerChanges(join(this.#paths.dataDir, UPPER_DIR), this.#life.config.layers);
  }

  async writableBytes(): Promise<number> {
    return await treeBytes(join(this.#paths.dataDir, UPPER_DIR));
  }

  async #with<T>(work: (open: OpenRoot) => Promise<T>): Promise<T> {
    const open = await this.#open();
    try {
      return await work(open);
    } finally {
      open.close();
    }
  }

  async #open(): Promise<OpenRoot> {
    const life = this.#life;
    const what = `container ${life.shortId} to start or end`;
    const isBetween = (): boolean => life.phase === 'starting' || life.phase === 'ending';
    await life.until(() => !isBetween(), START_TIMEOUT_MS, what);
    if (life.phase === 'removed') {
      throw new SwarmError('not_found', `container ${life.shortId} was removed`);
    }
    const pid = life.pid;
    if (pid !== 0) {
      const running = this.#access.openRunning(pid, () => life.isPid(pid));
      const ids = userMapsOf(life.config);
      return ids === undefined ? running : { ...running, ids };
    }
    const lent = lentPlaces(life.config);
    return await this.#access.openStopped(buildHoldSpec(life.config, this.#paths, lent));
  }

  /**
   * Who the container's program is, by its own accounts; nobody else than the archive says: root.
   */
  async #owner(root: InsideRoot): Promise<{ uid: number; gid: number } | undefined> {
    const [user, group] = this.#life.config.user.split(':');
    if (user === '') return undefined;
    const accounts = (await readSmall(root, '/etc/passwd'))
      .split('\n')
      .map((line) => line.split(':'));
    const account = accounts.find(([name, , uid]) => name === user || uid === user);
    const groups = (await readSmall(root, '/etc/group')).split('\n').map((line) => line.split(':'));
    const named = groups.find(([name]) => name === group);
    const uid = Number(account?.[2] ?? user);
    const gid = Number(named?.[2] ?? group ?? account?.[3] ?? 0);
    if (Number.isInteger(uid) && Number.isInteger(gid)) return { uid, gid };
    throw new SwarmError('invalid', `unable to find user ${this.#life.config.user}`);
  }
}

async function* archive(
  open: OpenRoot,
  path: string,
  options: Parameters<typeof walkInside>[2],
): AsyncGenerator<Uint8Array> {
  try {
    const ids = open.ids === undefined ? {} : { ids: open.ids };
    yield* writeTar(walkInside(open.root, path, { ...options, ...ids }));
  } finally {
    open.close();
  }
}

function mountPoints(
  pid: number,
  isWanted: (type: string) => boolean = () => true,
): ReadonlySet<string> {
  const mounts = parseMountInfo(readFileSync(`/proc/${pid}/mountinfo`, 'utf8'));
  return new Set(mounts.filter(({ type }) => isWanted(type)).map(({ mountPoint }) => mountPoint));
}

/** No such file, or none that can be read as one: a link, a socket, a device without a driver. */
const NOT_A_FILE: ReadonlySet<string> = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO', 'ENODEV']);

/** The head of a regular file, '' when there is none. */
async function readSmall(root: InsideRoot, path: string): Promise<string> {
  const { directory, name } = root.parent(await root.follow(path, readlink));
  try {
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    const file = await open(directory.child(name), flags).catch((error: unknown) => {
      if (NOT_A_FILE.has((error as NodeJS.ErrnoException).code ?? '')) return undefined;
      throw error;
    });
    if (file === undefined) return '';
    try {
      if (!(await file.stat()).isFile()) return '';
      const { buffer, bytesRead } = await file.read(Buffer.alloc(ACCOUNTS_MAX_BYTES), 0);
      return buffer.toString('utf8', 0, bytesRead);
    } finally {
      await file.close();
    }
  } finally {
    directory.close();
  }
}
