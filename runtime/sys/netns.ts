/**
 * Network namespaces: made, named by a file (a bind mount of /proc/thread-self/ns/net), entered for
 * a moment and left again. Making one uses unshare on the calling thread, so it is done by a worker
 * thread only. Inside `within` only synchronous calls may run: no await, no Worker, no spawn, no
 * first use of libuv's pool, since a thread started there would stay in the wrong namespace. If the
 * way back fails the process ends: nothing else is safe.
 */
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { isMainThread } from 'node:worker_threads';
import { assert } from '../../base/assert.ts';
import { SwarmError } from '../../base/errors.ts';
import {
  CLONE_NEWNET,
  check,
  define,
  MNT_DETACH,
  MS_BIND,
  mountRaw,
  setns,
  systemError,
  umount2,
} from './libc.ts';

const unshare = define<(flags: number) => number>('', 'int unshare(int flags)');
const abort = define<() => void>('', 'void abort(void)');
const statfs = define<(path: string, buffer: Uint8Array) => number>(
  '',
  'int statfs(const char *path, void *buffer)',
);

const NSFS_MAGIC = 0x6e736673;
const STATFS_BYTES = 256; // larger than any struct statfs
const SELF = '/proc/thread-self/ns/net';

/** A named network namespace, open: its descriptor keeps it alive until `close`. */
export class NetworkNamespace {
  readonly path: string;
  readonly fd: number;
  readonly #home: number;

  constructor(path: string, fd: number, home: number) {
    this.path = path;
    this.fd = fd;
    this.#home = home;
  }

  /** Runs synchronous `work` with the calling thread inside this namespace. */
  within<T>(work: () => T): T {
    check(setns(this.fd, CLONE_NEWNET), `cannot enter the network namespace ${this.path}`);
    try {
      return work();
    } finally {
      if (setns(this.#home, CLONE_NEWNET) < 0) abort();
    }
  }

  close(): void {
    closeSync(this.fd);
  }
}

/** The door to other namespaces of one thread, which stands in `home`. */
export class NamespaceDoor {
  readonly #home: number;

  constructor() {
    this.#home = openSync(SELF, 'r');
  }

  /** The namespace this thread belongs to. */
  home(): NetworkNamespace {
    return new NetworkNamespace(SELF, this.#home, this.#home);
  }

  /**
   * Makes a namespace named by the file `path` and runs `first` inside it before leaving it. On
   * any error nothing is left. Worker threads only. Throws SwarmError.
   */
  create<T>(path: string, first: () => T): { namespace: NetworkNamespace; result: T } {
    assert(!isMainThread, 'a network namespace is made by a worker thread only');
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    writeFileSync(path, '', { flag: 'wx', mode: 0o444 });
    try {
      check(unshare(CLONE_NEWNET), 'cannot make a network namespace');
      let result: T;
      try {
        check(mountRaw(SELF, path, 'none', MS_BIND, null), `cannot name a namespace ${path}`);
        result = first();
      } finally {
        if (setns(this.#home, CLONE_NEWNET) < 0) abort();
      }
      return { namespace: this.open(path), result };
    } catch (error) {
      removeNamespace(path);
      throw error;
    }
  }

  /** Opens a namespace by its file. SwarmError not_found where the file names none. */
  open(path: string): NetworkNamespace {
    if (!isNamespace(path)) {
      throw new SwarmError('not_found', `no network namespace at ${path}`);
    }
    return new NetworkNamespace(path, openSync(path, 'r'), this.#home);
  }

  close(): void {
    closeSync(this.#home);
  }
}

/** Whether `path` names a namespace that is mounted now (a file left by a reboot does not). */
export function isNamespace(path: string): boolean {
  if (!existsSync(path)) return false;
  const buffer = Buffer.alloc(STATFS_BYTES);
  if (statfs(path, buffer) < 0) throw systemError(`cannot examine ${path}`);
  return Number(buffer.readBigUInt64LE(0)) === NSFS_MAGIC;
}

/** Takes the name away; the namespace and its interfaces go when its last process is gone. */
export function removeNamespace(path: string): void {
  // Not mounted (EINVAL) or not there (ENOENT) is what is wanted here; the file goes either way.
  umount2(path, MNT_DETACH);
  rmSync(path, { force: true });
}

/** Sets a sysctl below /proc/sys/net of the calling thread's namespace; false if it was so. */
export function setNetSysctl(name: string, value: number): boolean {
  const path = `/proc/sys/net/${name}`;
  const text = String(value);
  try {
    if (readFileSync(path, 'utf8').trim() === text) return false;
    writeFileSync(path, text);
    return true;
  } catch (error) {
    throw new SwarmError('unsupported', `cannot set ${path} to ${text}; is /proc writable?`, {
      cause: error,
    });
  }
}

/** Whether this kernel has IPv6 at all. */
export function hasIpv6Support(): boolean {
  return existsSync('/proc/sys/net/ipv6');
}

/** The interface of the calling thread's namespace speaks IPv6; false if it did. */
export function enableIpv6(link: string): boolean {
  if (!hasIpv6Support()) {
    throw new SwarmError('unsupported', 'this kernel has no IPv6: networks can have IPv4 only');
  }
  return setNetSysctl(`ipv6/conf/${link}/disable_ipv6`, 0);
}
