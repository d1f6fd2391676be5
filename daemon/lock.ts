/**
 * One daemon per data root: an advisory lock (flock) on a file in it, held for as long as the
 * process lives and let go by the kernel however it ends.
 */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectories } from '../base/directories.ts';
import { SwarmError } from '../base/errors.ts';
import { define } from '../runtime/sys/libc.ts';

const LOCK_EX = 2;
const LOCK_NB = 4;

const flock = define<(fd: number, operation: number) => number>(
  '',
  'int flock(int fd, int operation)',
);

/**
 * Takes the lock of `dataRoot`, making the directory; SwarmError conflict when another holds it.
 */
export function lockDataRoot(dataRoot: string): void {
  makeDirectories(dataRoot, 0o711);
  const path = join(dataRoot, 'daemon.lock');
  const fd = openSync(path, 'a+', 0o600);
  if (flock(fd, LOCK_EX | LOCK_NB) !== 0) {
    const holder = readFileSync(path, 'utf8').trim().split('\n').at(-1);
    closeSync(fd);
    throw new SwarmError(
      'conflict',
      `another daemon (pid ${holder}) uses ${dataRoot}: ` +
        'stop it, or give this one its own --data-root',
    );
  }
  writeSync(fd, `${process.pid}\n`);
  // Never closed: the lock is the open file.
}
