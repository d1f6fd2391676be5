/**
 * The shim's executable as it is started: a sealed copy in memory, so that no container can change
 * what the next one is started with.
 */
import { writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { SwarmError } from '../../base/errors.ts';
import { createMemfd, sealMemfd } from '../sys/libc.ts';

const DEFAULT_SHIM = fileURLToPath(new URL('../shim/tsswarm-shim', import.meta.url));

/** Its descriptor. `path`: by default the one that was built with this file. */
export async function loadShim(path: string = DEFAULT_SHIM): Promise<number> {
  const bytes = await readFile(path).catch((error: unknown) => {
    throw new SwarmError('internal', `cannot read ${path}: build it with "npm run build"`, {
      cause: error,
    });
  });
  const fd = createMemfd('tsswarm-shim', true);
  writeFileSync(fd, bytes);
  sealMemfd(fd);
  return fd;
}
