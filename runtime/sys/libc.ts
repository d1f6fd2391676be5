/**
 * The C library and the kernel's system calls, for what Node does not offer; koffi's only door.
 * Every call here is synchronous and short. A call that can wait (connect, waitpid, lock) is used
 * with its non-blocking form only: koffi's asynchronous calls share libuv's four threads.
 * Never here: unshare on this process (Node has many threads), and no policy.
 */
import { getSystemErrorName } from 'node:util';
import koffi from 'koffi';
import { SwarmError } from '../../base/errors.ts';
import { AF_INET, familyOf, ipBytes } from '../../base/ipAddress.ts';

const libraries = new Map<string, ReturnType<typeof koffi.load>>();

/** Whether the shared library `name` (e.g. 'libnftables.so.1') can be loaded on this host. */
export function hasLibrary(name: string): boolean {
  try {
    libraryOf(name);
    return true;
  } catch {
    return false; // koffi throws one undifferentiated Error when dlopen fails: absent or unusable
  }
}

function libraryOf(name: string): ReturnType<typeof koffi.load> {
  let library = libraries.get(name);
  if (library === undefined) {
    library = koffi.load(name === '' ? null : name);
    libraries.set(name, library);
  }
  return library;
}

/**
 * A C function as a typed TypeScript function. `library` is a shared object's name, or '' for what
 * this process has loaded already (the C library). `signature` is C, e.g.
 * `define<(fd: number) => number>('', 'int close(int fd)')`. A Uint8Array may be given for any
 * `void *`. Right after a synchronous call `errno()` is that call's.
 */
export function define<F extends (...args: never[]) => unknown>(
  library: string,
  signature: string,
): F {
  return libraryOf(library).func(signature) as unknown as F;
}

/** A C structure that signatures may name; `members` by their C types, in order. */
export function defineStruct(name: string, members: Readonly<Record<string, string>>): void {
  koffi.struct(name, { ...members });
}

/** errno as the last synchronous call of this thread left it. */
export function errno(): number {
  return koffi.errno();
}

/** 2 -> 'ENOENT'. */
export function errnoName(code: number): string {
  return code > 0 ? getSystemErrorName(-code) : 'no error';
}

/** The last call's failure as a SwarmError: `what` says what was tried; detail.errno the name. */
export function systemError(what: string, code: number = errno()): SwarmError {
  const name = errnoName(code);
  return new SwarmError('internal', `${what}: ${name} (${errnoText(code)})`, {
    detail: { errno: name },
  });
}

/** Throws systemError when `result` is negative, else returns it. */
export function check(result: number, what: string): number {
  if (result < 0) throw systemError(what);
  return result;
}

const strerror = define<(code: number) => string>('', 'const char *strerror(int code)');

/** 2 -> 'No such file or directory'. */
export function errnoText(code: number): string {
  return strerror(code);
}

// ---- Files and descriptors

export const O_RDONLY = 0;
export const O_CLOEXEC = 0o2000000;

export const open = define<(path: string, flags: number, mode: number) => number>(
  '',
  'int open(const char *path, int flags, int mode)',
);
export const close = define<(fd: number) => number>('', 'int close(int fd)');
/** Of what may well not be there: a failure costs nothing. */
export const unlink = define<(path: string) => number>('', 'int unlink(const char *path)');
export const rmdir = define<(path: string) => number>('', 'int rmdir(const char *path)');

const fcntlInt = define<(fd: number, command: number, value: number) => number>(
  '',
  'int fcntl(int fd, int command, int value)',
);
const F_ADD_SEALS = 1033;
const F_SEAL_ALL = 0x01 | 0x02 | 0x04 | 0x08; // seal, shrink, grow, write
const F_SEAL_EXEC = 0x20; // Linux 6.3
const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const MFD_EXEC = 0x10; // Linux 6.3
const EINVAL = 22;

const memfdCreate = define<(name: string, flags: number) => number>(
  '',
  'int memfd_create(const char *name, unsigned int flags)',
);

/** An anonymous file (close-on-exec); `executable` ones can be executed and sealed. */
export function createMemfd(name: string, executable = false): number {
  const flags = MFD_CLOEXEC | (executable ? MFD_ALLOW_SEALING : 0);
  if (executable) {
    const fd = memfdCreate(name, flags | MFD_EXEC);
    if (fd >= 0) return fd;
    if (errno() !== EINVAL) throw systemError(`memfd_create ${name}`);
  }
  return check(memfdCreate(name, flags), `memfd_create ${name}`);
}

