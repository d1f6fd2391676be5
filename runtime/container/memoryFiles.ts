/**
 * Files that a container is given and no disk ever holds: one tmpfs for each container, mounted by
 * this process below the exec root, filled before the container starts and bind-mounted into it by
 * the caller. They outlive the daemon, never a boot. Where the kernel can, they are not swapped
 * out.
 */
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { MS_NODEV, MS_NOEXEC, MS_NOSUID, mountRaw, systemError } from '../sys/libc.ts';
import { readMounts, unmount } from '../sys/mount.ts';

const PAGE_BYTES = 4096;
/** Directories, and room to spare. */
const EXTRA_PAGES = 64;

export interface MemoryFile {
  /** Below the directory; parents are made. */
  readonly path: string;
  readonly data: Uint8Array;
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
}

export interface MemoryFiles {
  /** Makes the files of `id` anew; the directory they are in. Undone whole if it fails. */
  make(id: string, files: readonly MemoryFile[]): string;
  /** Whether they are there, perhaps from an earlier process. */
  has(id: string): boolean;
  /** Forgets them; running containers keep what is mounted in them. */
  drop(id: string): void;
  ids(): readonly string[];
}

export class TmpfsFiles implements MemoryFiles {
  readonly #root: string;

  constructor(execRoot: string) {
    this.#root = join(execRoot, 'memory');
  }

  make(id: string, files: readonly MemoryFile[]): string {
    this.drop(id);
    const directory = join(this.#root, id);
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    try {
      mountTmpfs(directory, files);
      for (const file of files) write(directory, file);
    } catch (error) {
      this.drop(id);
      throw error;
    }
    return directory;
  }

  has(id: string): boolean {
    const directory = join(this.#root, id);
    if (!existsSync(directory)) return false;
    return readMounts().some(
      ({ mountPoint, type }) => mountPoint === directory && type === 'tmpfs',
    );
  }

  drop(id: string): void {
    const directory = join(this.#root, id);
    if (!existsSync(directory)) return;
    unmount(directory);
    rmdirSync(directory);
  }

  ids(): readonly string[] {
    return existsSync(this.#root) ? readdirSync(this.#root) : [];
  }
}

function mountTmpfs(directory: string, files: readonly MemoryFile[]): void {
  let pages = EXTRA_PAGES;
  for (const { data } of files) pages += 1 + Math.ceil(data.length / PAGE_BYTES);
  const options = `mode=0755,size=${pages * PAGE_BYTES}`;
  const flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
  // Kernels before 6.4 do not know 'noswap'.
  if (mountRaw('tmpfs', directory, 'tmpfs', flags, `${options},noswap`) === 0) return;
  if (mountRaw('tmpfs', directory, 'tmpfs', flags, options) === 0) return;
  throw systemError(`cannot mount a tmpfs on ${directory}`);
}

function write(directory: string, file: MemoryFile): void {
  const path = join(directory, file.path);
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  writeFileSync(path, file.data, { mode: 0o600, flag: 'wx' });
  chownSync(path, file.uid, file.gid);
  chmodSync(path, file.mode);
}
