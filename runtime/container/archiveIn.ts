/**
 * A tar stream unpacked into a directory of a container, for `cp` into it. Names are resolved below
 * the container's root, so links in it lead where they lead for its own programs; what an archive
 * names outside of the directory is refused. Existing directories are kept and filled, everything
 * else is replaced. Asynchronous in every step but for the few that Node does not have.
 */
import { constants, type Stats } from 'node:fs';
import { chmod, lchown, link, lstat, lutimes, mkdir, open, symlink } from 'node:fs/promises';
import { posix } from 'node:path';
import { SwarmError } from '../../base/errors.ts';
import { readTar, type TarEntry, type TarHeader } from '../image/tar.ts';
import { makeNode } from '../sys/libc.ts';
import { writeAttributes } from './attributes.ts';
import { cleanPath, type Directory, type InsideRoot, removeTree } from './insideRoot.ts';
import type { IdMaps } from './specRecords.ts';
import { toHostId } from './userNamespace.ts';

const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
const O_PATH = 0o10000000;
const KIND_BITS = { 'character-device': 0o020000, 'block-device': 0o060000, fifo: 0o010000 };

interface Owner {
  readonly uid: number;
  readonly gid: number;
}

export interface UnpackOptions {
  /** Refuses a file in a directory's place and the other way round. */
  readonly noOverwriteDirNonDir: boolean;
  /** Everything belongs to it, whatever the archive says. */
  readonly owner?: Owner;
  /** The container's ids, where `root` shows them as the host's. */
  readonly ids?: IdMaps;
}

/** SwarmError not_found when `path` is no directory, forbidden on a read-only file system. */
export async function unpackInside(
  root: InsideRoot,
  path: string,
  tar: AsyncIterable<Uint8Array>,
  options: UnpackOptions,
): Promise<void> {
  const target = root.directory(path);
  target.close();
  const times = new Map<string, number>();
  try {
    for await (const entry of readTar(tar)) await place(root, path, entry, options, times);
    for (const [directory, mtimeMs] of [...times].reverse())
      await setTime(root, directory, mtimeMs);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EROFS') {
      throw new SwarmError('forbidden', 'container rootfs is marked read-only', { cause: error });
    }
    throw error;
  }
}

/** The entry's place as a path in the container. */
function placeOf(base: string, name: string): string {
  const inner = posix.normalize(name);
  if (inner === '..' || inner.startsWith('../')) {
    throw new SwarmError('invalid', `archive entry "${name}" lies outside the directory: refused`);
  }
  return posix.join(cleanPath(base), inner);
}

async function place(
  root: InsideRoot,
  base: string,
  entry: TarEntry,
  options: UnpackOptions,
  times: Map<string, number>,
): Promise<void> {
  const { header } = entry;
  const path = cleanPath(placeOf(base, header.name));
  if (path === cleanPath(base)) return; // the directory itself: it stays as it is
  const directory = await root.make(posix.dirname(path));
  const name = posix.basename(path);
  try {
    const there = await lstat(directory.child(name)).catch(ignoreMissing);
    const keeps = there?.isDirectory() === true && header.type === 'directory';
    if (there !== undefined && !keeps) await clear(directory, name, there, header, options);
    const owner = ownerHere(options.owner ?? header, options.ids);
    await make(root, base, directory, name, entry, owner, keeps);
    const isDone = header.type === 'link' || header.type === 'file';
    if (!isDone) await adorn(directory, name, header, owner);
    if (header.type === 'directory') times.set(path, header.mtimeMs);
  } finally {
    directory.close();
  }
}

function ownerHere({ uid, gid }: Owner, ids: IdMaps | undefined): Owner {
  if (ids === undefined) return { uid, gid };
  const here = { uid: toHostId(ids.uids, uid), gid: toHostId(ids.gids, gid) };
  if (here.uid !== undefined && here.gid !== undefined) return here as Owner;
  throw new SwarmError('invalid', `the container has no user ${uid} or no group ${gid}`);
}

async function clear(
  directory: Directory,
  name: string,
  there: Stats,
  header: TarHeader,
  options: UnpackOptions,
): Promise<void> {
  const isMixed = there.isDirectory() !== (header.type === 'directory');
  if (options.noOverwriteDirNonDir && isMixed) {
    throw new SwarmError(
      'invalid',
      there.isDirectory()
        ? `cannot overwrite directory "${header.name}" with non-directory`
        : `cannot overwrite non-directory "${header.name}" with directory`,
    );
  }
  await removeTree(directory, name);
}

async function make(
  root: InsideRoot,
  base: string,
  directory: Directory,
  name: string,
  entry: TarEntry,
  owner: Owner,
  keeps: boolean,
): Promise<void> {
  const { header } = entry;
  const path = directory.child(name);
  switch (header.type) {
    case 'directory':
      if (!keeps) await mkdir(path, 0o755);
      return;
    case 'file': {
      const file = await open(path, NEW_FILE, 0o600);
      try {
        for await (const chunk of entry.body) await file.writeFile(chunk);
        await file.chown(owner.uid, owner.gid);
        await file.chmod(header.mode);
        writeAttributes(path, header.xattrs);
        await file.utimes(header.mtimeMs / 1000, header.mtimeMs / 1000);
      } finally {
        await file.close();
      }
      return;
    }
    case 'symlink':
      await symlink(header.linkName, path);
      return;
    case 'link': {
      const from = root.parent(placeOf(base, header.linkName));
      try {
        await link(from.directory.child(from.name), path);
      } finally {
        from.directory.close();
      }
      return;
    }
    default: {
      const kind = KIND_BITS[header.type];
      makeNode(path, kind | header.mode, header.deviceMajor, header.deviceMinor);
    }
  }
}

/** By descriptor, where a name could lead elsewhere meanwhile. */
async function adorn(
  directory: Directory,
  name: string,
  header: TarHeader,
  owner: Owner,
): Promise<void> {
  const path = directory.child(name);
  await lchown(path, owner.uid, owner.gid);
  if (header.type !== 'symlink') {
    const file = await open(path, O_PATH | constants.O_NOFOLLOW);
    try {
      await chmod(`/proc/self/fd/${file.fd}`, header.mode);
    } finally {
      await file.close();
    }
  }
  if (header.type === 'directory') writeAttributes(path, header.xattrs);
  else {
    await lutimes(path, header.mtimeMs / 1000, header.mtimeMs / 1000);
  }
}

/** Writing into a directory has changed its time. */
async function setTime(root: InsideRoot, path: string, mtimeMs: number): Promise<void> {
  const { directory, name } = root.parent(path);
  try {
    await lutimes(directory.child(name), mtimeMs / 1000, mtimeMs / 1000);
  } catch (error) {
    ignoreMissing(error as NodeJS.ErrnoException); // a later entry took its place
  } finally {
    directory.close();
  }
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT') return undefined;
  throw error;
}
