/**
 * /dev/shm of containers that let others have their IPC namespace: a tmpfs each below the exec
 * root, bound into the container and into those that join it. It lives as long as the container's
 * run; whoever has it mounted keeps it until its own end.
 */
import { chmodSync, existsSync, mkdirSync, readdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { MS_NODEV, MS_NOEXEC, MS_NOSUID, mountRaw, systemError } from '../sys/libc.ts';
import { unmount } from '../sys/mount.ts';

/** Docker's default. */
const DEFAULT_BYTES = 64 * 1024 * 1024;

export class SharedMemory {
  readonly #root: string;

  constructor(execRoot: string) {
    this.#root = join(execRoot, 'shm');
  }

  path(containerId: string): string {
    return join(this.#root, containerId);
  }

  /** A new, empty one; its directory. */
  make(containerId: string, sizeBytes = DEFAULT_BYTES): string {
    this.drop(containerId);
    const directory = this.path(containerId);
    // Whoever may write to a container's memory is inside of one.
    mkdirSync(this.#root, { recursive: true, mode: 0o700 });
    chmodSync(this.#root, 0o700);
    mkdirSync(directory);
    const flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    if (mountRaw('shm', directory, 'tmpfs', flags, `mode=1777,size=${sizeBytes}`) === 0) {
      return directory;
    }
    throw systemError(`cannot mount a tmpfs on ${directory}`);
  }

  drop(containerId: string): void {
    const directory = this.path(containerId);
    if (!existsSync(directory)) return;
    unmount(directory);
    rmdirSync(directory);
  }

  ids(): readonly string[] {
    return existsSync(this.#root) ? readdirSync(this.#root) : [];
  }
}
