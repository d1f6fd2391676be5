/**
 * A container's directories and the small files in them: made, read and removed. What a file means
 * for the container's life is decided in container.ts.
 */
import {
  type Dirent,
  existsSync,
  lstatSync,
  mkdirSync,
  opendirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode, messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { rmdir, unlink } from '../sys/libc.ts';
import { removeTree } from '../sys/removeTree.ts';
import { decodeExitRecord, encodeExitRecord, lostRecord } from './exitRecord.ts';
import { type ContainerPaths, LOG_DIR, UPPER_DIR, WORK_DIR } from './paths.ts';
import type { ContainerConfig, ExitRecord } from './types.ts';

const EXIT_FILE = 'exit';
const PID_FILE = 'pid';
/** What the run was given besides the configuration's variables. */
const RUN_ENV_FILE = 'env';
export const CONFIG_FILE = 'config.json';
/** Takes well under a millisecond, and a container that wrote nothing has less. */
const AT_ONCE_MAX = 32;
/** Freeing what a file has on the disk takes the kernel up to half a second a gigabyte. */
const AT_ONCE_BYTES = 1024 * 1024;
/** What stat counts in, whatever the file system's own blocks are. */
const STAT_BLOCK_BYTES = 512;
const NANOSECONDS_PER_MS = 1_000_000n;

/** Renamed into place: it is there whole or not at all. */
export function writeConfig(dataDir: string, config: ContainerConfig): void {
  const file = join(dataDir, CONFIG_FILE);
  writeFileSync(`${file}.tmp`, JSON.stringify(config), { mode: 0o600 });
  renameSync(`${file}.tmp`, file);
}

/**
 * When it was made. A change of its configuration gives that file a new time, a copy of the data
 * root another birth: the earlier is right.
 */
export function madeMs(dataDir: string): number {
  const { mtimeMs } = statSync(join(dataDir, CONFIG_FILE));
  const { birthtimeMs } = statSync(dataDir);
  return Math.floor(birthtimeMs > 0 ? Math.min(mtimeMs, birthtimeMs) : mtimeMs);
}

/** Of what ran when its host went down: mostly, it was started as soon as it was made. */
export function cutOffRecord(dataDir: string, nowMs: number): ExitRecord {
  return lostRecord('host rebooted', madeMs(dataDir), nowMs);
}

/** For programs that are run beside, also by a later daemon; goes with the run. */
export function keepRunEnv(execDir: string, env: readonly string[]): void {
  if (env.length === 0) return;
  writeFileSync(join(execDir, RUN_ENV_FILE), JSON.stringify(env), { mode: 0o600 });
}

export function runEnv(execDir: string): readonly string[] {
  const file = join(execDir, RUN_ENV_FILE);
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as string[]) : [];
}

/** A copy that outlives a reboot, which empties the exec root. */
export function keepRecord(dataDir: string, record: ExitRecord): void {
  const file = join(dataDir, EXIT_FILE);
  writeFileSync(`${file}.tmp`, encodeExitRecord(record));
  renameSync(`${file}.tmp`, file);
}

/** The record of its last end; the kept one first. */
export async function findRecord(paths: ContainerPaths): Promise<ExitRecord | undefined> {
  return (await readRecord(paths.dataDir)) ?? (await readRecord(paths.execDir));
}

/** When the program was executed, as the shim noted for the case that it is killed; 0 unknown. */
export function recordedStartMs(execDir: string): number {
  try {
    const text = readFileSync(join(execDir, PID_FILE), 'utf8');
    return Number(BigInt(text.trim().split(' ')[1]) / NANOSECONDS_PER_MS);
  } catch {
    return 0; // the shim died before its program was executed
  }
}

/** Nothing of an earlier run is there any more; the run-time directory is. */
export function clearRun(paths: ContainerPaths): void {
  rmSync(paths.execDir, { recursive: true, force: true });
  mkdirSync(paths.execDir, { recursive: true, mode: 0o700 });
  rmSync(join(paths.dataDir, EXIT_FILE), { force: true });
}

/** The record in `dir`; undefined when there is none, or none that is whole. */
export async function readRecord(dir: string): Promise<ExitRecord | undefined> {
  try {
    return decodeExitRecord(await readFile(join(dir, EXIT_FILE)));
  } catch (error) {
    // A power failure can leave an empty file; what is known without it is said then.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || hasCode(error, 'corrupt')) {
      return undefined;
    }
    throw error;
  }
}

