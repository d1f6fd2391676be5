/**
 * What the kernel tells of a process in /proc, for tests that look at one from outside: its state,
 * its parent, the processor time it took and the bytes it wrote; and the end of one
 * that the test itself started. It ends nothing else.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { SystemClock } from '../../base/clock.ts';
import { until } from './until.ts';

/** So many looks in a row, 10 ms apart, at a process that sleeps and has written nothing. */
const STILL_LOOKS = 10;
const STILL_LIMIT_MS = 10_000;
const LOOK_EVERY_MS = 1;
const clock = new SystemClock();

/** The fields of proc_pid_stat(5) from the third on, the state. */
function statOf(pid: number | string): string[] {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}

/** Whether it has a handler of its own for the signal. */
export function isCaught(pid: number, signal: number): boolean {
  const caught = /^SigCgt:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return caught !== null && ((BigInt(`0x${caught[1]}`) >> BigInt(signal - 1)) & 1n) === 1n;
}

export function parentOf(pid: number): number {
  return Number(statOf(pid)[1]);
}

/** Processor time in the kernel's ticks, its own and the kernel's for it. */
export function cpuTicks(pid: number): number {
  const fields = statOf(pid);
  return Number(fields[11]) + Number(fields[12]);
}

/** The same with what its children took that have ended and been waited for. */
export function cpuTicksWithChildren(pid: number): number {
  const fields = statOf(pid);
  return cpuTicks(pid) + Number(fields[13]) + Number(fields[14]);
}

/** When it was started, in ticks since the machine's boot: a pid and this name a process. */
export function startedTicks(pid: number): number {
  return Number(statOf(pid)[19]);
}

/** Running, or at least not a zombie that only waits for the machine's init. */
export function isAlive(pid: number): boolean {
  try {
    return statOf(pid)[0] !== 'Z';
  } catch {
    return false; // no such process
  }
}

/** Bytes of all its writes that have returned. */
export function writtenBytes(pid: number): number {
  return Number(/^wchar: (\d+)/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))?.[1]);
}

/** Waits until a program that does nothing but write has ended, or its reader holds it up. */
export async function untilWritesNoMore(pid: number): Promise<void> {
  let written = -1;
  let still = 0;
  await until(`process ${pid} to have ended or be held up`, STILL_LIMIT_MS, () => {
    try {
      const [state] = statOf(pid);
      if (state === 'Z') return true;
      const now = writtenBytes(pid);
      still = state === 'S' && now === written ? still + 1 : 0;
      written = now;
    } catch {
      return true; // it ended between two looks
    }
    return still >= STILL_LOOKS;
  });
}

/** Waits until a process sleeps whenever it is looked at: what turns in a circle never does. */
export async function untilRests(pid: number): Promise<void> {
  let still = 0;
  await until(`process ${pid} to rest`, STILL_LIMIT_MS, () => {
    still = statOf(pid)[0] === 'S' ? still + 1 : 0;
    return still >= STILL_LOOKS;
  });
}

/** Nanoseconds that this process's main thread was ready to run and another had the processor. */
function waitedNs(): number {
  return Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'utf8').split(' ')[1]);
}

/**
 * The longest that this process's main thread took from one turn of its event loop to the next
 * while `work` was done: at work or blocked, but not counting what it waited for a processor, which
 * only says how busy the machine is.
 */
export async function longestTurnMs(work: () => Promise<unknown>): Promise<number> {
  let longestMs = 0;
  let last = { atMs: clock.nowMs(), waitedNs: waitedNs() };
  const look = (): void => {
    const now = { atMs: clock.nowMs(), waitedNs: waitedNs() };
    const turnMs = now.atMs - last.atMs - (now.waitedNs - last.waitedNs) / 1e6;
    longestMs = Math.max(longestMs, turnMs);
    last = now;
  };
  const timer = setInterval(look, LOOK_EVERY_MS);
  try {
    await work();
    look();
  } finally {
    clearInterval(timer);
  }
  return longestMs;
}

/** Kills a child process, unless it has ended, and waits until it is gone. */
export async function killed(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}
