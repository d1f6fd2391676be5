/**
 * Starts the shim for one launch without a supervisor and hears what came of it: the program's
 * process, or why there is none. The shim ends then; whose child the process becomes is decided by
 * who is the subreaper. Waits for the shim synchronously: there is nothing else to do meanwhile.
 */
import { closeSync, readSync, writeFileSync } from 'node:fs';
import { SwarmError } from '../../base/errors.ts';
import { decodeExitRecord } from '../container/exitRecord.ts';
import { loadShim } from '../container/shimFile.ts';
import {
  check,
  close,
  createMemfd,
  makeSocketPair,
  O_CLOEXEC,
  open,
  spawnProcess,
} from '../sys/libc.ts';
import { identify, makeBlocking, waitForEnd } from '../sys/process.ts';

const O_RDWR = 2;
const FIRST_PRESERVED = 3;
/** The spawning call parks descriptors above this. */
const PRESERVED_MAX = 400;
const HEADER_BYTES = 8;
const LENGTH_BYTES = 4;
const CHUNK_BYTES = 4096;
const TYPE = { state: 129, exited: 130, note: 133 } as const;

export interface LaunchRequest {
  readonly kind: 'run' | 'exec';
  readonly id: string;
  readonly bytes: Uint8Array;
  /** Connected; receives the terminal's master. */
  readonly consoleFd?: number;
  /** What stands at 3 and following in the program. */
  readonly preserved: readonly number[];
  /** 0 to 2 of the program; by default this process's own. */
  readonly streams?: readonly [number, number, number];
}

export interface Launched {
  readonly pid: number;
  /** 0 when it has ended already. */
  readonly startTicks: bigint;
  readonly notes: readonly string[];
}

/** SwarmError with the shim's text; detail.exitCode says whether the program was there. */
export async function launch(request: LaunchRequest): Promise<Launched> {
  const shim = await loadShim();
  const spec = createMemfd('spec');
  const [ours, theirs] = makeSocketPair();
  let shimPid: number;
  const none = check(open('/dev/null', O_RDWR | O_CLOEXEC, 0), 'cannot open /dev/null');
  try {
    writeFileSync(spec, request.bytes);
    const streams = request.streams ?? [0, 1, 2];
    const { consoleFd = none, preserved } = request;
    shimPid = spawnProcess({
      path: `/proc/self/fd/${shim}`,
      args: ['tsswarm-shim', request.kind === 'exec' ? 'exec' : request.id],
      env: [],
      fds: [...streams, spec, theirs, consoleFd, ...preserved.map((fd) => (fd < 0 ? none : fd))],
    });
  } catch (error) {
    close(ours);
    throw error;
  } finally {
    for (const fd of [shim, spec, theirs, none]) close(fd);
  }
  makeBlocking(ours);
  try {
    const heard = readAll(ours);
    // Only now the program has another parent: its end can be waited for from here on.
    waitForEnd(shimPid);
    return hear(heard);
  } finally {
    closeSync(ours);
  }
}

function readAll(fd: number): Buffer {
  const chunks: Buffer[] = [];
  for (;;) {
    const chunk = Buffer.alloc(CHUNK_BYTES);
    const length = readSync(fd, chunk);
    if (length === 0) return Buffer.concat(chunks);
    chunks.push(chunk.subarray(0, length));
  }
}

function hear(data: Buffer): Launched {
  const notes: string[] = [];
  let pid = 0;
  for (let at = 0; at + HEADER_BYTES <= data.length; ) {
    const end = at + LENGTH_BYTES + data.readUInt32LE(at);
    const payload = data.subarray(at + HEADER_BYTES, end);
    const type = data[at + 5];
    if (type === TYPE.exited) {
      const { error = 'it could not be started', exitCode } = decodeExitRecord(payload);
      throw new SwarmError('invalid', error, { detail: { exitCode: String(exitCode) } });
    }
    if (type === TYPE.note) notes.push(payload.toString('utf8'));
    if (type === TYPE.state) pid = payload.readUInt32LE(4);
    at = end;
  }
  if (pid === 0) throw new SwarmError('internal', 'the launcher ended without a word');
  return { pid, startTicks: identify(pid)?.startTicks ?? 0n, notes };
}

/**
 * The caller's descriptors from 3 on: `count` of them, and those that systemd says it handed over.
 * -1 where there is none between others; none at the end. Which there are, the wrapper that starts
 * this program says (deploy/oci-wrapper): Node has opened its own among them by now.
 */
export function preservedDescriptors(count: number): readonly number[] {
  if (count > PRESERVED_MAX) {
    throw new SwarmError('invalid', `--preserve-fds: ${count} are more than ${PRESERVED_MAX}`);
  }
  const inherited = new Set((process.env.TSSWARM_OCI_FDS ?? '').split(' ').map(Number));
  const fds: number[] = [];
  for (let fd = FIRST_PRESERVED; fd < FIRST_PRESERVED + count; fd += 1) {
    fds.push(inherited.has(fd) ? fd : -1);
  }
  while (fds.at(-1) === -1) fds.pop();
  return fds;
}
