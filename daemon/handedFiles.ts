/**
 * Files that every container is given and may write to (hosts, hostname, resolv.conf): they have
 * their places below the exec root, which is memory on most hosts, so links lead from there to the
 * data root. A container that fills them fills a disk, as with its own layer, and not what all of
 * the host needs to run. What is in them is runtime/net's and daemon/containers' business.
 */
import { lstatSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { filesRoot } from '../runtime/net/paths.ts';
import { hostFilesRoot } from './containers/hostFiles.ts';

const DIRECTORY = 'handed';

/** Before any of them is made. What an earlier version made stays until the next boot. */
export function linkHandedFiles(execRoot: string, dataRoot: string): void {
  for (const path of [filesRoot(execRoot), hostFilesRoot(execRoot)]) {
    const target = join(dataRoot, DIRECTORY, relative(execRoot, path));
    const found = lstatSync(path, { throwIfNoEntry: false });
    // A boot took the link, and with it all that the files were for.
    if (found === undefined) rmSync(target, { recursive: true, force: true });
    if (found === undefined || found.isSymbolicLink()) {
      mkdirSync(target, { recursive: true, mode: 0o700 });
    }
    if (found !== undefined) continue;
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    symlinkSync(target, path);
  }
}
