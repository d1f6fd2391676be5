/**
 * Descriptors that a container's shim keeps open for the daemon, so that they outlive its restart:
 * the sockets of its DNS. Held under a key, given back as copies, closed when released or
 * when the shim ends. Speaks HOLD, TAKE and RELEASE (runtime/shim/protocol.md).
 */
import { join } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import { SwarmError } from '../../base/errors.ts';
import {
  close,
  DESCRIPTORS_MAX,
  errno,
  errnoText,
  receiveWithDescriptors,
  sendWithDescriptors,
  systemError,
} from '../sys/libc.ts';
import { connectShim } from './shimClient.ts';

const HOLD = 4;
const TAKE = 5;
const RELEASE = 6;
const REPLY = 128;
const VERSION = 1;
const REQUEST = 1;
const LENGTH_BYTES = 4;
const HEADER_BYTES = 8;
const KEY_MAX_BYTES = 63;
const RECEIVE_BYTES = 4096;
const REPLY_TIMEOUT_MS = 2000;
const POLL_MS = 1;
const EAGAIN = 11;
const ENOENT = 2;

/** The shim of container `id` holds copies of `fds` under `key`, instead of what it held there. */
export async function holdDescriptors(
  execRoot: string,
  id: string,
  key: string,
  fds: readonly number[],
  clock: Clock,
): Promise<void> {
  if (fds.length > DESCRIPTORS_MAX) {
    throw new SwarmError('exhausted', `a shim holds at most ${DESCRIPTORS_MAX} descriptors a key`);
  }
  await request(execRoot, id, HOLD, key, fds, clock);
}

/** Copies of what is held under `key`, close-on-exec; none when nothing is. */
export async function takeDescriptors(
  execRoot: string,
  id: string,
  key: string,
  clock: Clock,
): Promise<readonly number[]> {
  return await request(execRoot, id, TAKE, key, [], clock);
}

/** Closes what is held under `key`; nothing held is fine. */
export async function releaseDescriptors(
  execRoot: string,
  id: string,
  key: string,
  clock: Clock,
): Promise<void> {
  await request(execRoot, id, RELEASE, key, [], clock);
}

async function request(
  execRoot: string,
  id: string,
  type: number,
  key: string,
  fds: readonly number[],
  clock: Clock,
): Promise<readonly number[]> {
  const name = Buffer.from(key);
  if (name.length === 0 || name.length > KEY_MAX_BYTES) {
    throw new SwarmError('invalid', `"${key}" is no key: 1 to ${KEY_MAX_BYTES} bytes`);
  }
  const message = Buffer.alloc(HEADER_BYTES + name.length);
  message.writeUInt32LE(message.length - LENGTH_BYTES, 0);
  message.writeUInt8(VERSION, 4);
  message.writeUInt8(type, 5);
  message.writeUInt16LE(REQUEST, 6);
  name.copy(message, HEADER_BYTES);
  const fd = connectShim(join(execRoot, 'containers', id));
  try {
    if (sendWithDescriptors(fd, message, fds) !== message.length) {
      throw systemError(`cannot reach the shim of container ${id}`);
    }
    return await awaitReply(fd, id, clock);
  } finally {
    close(fd);
  }
}

/** Reads events until the reply comes; the shim answers within a millisecond. */
async function awaitReply(fd: number, id: string, clock: Clock): Promise<readonly number[]> {
  const deadlineMs = clock.nowMs() + REPLY_TIMEOUT_MS;
  const fds: number[] = [];
  let received = Buffer.alloc(0);
  for (;;) {
    const part = Buffer.alloc(RECEIVE_BYTES);
    const { bytes, fds: came } = receiveWithDescriptors(fd, part);
    fds.push(...came);
    if (bytes > 0) received = Buffer.concat([received, part.subarray(0, bytes)]);
    const code = replyCode(received);
    if (code === 0) return fds;
    if (code === ENOENT) return [];
    const isBroken = bytes === 0 || (bytes < 0 && errno() !== EAGAIN);
    if (code !== undefined || isBroken || clock.nowMs() > deadlineMs) {
      for (const one of fds) close(one);
      const why = code === undefined ? 'no answer' : errnoText(code);
      throw new SwarmError('unavailable', `the shim of container ${id} holds nothing: ${why}`);
    }
    if (bytes < 0) await clock.sleep(POLL_MS);
  }
}

/** The reply's errno once it is there. */
function replyCode(received: Buffer): number | undefined {
  for (let at = 0; at + HEADER_BYTES <= received.length; ) {
    const next = at + LENGTH_BYTES + received.readUInt32LE(at);
    if (next > received.length) return undefined;
    if (received[at + 5] === REPLY) return received.readInt32LE(at + HEADER_BYTES);
    at = next;
  }
  return undefined;
}