/** 'absent' after a boot; 'created' when no shim was ever spawned. */
export async function inspectExecDir(execDir: string): Promise<'absent' | 'created' | 'started'> {
  try {
    const names = await readdir(execDir);
    return names.includes(SOCKET_FILE) ? 'started' : 'created';
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 'absent';
    throw error;
  }
}

/** Whether a shim ever opened its log; only a container without one leaves no trace in it. */
export async function everRan(dataDir: string): Promise<boolean> {
  return (await readdir(join(dataDir, LOG_DIR))).length > 0;
}

const SOCKET_FILE = 'control.sock';
/** overlayfs makes it in what it is given to work in. */
const WORK_IN_WORK = join(WORK_DIR, 'work');
const FIRST_LOG = join(LOG_DIR, '00000001.log');

/** A container's run-time directory, as `removeWhole` but for what is usual in it. */
export async function removeRun(execDir: string): Promise<void> {
  for (const name of [SOCKET_FILE, EXIT_FILE, PID_FILE]) unlink(`${execDir}/${name}`);
  if (rmdir(execDir) !== 0) await removeWhole(execDir);
}

/**
 * Its directory of data likewise: what ran once, changed no file and wrote little has a known few.
 */
export async function removeData(dataDir: string): Promise<void> {
  const log = `${dataDir}/${FIRST_LOG}`;
  const isUsual = rmdir(`${dataDir}/${UPPER_DIR}`) === 0 && bytesOf(log) <= AT_ONCE_BYTES;
  if (isUsual) {
    unlink(log);
    for (const name of [WORK_IN_WORK, WORK_DIR, LOG_DIR]) rmdir(`${dataDir}/${name}`);
    for (const name of [EXIT_FILE, CONFIG_FILE]) unlink(`${dataDir}/${name}`);
  }
  if (!isUsual || rmdir(dataDir) !== 0) await removeWhole(dataDir);
}

/** What removing it frees. Some have more than they say. */
function bytesOf(file: string): number {
  const status = lstatSync(file, { throwIfNoEntry: false });
  return status === undefined ? 0 : Math.max(status.size, status.blocks * STAT_BLOCK_BYTES);
}

/**
 * Removes a directory with all that is in it, though a shim that is just ending may still write
 * into it: at once while that is little, else without blocking.
 */
export async function removeWhole(dir: string): Promise<void> {
  if (removeSmall(dir, { left: AT_ONCE_MAX, leftBytes: AT_ONCE_BYTES })) return;
  await removeTree(dir);
}

/** The same of a container that is gone by now: where it fails, the next daemon tries again. */
export async function removeLeft(dir: string, log: Log, remove = removeWhole): Promise<void> {
  try {
    await remove(dir);
  } catch (error) {
    log.error('cannot remove what is left of a container', { dir, error: messageOf(error) });
  }
}

/** False when something is left: more than may be removed at once, or what failed. */
function removeSmall(dir: string, budget: { left: number; leftBytes: number }): boolean {
  try {
    const entries = readFew(dir, budget.left);
    if (entries === undefined) return false;
    budget.left -= entries.length;
    for (const entry of entries) {
      const path = join(dir, entry.name);
      if (entry.isDirectory()) {
        if (!removeSmall(path, budget)) return false;
        continue;
      }
      budget.leftBytes -= bytesOf(path);
      if (budget.leftBytes < 0) return false;
      unlinkSync(path);
    }
    rmdirSync(dir);
    return true;
  } catch {
    return false; // is tried again, and says then why
  }
}

/** Undefined when it has more than `most`, of which no more are read: it may have a million. */
function readFew(dir: string, most: number): Dirent[] | undefined {
  const entries: Dirent[] = [];
  const handle = opendirSync(dir, { bufferSize: AT_ONCE_MAX });
  try {
    for (let entry = handle.readSync(); entry !== null; entry = handle.readSync()) {
      if (entries.length === most) return undefined;
      entries.push(entry);
    }
    return entries;
  } finally {
    handle.closeSync();
  }
}

/** Makes the directories of a new container. */
export function makeDirectories(paths: ContainerPaths, names: readonly string[]): void {
  mkdirSync(paths.dataDir, { mode: 0o710 });
  for (const name of names) mkdirSync(join(paths.dataDir, name), { mode: 0o755 });
  // Its parent too: somebody may have tidied up the exec root meanwhile.
  mkdirSync(paths.execDir, { recursive: true, mode: 0o700 });
}
