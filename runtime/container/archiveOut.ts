/**
 * Files of a container as a tar stream, for `cp` out of it, `export` and `commit`. Walks one
 * directory at a time, every step asynchronous, so that nothing else waits; memory is bounded by
 * the depth of the tree. Sockets are left out.
 */
import { constants, type Stats } from 'node:fs';
import { lstat, open, readdir, readlink } from 'node:fs/promises';
import { posix } from 'node:path';
import { SwarmError } from '../../base/errors.ts';
import type { TarInput } from '../image/tar.ts';
import { splitDevice } from '../sys/deviceRules.ts';
import { readAttributes } from './attributes.ts';
import { cleanPath, type Directory, type InsideRoot } from './insideRoot.ts';
import type { IdMap, IdMaps } from './specRecords.ts';
import type { FileStat } from './types.ts';
import { toContainerId } from './userNamespace.ts';

/** What Node makes of bytes that are no UTF-8. */
const NO_UTF8 = '\ufffd';
const READ_BYTES = 256 * 1024;
/** Files with several names that are remembered; beyond it, each name gets a copy. */
const LINKS_MAX = 1_000_000;
/** The kernel's id for what a user namespace does not map. */
const NOBODY = 65_534;

/** Of the file itself; a link says where it leads in the end. */
export async function statInside(root: InsideRoot, path: string): Promise<FileStat> {
  // 'dir/' and 'dir/.' mean what a link leads to, as in Docker.
  const isInside = /(^|\/)\.?$/.test(path) && cleanPath(path) !== '/';
  const at = isInside ? await root.follow(path, readlink) : cleanPath(path);
  const stat = await root.lstat(at);
  return {
    name: /(^|\/)\.$/.test(path) ? '.' : posix.basename(cleanPath(path)) || '/',
    sizeBytes: stat.size,
    mode: stat.mode,
    modifiedAtMs: stat.mtimeMs,
    linkTarget: stat.isSymbolicLink() ? await root.follow(path, readlink) : '',
  };
}

export interface WalkOptions {
  /** Names in the archive begin with it; '' for the contents alone. */
  readonly prefix: string;
  /** Absolute paths in the container that are given empty: other file systems. */
  readonly covered?: ReadonlySet<string>;
  /** The container's ids, where the root shows them as the host's. */
  readonly ids?: IdMaps;
}

/** The file or directory `path` and all below it. */
export async function* walkInside(
  root: InsideRoot,
  path: string,
  options: WalkOptions,
): AsyncGenerator<TarInput> {
  const isInside = /(^|\/)\.?$/.test(path);
  const at = isInside ? await root.follow(path, readlink) : cleanPath(path);
  const { directory, name } = root.parent(at);
  try {
    const walk = new Walk(options.covered, options.ids);
    yield* walk.entry(directory, name, at, options.prefix);
  } finally {
    directory.close();
  }
}

/** What is not the container's is nobody's, as its own programs see it. */
function idInside(id: number, ranges: readonly IdMap[] | undefined): number {
  return ranges === undefined ? id : (toContainerId(ranges, id) ?? NOBODY);
}

/** Files that have several names are told once, and by their first name after that. */
export class Walk {
  readonly #covered: ReadonlySet<string>;
  readonly #ids: IdMaps | undefined;
  readonly #links = new Map<string, string>();

  constructor(covered: ReadonlySet<string> = new Set(), ids?: IdMaps) {
    this.#covered = covered;
    this.#ids = ids;
  }

  async *entry(
    parent: Directory,
    name: string,
    path: string,
    archived: string,
  ): AsyncGenerator<TarInput> {
    let isDirectory = archived === '';
    if (!isDirectory) {
      for await (const input of this.alone(parent, name, path, archived)) {
        isDirectory ||= input.type === 'directory';
        yield input;
      }
    }
    if (isDirectory && !this.#isCovered(path)) yield* this.#contents(parent, name, path, archived);
  }

  #isCovered(path: string): boolean {
    return path !== '/' && this.#covered.has(path);
  }

  /** Without what is in it. */
  async *alone(
    parent: Directory,
    name: string,
    path: string,
    archived: string,
  ): AsyncGenerator<TarInput> {
    const stat = await lstatOrNone(parent.child(name));
    if (stat === undefined) {
      if (!name.includes(NO_UTF8)) return; // removed while we walk
      throw new SwarmError('unsupported', `${path} has a name that is not UTF-8: rename it first`);
    }
    const common = {
      mode: stat.mode & 0o7777,
      uid: idInside(stat.uid, this.#ids?.uids),
      gid: idInside(stat.gid, this.#ids?.gids),
      mtimeMs: stat.mtimeMs,
      xattrs: readAttributes(parent.child(name)),
    };
    if (stat.isDirectory()) {
      yield { ...common, name: `${archived}/`, type: 'directory' };
    } else if (stat.isFile()) {
      if (this.#isCovered(path)) yield { ...common, name: archived };
      else yield* this.#file(parent, name, stat, { ...common, name: archived });
    } else if (stat.isSymbolicLink()) {
      const linkName = await readlink(parent.child(name));
      yield { ...common, name: archived, type: 'symlink', linkName };
    } else if (stat.isFIFO()) {
      yield { ...common, name: archived, type: 'fifo' };
    } else if (stat.isCharacterDevice() || stat.isBlockDevice()) {
      const { major, minor } = splitDevice(stat.rdev);
      yield {
        ...common,
        name: archived,
        type: stat.isBlockDevice() ? 'block-device' : 'character-device',
        deviceMajor: major,
        deviceMinor: minor,
      };
    }
  }

  async *#contents(
    parent: Directory,
    name: string,
    path: string,
    archived: string,
  ): AsyncGenerator<TarInput> {
    const directory = parent.enter(name);
    try {
      for (const child of (await readdir(directory.path)).sort()) {
        const inner = archived === '' ? child : `${archived}/${child}`;
        yield* this.entry(directory, child, posix.join(path, child), inner);
      }
    } finally {
      directory.close();
    }
  }

  async *#file(
    parent: Directory,
    name: string,
    stat: Stats,
    header: TarInput,
  ): AsyncGenerator<TarInput> {
    if (stat.nlink > 1) {
      const key = `${stat.dev}:${stat.ino}`;
      const first = this.#links.get(key);
      if (first !== undefined) {
        yield { ...header, type: 'link', linkName: first };
        return;
      }
      if (this.#links.size < LINKS_MAX) this.#links.set(key, header.name);
    }
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    const file = await open(parent.child(name), flags).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ELOOP') return undefined; // replaced meanwhile
      throw error;
    });
    if (file === undefined) return;
    try {
      const now = await file.stat();
      if (!now.isFile()) return;
      yield { ...header, body: { sizeBytes: now.size, chunks: readExactly(file, now.size) } };
    } finally {
      await file.close();
    }
  }
}

/** A file that shrinks meanwhile is filled up with zeros: the header has promised its size. */
async function* readExactly(
  file: Awaited<ReturnType<typeof open>>,
  sizeBytes: number,
): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < sizeBytes; ) {
    const buffer = Buffer.alloc(Math.min(READ_BYTES, sizeBytes - at));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
    const part = bytesRead === 0 ? buffer : buffer.subarray(0, bytesRead);
    at += part.length;
    yield part;
  }
}

async function lstatOrNone(path: string): Promise<Stats | undefined> {
  return await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
}
