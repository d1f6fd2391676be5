/**
 * What the writable layer says that the image does not: overlayfs's upper directory against the
 * layers below it (whiteouts are character devices 0:0, opaque directories carry an attribute).
 * The mount points every container gets are nobody's changes. Reads only, one directory at a time.
 */
import type { Stats } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { attributeLetter } from './attributes.ts';
import type { FileChange } from './types.ts';

const OPAQUE = 'trusted.overlay.opaque';
/** What is made to mount on, as Docker's init layer has it. */
const MOUNT_POINTS = new Set([
  '/dev',
  '/dev/console',
  '/dev/mqueue',
  '/dev/pts',
  '/dev/shm',
  '/etc/hostname',
  '/etc/hosts',
  '/etc/resolv.conf',
  '/proc',
  '/sys',
]);

/** It hides what the layers below have there. */
export function isOpaque(path: string): boolean {
  return attributeLetter(path, OPAQUE) === 'y';
}

function isWhiteout(stat: Stats): boolean {
  return stat.isCharacterDevice() && stat.rdev === 0;
}

async function lstatOrNone(path: string): Promise<Stats | undefined> {
  return await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
    throw error;
  });
}

/** `layers` lowest first. Parents come before what is in them, names in order. */
export async function layerChanges(
  upper: string,
  layers: readonly string[],
): Promise<readonly FileChange[]> {
  const changes: FileChange[] = [];
  await walk(upper, '', layers.toReversed(), changes);
  return changes;
}

/** `below`: the layers that show through here, topmost first. */
async function walk(
  upper: string,
  path: string,
  below: readonly string[],
  changes: FileChange[],
): Promise<void> {
  const names = (await readdir(join(upper, path)).catch(ignoreMissing)) ?? [];
  for (const name of names.sort()) {
    const inner = `${path}/${name}`;
    const stat = await lstatOrNone(join(upper, inner));
    if (stat === undefined) continue; // the container has just removed it
    const showing = await visible(below, inner);
    if (isWhiteout(stat)) {
      if (showing !== undefined) changes.push({ path: inner, kind: 'deleted' });
      continue;
    }
    if (showing === undefined && MOUNT_POINTS.has(inner) && (await isBare(upper, inner, stat))) {
      continue;
    }
    const at = changes.length;
    if (stat.isDirectory()) await walkDirectory(upper, inner, below, changes);
    const isListed = showing === undefined || !isSameDirectory(stat, showing);
    if (isListed || changes.length > at) {
      changes.splice(at, 0, { path: inner, kind: showing === undefined ? 'added' : 'modified' });
    }
  }
}

async function walkDirectory(
  upper: string,
  path: string,
  below: readonly string[],
  changes: FileChange[],
): Promise<void> {
  const showing = isOpaque(join(upper, path)) ? [] : await layersOf(below, path);
  if (showing.length === 0) {
    for (const name of await hiddenNames(below, path)) {
      if ((await lstatOrNone(join(upper, path, name))) !== undefined) continue;
      changes.push({ path: `${path}/${name}`, kind: 'deleted' });
    }
  }
  await walk(upper, path, showing, changes);
}

/** What an opaque directory hides. */
async function hiddenNames(below: readonly string[], path: string): Promise<readonly string[]> {
  const names = new Set<string>();
  for (const layer of await layersOf(below, path)) {
    for (const name of (await readdir(join(layer, path)).catch(ignoreMissing)) ?? []) {
      const stat = await lstatOrNone(join(layer, path, name));
      if (stat !== undefined && !isWhiteout(stat)) names.add(name);
    }
  }
  return [...names].sort();
}

/** The layers whose directory `path` shows through. */
async function layersOf(below: readonly string[], path: string): Promise<readonly string[]> {
  const showing: string[] = [];
  for (const layer of below) {
    const stat = await lstatOrNone(join(layer, path));
    if (stat === undefined) continue;
    if (!stat.isDirectory()) break;
    showing.push(layer);
    if (isOpaque(join(layer, path))) break;
  }
  return showing;
}

/** What the image shows at `path`, whose directory shows in the layers `below`. */
async function visible(below: readonly string[], path: string): Promise<Stats | undefined> {
  for (const layer of below) {
    const stat = await lstatOrNone(join(layer, path));
    if (stat !== undefined) return isWhiteout(stat) ? undefined : stat;
  }
  return undefined;
}

/** Copied up only because something in it was. */
function isSameDirectory(upper: Stats, lower: Stats): boolean {
  return (
    upper.isDirectory() &&
    lower.isDirectory() &&
    upper.mode === lower.mode &&
    upper.uid === lower.uid &&
    upper.gid === lower.gid
  );
}

/** An empty file, or a directory of nothing but mount points. */
async function isBare(upper: string, path: string, stat: Stats): Promise<boolean> {
  if (!stat.isDirectory()) return stat.size === 0;
  for (const name of (await readdir(join(upper, path)).catch(ignoreMissing)) ?? []) {
    if (!MOUNT_POINTS.has(`${path}/${name}`)) return false;
  }
  return true;
}

/**
 * Bytes of all files in a directory, each file once however many names it has. What lies deeper
 * than a path is long is left out: one container's files keep no other from being listed.
 */
export async function treeBytes(directory: string): Promise<number> {
  const seen = new Set<number>();
  const ahead = [directory];
  let bytes = 0;
  for (let at = ahead.pop(); at !== undefined; at = ahead.pop()) {
    for (const name of (await readdir(at).catch(ignoreDeep)) ?? []) {
      const path = join(at, name);
      const stat = await lstat(path).catch(ignoreDeep);
      if (stat === undefined) continue;
      if (stat.isDirectory()) ahead.push(path);
      else if (stat.nlink === 1 || !seen.has(stat.ino)) {
        if (stat.nlink > 1) seen.add(stat.ino);
        bytes += stat.isFile() ? stat.size : 0;
      }
    }
  }
  return bytes;
}

function ignoreDeep(error: NodeJS.ErrnoException): undefined {
  return error.code === 'ENAMETOOLONG' ? undefined : ignoreMissing(error);
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
  throw error;
}