/** Nobody can change the anonymous file `fd` from now on. */
export function sealMemfd(fd: number): void {
  if (fcntlInt(fd, F_ADD_SEALS, F_SEAL_ALL | F_SEAL_EXEC) >= 0) return;
  if (errno() !== EINVAL) throw systemError('seal memfd');
  check(fcntlInt(fd, F_ADD_SEALS, F_SEAL_ALL), 'seal memfd');
}

const pipe2 = define<(ends: Int32Array, flags: number) => number>(
  '',
  'int pipe2(_Out_ int *ends, int flags)',
);
const F_SETPIPE_SZ = 1031;

/** A pipe, close-on-exec at both ends. `capacityBytes` where the kernel allows it, else its own. */
export function makePipe(capacityBytes?: number): {
  readonly read: number;
  readonly write: number;
} {
  const ends = new Int32Array(2);
  check(pipe2(ends, O_CLOEXEC), 'cannot make a pipe');
  if (capacityBytes !== undefined) fcntlInt(ends[0], F_SETPIPE_SZ, capacityBytes);
  return { read: ends[0], write: ends[1] };
}

// ---- Mounts and namespaces

export const MS_RDONLY = 1;
export const MS_NOSUID = 2;
export const MS_NODEV = 4;
export const MS_NOEXEC = 8;
export const MS_SYNCHRONOUS = 16;
export const MS_REMOUNT = 32;
export const MS_NOATIME = 1024;
export const MS_NODIRATIME = 2048;
export const MS_BIND = 4096;
export const MS_REC = 16384;
export const MS_RELATIME = 1 << 21;
export const MNT_DETACH = 2;

/** mount(2). */
export const mountRaw = define<
  (
    source: string | null,
    target: string,
    type: string | null,
    flags: number,
    data: string | null,
  ) => number
>(
  '',
  'int mount(const char *source, const char *target, const char *type, unsigned long flags, ' +
    'const char *data)',
);
/** umount2(2). */
export const umount2 = define<(target: string, flags: number) => number>(
  '',
  'int umount2(const char *target, int flags)',
);

export const CLONE_NEWNET = 0x40000000;

/**
 * setns(2) on the calling thread. Safe on Node's main thread only for a network namespace, with
 * nothing but synchronous koffi calls until it is set back; if that fails, end the process.
 */
export const setns = define<(fd: number, kind: number) => number>(
  '',
  'int setns(int fd, int kind)',
);

// ---- Sockets

export const AF_UNIX = 1;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;
export const SOL_SOCKET = 1;
export const SO_REUSEADDR = 2;
export const EADDRINUSE = 98;

export const socket = define<(family: number, type: number, protocol: number) => number>(
  '',
  'int socket(int family, int type, int protocol)',
);
/** `address` is a struct sockaddr of the socket's family. */
export const bind = define<(fd: number, address: Uint8Array, length: number) => number>(
  '',
  'int bind(int fd, const void *address, unsigned int length)',
);
export const listen = define<(fd: number, backlog: number) => number>(
  '',
  'int listen(int fd, int backlog)',
);
export const setsockopt = define<
  (fd: number, level: number, option: number, value: Uint8Array, length: number) => number
>('', 'int setsockopt(int fd, int level, int option, const void *value, unsigned int length)');
/** Bytes sent, or -1. */
export const send = define<(fd: number, data: Uint8Array, length: number, flags: number) => number>(
  '',
  'long send(int fd, const void *data, size_t length, int flags)',
);
/** Bytes received into `data`, or -1. */
export const recv = define<(fd: number, data: Uint8Array, length: number, flags: number) => number>(
  '',
  'long recv(int fd, void *data, size_t length, int flags)',
);

const socketpair = define<
  (family: number, type: number, protocol: number, ends: Int32Array) => number
>('', 'int socketpair(int family, int type, int protocol, _Out_ int *ends)');

/** Two connected unix stream sockets, close-on-exec and non-blocking. */
export function makeSocketPair(): readonly [number, number] {
  const ends = new Int32Array(2);
  const type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
  check(socketpair(AF_UNIX, type, 0, ends), 'cannot make a pair of sockets');
  return [ends[0], ends[1]];
}

const UNIX_PATH_MAX = 107;

/** A struct sockaddr_un for `path` (at most 107 bytes). */
export function unixAddress(path: string): Uint8Array {
  const bytes = Buffer.from(path);
  if (bytes.length > UNIX_PATH_MAX) {
    throw new SwarmError('invalid', `socket path "${path}" is longer than ${UNIX_PATH_MAX} bytes`);
  }
  const address = Buffer.alloc(2 + bytes.length + 1);
  address.writeUInt16LE(AF_UNIX, 0);
  bytes.copy(address, 2);
  return address;
}

