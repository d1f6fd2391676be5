/**
 * Tells systemd that the daemon is ready (sd_notify(3)): one datagram to $NOTIFY_SOCKET. Does
 * nothing where there is no systemd. Node has no unix datagram sockets, so it is sent through the C
 * library.
 */
import { check, close, define } from '../runtime/sys/libc.ts';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const PATH_OFFSET = 2;
const MAX_PATH_BYTES = 108;

const socket = define<(family: number, type: number, protocol: number) => number>(
  '',
  'int socket(int family, int type, int protocol)',
);
const sendto = define<
  (
    fd: number,
    data: Uint8Array,
    length: number,
    flags: number,
    address: Uint8Array,
    addressLength: number,
  ) => number
>(
  '',
  'int64_t sendto(int fd, void *data, size_t length, int flags, void *address, ' +
    'uint32_t addressLength)',
);

/** `state` is e.g. 'READY=1'. */
export function notifySystemd(state: string): void {
  const path = process.env['NOTIFY_SOCKET'];
  if (path === undefined || path === '') return;
  // A leading '@' is an abstract socket: a zero byte in its place.
  const name = Buffer.from(path.startsWith('@') ? `\0${path.slice(1)}` : path);
  const address = Buffer.alloc(PATH_OFFSET + Math.min(name.length, MAX_PATH_BYTES));
  address.writeUInt16LE(AF_UNIX, 0);
  name.copy(address, PATH_OFFSET);
  const fd = check(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), 'socket for sd_notify');
  const data = Buffer.from(state);
  check(sendto(fd, data, data.length, 0, address, address.length), `sd_notify to ${path}`);
  close(fd);
}
