/**
 * Files below a container's root, by names the container has a say in. Every name is resolved by
 * the kernel with that root as its "/" (openat2, RESOLVE_IN_ROOT), and what is found is used by
 * descriptor: a link swapped in meanwhile leads nowhere else. A path given to Node is always
 * /proc/self/fd/<directory>/<one name>, whose last name is never followed.
 */
import { constants, readlinkSync, type Stats } from 'node:fs';
import { lstat, mkdir, readdir, rmdir, unlink } from 'node:fs/promises';
import { dirname, posix } from 'node:path';
import { hasCode, SwarmError } from '../../base/errors.ts';
import {
  check,
  close,
  define,
  errno,
  errnoName,
  errnoText,
  O_CLOEXEC,
  open as openFd,
} from '../sys/libc.ts';

const ENOENT = 2;
const SYS_OPENAT2 = 437;
const RESOLVE_NO_MAGICLINKS = 0x02;
const RESOLVE_IN_ROOT = 0x10;
const HOW_BYTES = 24;
const O_PATH = 0o10000000;
const DIRECTORY = O_PATH | constants.O_DIRECTORY | O_CLOEXEC;
const NEW_DIRECTORY_MODE = 0o755;
/** The kernel gives EAGAIN when the tree was moved under it. */
const TRIES = 16;
/** As the kernel's MAXSYMLINKS. */
const LINKS_MAX = 40;

const openat2 = define<
  (number: number, directory: number, path: string, how: Uint8Array, size: number) => number
>('', 'long syscall(long number, int directory, const char *path, void *how, size_t size)');

/** A directory that is open by descriptor. */
export class Directory {
  readonly fd: number;

  constructor(fd: number) {
    this.fd = fd;
  }

  /** `name` is one name, never a path. */
  child(name: string): string {
    return `/proc/self/fd/${this.fd}/${name}`;
  }

  get path(): string {
    return `/proc/self/fd/${this.fd}`;
  }

  /** Opens the directory `name` in this one, unless it is a link. */
  enter(name: string): Directory {
    const fd = open(this.fd, name, DIRECTORY | constants.O_NOFOLLOW);
    if (fd < 0) throw failure(name, errno());
    return new Directory(fd);
  }

  close(): void {
    close(this.fd);
  }
}

function open(directory: number, path: string, flags: number): number {
  const how = Buffer.alloc(HOW_BYTES);
  how.writeBigUInt64LE(BigInt(flags), 0);
  how.writeBigUInt64LE(BigInt(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS), 16);
  for (let tries = 0; ; tries += 1) {
    const fd = openat2(SYS_OPENAT2, directory, path, how, HOW_BYTES);
    if (fd >= 0 || tries >= TRIES || errnoName(errno()) !== 'EAGAIN') return Number(fd);
  }
}

function failure(path: string, code: number): SwarmError {
  const name = errnoName(code);
  const isAbsent = name === 'ENOENT' || name === 'ENOTDIR';
  return new SwarmError(
    isAbsent ? 'not_found' : 'invalid',
    isAbsent
      ? `Could not find the file ${path} in container`
      : `cannot open ${path} in the container: ${errnoText(code)}`,
    { detail: { errno: name } },
  );
}

/** Absolute and clean; what is above the root is the root. */
export function cleanPath(path: string): string {
  return posix.resolve('/', path);
}

/** A container's root and the ways into it. Close it when done. */
export class InsideRoot extends Directory {
  /** `path`: the root as this process sees it, e.g. /proc/<pid>/root. */
  static at(path: string): InsideRoot {
    return new InsideRoot(check(openFd(path, DIRECTORY, 0), `cannot open ${path}`));
  }

  /** The host's path, without any link on it, of what `path` leads to. SwarmError not_found. */
  place(path: string): string {
    const fd = open(this.fd, cleanPath(path), O_PATH | O_CLOEXEC);
    if (fd < 0) throw failure(path, errno());
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } finally {
      close(fd);
    }
  }

  /** The existing directory `path`. SwarmError not_found, also for what is no directory. */
  directory(path: string): Directory {
    const fd = open(this.fd, cleanPath(path), DIRECTORY);
    if (fd < 0) throw failure(path, errno());
    return new Directory(fd);
  }

  /** The same; what is missing of it is made. */
  async make(path: string): Promise<Directory> {
    const clean = cleanPath(path);
    const fd = open(this.fd, clean, DIRECTORY);
    if (fd >= 0) return new Directory(fd);
    if (errnoName(errno()) !== 'ENOENT' || clean === '/') throw failure(path, errno());
    const parent = await this.make(dirname(clean));
    try {
      await mkdir(parent.child(posix.basename(clean)), NEW_DIRECTORY_MODE).catch(
        (error: NodeJS.ErrnoException) => {
          if (error.code !== 'EEXIST') throw error; // a dangling link: told by directory()
        },
      );
    } finally {
      parent.close();
    }
    return this.directory(clean);
  }

  /** The directory `path` is in, and its last name; '.' for the root itself. */
  parent(path: string): { readonly directory: Directory; readonly name: string } {
    const clean = cleanPath(path);
    const name = clean === '/' ? '.' : posix.basename(clean);
    try {
      return { directory: this.directory(dirname(clean)), name };
    } catch (error) {
      throw error instanceof SwarmError && error.code === 'not_found'
        ? failure(path, ENOENT)
        : error;
    }
  }

  #parentOrNone(path: string): ReturnType<InsideRoot['parent']> | undefined {
    try {
      return this.parent(path);
    } catch (error) {
      if (hasCode(error, 'not_found')) return undefined;
      throw error;
    }
  }

  /** Of the file itself, not of what a link leads to. SwarmError not_found. */
  async lstat(path: string): Promise<Stats> {
    const { directory, name } = this.parent(path);
    try {
      return await lstat(directory.child(name));
    } catch (error) {
      throw (error as NodeJS.ErrnoException).code === 'ENOENT' ? failure(path, ENOENT) : error;
    } finally {
      directory.close();
    }
  }

  /** Where the links that begin at `path` end, as an absolute path in the container. */
  async follow(path: string, read: (path: string) => Promise<string>): Promise<string> {
    let at = cleanPath(path);
    for (let links = 0; links < LINKS_MAX; links += 1) {
      const place = this.#parentOrNone(at);
      if (place === undefined) return at; // it leads to nothing
      const { directory, name } = place;
      try {
        if (!(await lstat(directory.child(name))).isSymbolicLink()) return at;
        at = posix.resolve(dirname(at), await read(directory.child(name)));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return at; // it leads to nothing
        throw error;
      } finally {
        directory.close();
      }
    }
    return at;
  }
}

/** Removes `name` and all below it; nothing there is fine. */
export async function removeTree(directory: Directory, name: string): Promise<void> {
  const path = directory.child(name);
  let isDirectory: boolean;
  try {
    isDirectory = (await lstat(path)).isDirectory();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  if (!isDirectory) {
    await unlink(path);
    return;
  }
  const inner = directory.enter(name);
  try {
    for (const entry of await readdir(inner.path)) await removeTree(inner, entry);
  } finally {
    inner.close();
  }
  await rmdir(path);
}