/** A struct sockaddr_in or sockaddr_in6. */
export function socketAddress(address: string, port: number): Uint8Array {
  const family = familyOf(address);
  const bytes = Buffer.alloc(family === AF_INET ? 16 : 28);
  bytes.writeUInt16LE(family, 0);
  bytes.writeUInt16BE(port, 2);
  bytes.set(ipBytes(address), family === AF_INET ? 4 : 8);
  return bytes;
}

export const connect = define<(fd: number, address: Uint8Array, length: number) => number>(
  '',
  'int connect(int fd, const void *address, unsigned int length)',
);

// struct msghdr and what it points to; the padding of both C libraries falls into place.
koffi.struct('tsswarm_iovec', { base: 'void *', length: 'size_t' });
koffi.struct('tsswarm_msghdr', {
  name: 'void *',
  nameLength: 'uint32_t',
  parts: 'tsswarm_iovec *',
  partCount: 'size_t',
  control: 'void *',
  controlLength: 'size_t',
  flags: 'int',
});

interface MessageHeader {
  name: null;
  nameLength: number;
  parts: { base: Uint8Array; length: number }[];
  partCount: number;
  control: Uint8Array | null;
  controlLength: number;
  flags: number;
}

const sendmsg = define<(fd: number, message: MessageHeader, flags: number) => number>(
  '',
  'long sendmsg(int fd, tsswarm_msghdr *message, int flags)',
);
const recvmsg = define<(fd: number, message: MessageHeader, flags: number) => number>(
  '',
  'long recvmsg(int fd, _Inout_ tsswarm_msghdr *message, int flags)',
);
const SCM_RIGHTS = 1;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;
const CONTROL_HEADER_BYTES = 16; // struct cmsghdr: size_t, int, int
/** As many as the shim holds under one key. */
export const DESCRIPTORS_MAX = 16;

function messageOf(data: Uint8Array, control: Uint8Array | null): MessageHeader {
  return {
    name: null,
    nameLength: 0,
    parts: [{ base: data, length: data.length }],
    partCount: 1,
    control,
    controlLength: control?.length ?? 0,
    flags: 0,
  };
}

