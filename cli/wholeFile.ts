/**
 * A file that is there whole or not at all: written where nobody else can read or put anything,
 * checked there, then named. Used for what holds secrets; it never follows what lay in its place.
 */
import { createWriteStream, statSync } from 'node:fs';
import { mkdtemp, open, rename, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { SwarmError } from '../base/errors.ts';

/** SwarmError invalid where a file cannot take that name; nothing is changed. */
export function checkFileName(file: string): void {
  const directory = dirname(resolve(file));
  if (statSync(directory, { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw new SwarmError('invalid', `${file}: there is no directory ${directory}`);
  }
  const found = statSync(file, { throwIfNoEntry: false });
  if (found !== undefined && !found.isFile()) {
    const what = found.isDirectory() ? 'a directory' : 'not a regular file';
    throw new SwarmError('invalid', `${file} is ${what}: name a file to write`);
  }
}

/** `check` reads what was written, by the name it has until then. */
export async function writeWhole<T>(
  file: string,
  body: Readable,
  check: (path: string) => Promise<T>,
): Promise<T> {
  const target = resolve(file);
  // A directory of its own, closed to others: no name in it can have been taken beforehand.
  const directory = await mkdtemp(`${target}.part-`);
  try {
    const aside = join(directory, 'file');
    await pipeline(body, createWriteStream(aside, { mode: 0o600, flags: 'wx' }));
    await synced(aside);
    const checked = await check(aside);
    await rename(aside, target);
    await synced(dirname(target));
    return checked;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function synced(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
