/**
 * Making directories, one component at a time: Node's recursive mkdir never returns where the
 * kernel answers ENOENT for a name that cannot be made (below /proc, for one).
 */
import { existsSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { messageOf, SwarmError } from './errors.ts';

/** Makes `path` (absolute) and what is missing above it; SwarmError invalid naming it otherwise. */
export function makeDirectories(path: string, mode: number): void {
  if (existsSync(path)) return;
  const parent = dirname(path);
  if (parent !== path) makeDirectories(parent, mode);
  try {
    mkdirSync(path, { mode });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return;
    throw new SwarmError('invalid', `cannot make the directory ${path}: ${messageOf(error)}`);
  }
}