/** Sends `data` with copies of the descriptors `fds` over a unix socket, without waiting. */
export function sendWithDescriptors(fd: number, data: Uint8Array, fds: readonly number[]): number {
  const length = CONTROL_HEADER_BYTES + 4 * fds.length;
  const control = Buffer.alloc(Math.ceil(length / 8) * 8);
  control.writeBigUInt64LE(BigInt(length), 0);
  control.writeInt32LE(SOL_SOCKET, 8);
  control.writeInt32LE(SCM_RIGHTS, 12);
  fds.forEach((one, index) => {
    control.writeInt32LE(one, CONTROL_HEADER_BYTES + 4 * index);
  });
  return sendmsg(fd, messageOf(data, fds.length > 0 ? control : null), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/** Receives into `data`, without waiting: the bytes (-1 with errno) and descriptors that came. */
export function receiveWithDescriptors(
  fd: number,
  data: Uint8Array,
): { readonly bytes: number; readonly fds: readonly number[] } {
  const control = Buffer.alloc(CONTROL_HEADER_BYTES + 4 * DESCRIPTORS_MAX);
  const message = messageOf(data, control);
  const bytes = recvmsg(fd, message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  const fds: number[] = [];
  if (bytes < 0 || Number(message.controlLength) < CONTROL_HEADER_BYTES) return { bytes, fds };
  const length = Number(control.readBigUInt64LE(0));
  const isRights = control.readInt32LE(8) === SOL_SOCKET && control.readInt32LE(12) === SCM_RIGHTS;
  for (let at = CONTROL_HEADER_BYTES; isRights && at + 4 <= length; at += 4) {
    fds.push(control.readInt32LE(at));
  }
  return { bytes, fds };
}

// ---- Processes

// Larger than any libc's posix_spawnattr_t, posix_spawn_file_actions_t and sigset_t.
const SPAWN_ATTRIBUTES_BYTES = 1024;
const SPAWN_ACTIONS_BYTES = 512;
const SIGSET_BYTES = 128;
const POSIX_SPAWN_SETSIGDEF = 0x04;
const POSIX_SPAWN_SETSIGMASK = 0x08;

const attrInit = define<(attributes: Uint8Array) => number>(
  '',
  'int posix_spawnattr_init(void *attributes)',
);
const attrSetFlags = define<(attributes: Uint8Array, flags: number) => number>(
  '',
  'int posix_spawnattr_setflags(void *attributes, short flags)',
);
const attrSetMask = define<(attributes: Uint8Array, mask: Uint8Array) => number>(
  '',
  'int posix_spawnattr_setsigmask(void *attributes, const void *mask)',
);
const attrSetDefault = define<(attributes: Uint8Array, mask: Uint8Array) => number>(
  '',
  'int posix_spawnattr_setsigdefault(void *attributes, const void *mask)',
);
const actionsInit = define<(actions: Uint8Array) => number>(
  '',
  'int posix_spawn_file_actions_init(void *actions)',
);
const actionsDup2 = define<(actions: Uint8Array, from: number, to: number) => number>(
  '',
  'int posix_spawn_file_actions_adddup2(void *actions, int from, int to)',
);
const actionsClose = define<(actions: Uint8Array, fd: number) => number>(
  '',
  'int posix_spawn_file_actions_addclose(void *actions, int fd)',
);
const actionsDestroy = define<(actions: Uint8Array) => number>(
  '',
  'int posix_spawn_file_actions_destroy(void *actions)',
);
const posixSpawn = define<
  (
    pid: Int32Array,
    path: string,
    actions: Uint8Array,
    attributes: Uint8Array,
    args: (string | null)[],
    env: (string | null)[],
  ) => number
>(
  '',
  'int posix_spawn(_Out_ int *pid, const char *path, const void *actions, ' +
    'const void *attributes, const char **args, const char **env)',
);
const sigfillset = define<(set: Uint8Array) => number>('', 'int sigfillset(void *set)');

export interface SpawnOptions {
  readonly path: string;
  readonly args: readonly string[];
  readonly env: readonly string[];
  /** fds[i] becomes descriptor i in the child; every other close-on-exec descriptor is closed. */
  readonly fds: readonly number[];
}

/**
 * Starts a child with default signal dispositions and an empty signal mask; blocks the loop for
 * 0.15-0.5 ms. Returns its pid; the caller reaps it with `reap`. Throws SwarmError internal.
 */
export function spawnProcess(options: SpawnOptions): number {
  const attributes = new Uint8Array(SPAWN_ATTRIBUTES_BYTES);
  const actions = new Uint8Array(SPAWN_ACTIONS_BYTES);
  const signals = new Uint8Array(SIGSET_BYTES);
  attrInit(attributes);
  attrSetFlags(attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
  attrSetMask(attributes, signals);
  sigfillset(signals);
  attrSetDefault(attributes, signals);
  actionsInit(actions);
  try {
    addDescriptors(actions, options.fds);
    const pid = new Int32Array(1);
    const code = posixSpawn(
      pid,
      options.path,
      actions,
      attributes,
      [...options.args, null],
      [...options.env, null],
    );
    if (code !== 0) throw systemError(`cannot start ${options.args[0]}`, code);
    return pid[0];
  } finally {
    actionsDestroy(actions);
  }
}

/** Moves sources out of the targets' way first, so that no dup2 overwrites a later source. */
function addDescriptors(actions: Uint8Array, fds: readonly number[]): void {
  const parkedAt = 512; // above any target, below the usual soft limit of 1024
  const isParked = (fd: number, target: number): boolean => fd < fds.length && fd !== target;
  fds.forEach((fd, target) => {
    if (isParked(fd, target)) actionsDup2(actions, fd, parkedAt + target);
  });
  fds.forEach((fd, target) => {
    const parked = isParked(fd, target);
    actionsDup2(actions, parked ? parkedAt + target : fd, target);
    if (parked) actionsClose(actions, parkedAt + target);
  });
}

const WNOHANG = 1;
const waitpid = define<(pid: number, status: Int32Array, options: number) => number>(
  '',
  'int waitpid(int pid, _Out_ int *status, int options)',
);

/** Collects our child `pid` if it has ended (or is no child of ours); false while it runs. */
export function reap(pid: number): boolean {
  return waitpid(pid, new Int32Array(1), WNOHANG) !== 0;
}

const mknodRaw = define<(path: string, mode: number, device: number) => number>(
  '',
  'int mknod(const char *path, unsigned int mode, unsigned long device)',
);

/** mknod(2); throws SwarmError internal. */
export function makeNode(path: string, mode: number, major: number, minor: number): void {
  const high = BigInt(major & 0xfffff000) * 2n ** 32n + BigInt(minor >>> 8) * 2n ** 20n;
  const device = Number(high + BigInt(major & 0xfff) * 256n + BigInt(minor & 0xff));
  check(mknodRaw(path, mode, device), 'cannot make a device node');
}
