/**
 * Processes as a command that starts one sees them: adopted children and how they ended, a
 * process's identity that outlives the reuse of its number, the terminal it stands at. Only what
 * Node does not offer; synchronous and without waiting.
 */
import { readFileSync } from 'node:fs';
import { check, define } from './libc.ts';

const PR_SET_CHILD_SUBREAPER = 36;
const prctl = define<(option: number, value: number) => number>(
  '',
  'int prctl(int option, unsigned long value)',
);

/** Whether orphaned descendants become this process's children from now on. */
export function setSubreaper(isOne: boolean): void {
  check(prctl(PR_SET_CHILD_SUBREAPER, isOne ? 1 : 0), 'cannot become a subreaper');
}

const WNOHANG = 1;
const waitpid = define<(pid: number, status: Int32Array, options: number) => number>(
  '',
  'int waitpid(int pid, _Out_ int *status, int options)',
);

/** Children that have ended meanwhile, with the exit codes that a shell would give. */
export function reapChildren(): ReadonlyMap<number, number> {
  const ended = new Map<number, number>();
  for (;;) {
    const status = new Int32Array(1);
    const pid = waitpid(-1, status, WNOHANG);
    if (pid <= 0) return ended;
    const signal = status[0] & 0x7f;
    ended.set(pid, signal === 0 ? (status[0] >> 8) & 0xff : 128 + signal);
  }
}

/** Waits for our child `pid`, which is just ending, and collects it. */
export function waitForEnd(pid: number): void {
  waitpid(pid, new Int32Array(1), 0);
}

export interface ProcessIdentity {
  /** Since boot, in clock ticks; with the number it names one process for ever. */
  readonly startTicks: bigint;
  /** As in /proc/<pid>/stat: 'R', 'S', 'Z' ... */
  readonly state: string;
}

const STATE_FIELD = 3;
const START_FIELD = 22;

/** undefined when there is no such process. */
export function identify(pid: number): ProcessIdentity | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined; // ended
  }
  // The name stands in parentheses and may contain anything.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return {
    state: fields[0] ?? '',
    startTicks: BigInt(fields[START_FIELD - STATE_FIELD] ?? '0'),
  };
}

/** Whether `pid` still is the process that began at `startTicks`, and has not ended. */
export function isAlive(pid: number, startTicks: bigint): boolean {
  const found = identify(pid);
  return found?.startTicks === startTicks && found.state !== 'Z' && found.state !== 'X';
}

// termios(3): four words, line discipline, 32 control characters and two speeds on Linux.
const TERMIOS_BYTES = 60;
const TCSANOW = 0;
const tcgetattr = define<(fd: number, state: Uint8Array) => number>(
  '',
  'int tcgetattr(int fd, void *state)',
);
const tcsetattr = define<(fd: number, when: number, state: Uint8Array) => number>(
  '',
  'int tcsetattr(int fd, int when, const void *state)',
);
const cfmakeraw = define<(state: Uint8Array) => void>('', 'void cfmakeraw(void *state)');

/** Passes every byte of the terminal `fd` on as it is; the returned function undoes it. */
export function makeRaw(fd: number): () => void {
  const before = new Uint8Array(TERMIOS_BYTES);
  check(tcgetattr(fd, before), 'cannot read the terminal');
  const raw = Uint8Array.from(before);
  cfmakeraw(raw);
  check(tcsetattr(fd, TCSANOW, raw), 'cannot set the terminal');
  return () => void tcsetattr(fd, TCSANOW, before); // fails only once the terminal is gone
}

const TIOCGWINSZ = 0x5413;
const TIOCSWINSZ = 0x5414;
const WINSIZE_BYTES = 8;
const ioctl = define<(fd: number, request: number, data: Uint8Array) => number>(
  '',
  'int ioctl(int fd, unsigned long request, void *data)',
);

/** Gives the terminal `to` the size of `from`; what is no terminal has none. */
export function copySize(from: number, to: number): void {
  const size = new Uint8Array(WINSIZE_BYTES);
  if (ioctl(from, TIOCGWINSZ, size) === 0) ioctl(to, TIOCSWINSZ, size);
}

const F_SETFL = 4;
const fcntl = define<(fd: number, command: number, value: number) => number>(
  '',
  'int fcntl(int fd, int command, int value)',
);

/** Reads and writes of `fd` wait from now on. */
export function makeBlocking(fd: number): void {
  check(fcntl(fd, F_SETFL, 0), 'cannot make a descriptor wait');
}
