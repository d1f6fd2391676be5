/**
 * Removes a directory whose contents a container wrote: with names that are no text, and deeper
 * than any path is long, which renaming within it makes. Follows no link. Whoever calls it knows
 * that nobody uses the directory any more.
 */
import { mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';

/** Something may still be writing into it, for milliseconds. */
const RETRIES = 10;
const RETRY_MS = 5;
/** A directory's path may be so long: whatever is in it can be named then, PATH_MAX being 4096. */
const PATH_BYTES_MAX = 2048;
const SLASH = Buffer.from('/');

export async function removeTree(dir: string): Promise<void> {
  const remove = (): Promise<void> =>
    rm(dir, { recursive: true, force: true, maxRetries: RETRIES, retryDelay: RETRY_MS });
  try {
    await remove();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENAMETOOLONG') throw error;
    await flatten(dir);
    await remove();
  }
}

/**
 * Moves directories up until every path in `dir` is short. What failed may still be under way and
 * remove some meanwhile.
 */
async function flatten(dir: string): Promise<void> {
  const waiting = await directoriesIn(Buffer.from(dir));
  const shelf = await mkdtemp(join(dir, 'flat-'));
  let count = 0;
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    let here = next;
    if (here.length > PATH_BYTES_MAX) {
      here = Buffer.from(join(shelf, String(count)));
      count += 1;
      if ((await unlessGone(rename(next, here).then(() => true))) === undefined) continue;
    }
    for (const below of await directoriesIn(here)) waiting.push(below);
  }
}

async function directoriesIn(path: Buffer): Promise<Buffer[]> {
  const listed = readdir(path, { withFileTypes: true, encoding: 'buffer' });
  const entries = (await unlessGone(listed)) ?? [];
  return entries
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => Buffer.concat([path, SLASH, name]));
}

async function unlessGone<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return undefined;
  }
}
