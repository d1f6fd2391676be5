/**
 * Filling an empty volume with what an image has at a path: owners, modes, times, links and
 * attributes kept. The image's layers are joined by a read-only overlay for the moment of copying;
 * links on the way to the path are followed inside the image only.
 */
import { execFile } from 'node:child_process';
import {
  closeSync,
  constants,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readlinkSync,
  rmSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { check, MS_RDONLY, mountRaw } from '../sys/libc.ts';
import { unmount } from '../sys/mount.ts';
import type { CopyUp } from './types.ts';

const run = promisify(execFile);
const LINKS_MAX = 40;
const COPY_TIMEOUT_MS = 600_000;

/** False, having done nothing, when the image has no directory there. `scratch` is ours. */
export async function copyUp(from: CopyUp, target: string, scratch: string): Promise<boolean> {
  if (!from.layers.some((layer) => mayHave(layer, from.path))) return false;
  const root = mkdtempSync(join(scratch, 'image-'));
  const empty = join(root, 'empty');
  const merged = join(root, 'merged');
  mkdirSync(empty);
  mkdirSync(merged);
  const opened: number[] = [];
  try {
    // By descriptor: mount(2) takes one page of options, and images have many layers.
    const byDescriptor = (directory: string): string => {
      const fd = openSync(directory, constants.O_DIRECTORY | constants.O_RDONLY);
      opened.push(fd);
      return `/proc/self/fd/${fd}`;
    };
    // An overlay that is only read needs two layers at least.
    const lower = [...from.layers.toReversed(), empty].map(byDescriptor).join(':');
    const result = mountRaw('overlay', merged, 'overlay', MS_RDONLY, `lowerdir=${lower}`);
    check(result, `cannot look into the image for ${from.path}`);
    const source = resolveInside(merged, from.path);
    if (source === undefined || !isDirectory(source)) return false;
    if (readdirSync(target).length > 0) return false;
    await run('cp', ['-a', `${source}/.`, target], { timeout: COPY_TIMEOUT_MS });
    return true;
  } finally {
    unmount(merged);
    for (const fd of opened) closeSync(fd);
    rmSync(root, { recursive: true, force: true });
  }
}

/** Whether the layer has the path, or a link on the way to it. */
function mayHave(layer: string, path: string): boolean {
  for (let at = path; at !== '/' && at !== '.'; at = dirname(at)) {
    const stat = lstatSync(join(layer, at), { throwIfNoEntry: false });
    if (stat === undefined) continue;
    return at === path || stat.isSymbolicLink();
  }
  return false;
}

function isDirectory(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

/** The host path of `path` within `root`, links followed inside it; undefined when not there. */
export function resolveInside(root: string, path: string): string | undefined {
  let rest = path.split('/').filter((part) => part !== '' && part !== '.');
  let at: string[] = [];
  for (let links = 0; rest.length > 0; ) {
    const [part, ...more] = rest;
    rest = more;
    if (part === '..') {
      at = at.slice(0, -1);
      continue;
    }
    const here = join(root, ...at, part);
    const stat = lstatSync(here, { throwIfNoEntry: false });
    if (stat === undefined) return undefined;
    if (!stat.isSymbolicLink()) {
      at.push(part);
      continue;
    }
    links += 1;
    if (links > LINKS_MAX) return undefined;
    const target = readlinkSync(here);
    if (target.startsWith('/')) at = [];
    rest = [...target.split('/').filter((each) => each !== '' && each !== '.'), ...rest];
  }
  const found = join(root, ...at);
  return existsSync(found) ? found : undefined;
}
