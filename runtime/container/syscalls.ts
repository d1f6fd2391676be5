/**
 * Architectures a program on this host can be of, as far as system calls go: the numbers its calls
 * have, and for 32-bit x86 also those that its C libraries pass through socketcall and ipc.
 */
import { arch } from 'node:process';
import { SwarmError } from '../../base/errors.ts';
import {
  AARCH64_NUMBERS,
  ARM_NUMBERS,
  COMMON_NUMBERS,
  I386_NUMBERS,
  X32_OWN_NUMBERS,
  X32_WITHOUT,
  X86_64_NUMBERS,
} from './syscallNumbers.ts';

export type Architecture = 'x86_64' | 'i386' | 'x32' | 'aarch64' | 'arm';
/** What a host's kernel is of. */
export type HostArchitecture = 'x86_64' | 'aarch64';

export const X32_BIT = 0x40000000;

/** linux/audit.h; x32 is told from x86_64 by X32_BIT. */
export const AUDIT_ARCH: Readonly<Record<Exclude<Architecture, 'x32'>, number>> = {
  x86_64: 0xc000003e,
  i386: 0x40000003,
  aarch64: 0xc00000b7,
  arm: 0x40000028,
};

/** Whether the kernel hands a filter only 32 bits of an argument that mean something. */
export const HAS_SHORT_ARGUMENTS: Readonly<Record<Architecture, boolean>> = {
  x86_64: false,
  i386: true,
  x32: true,
  aarch64: false,
  arm: true,
};

export function hostArchitecture(): HostArchitecture {
  if (arch === 'x64') return 'x86_64';
  if (arch === 'arm64') return 'aarch64';
  throw new SwarmError('unsupported', `no seccomp filters for ${arch}: use x86_64 or aarch64`);
}

const tables = new Map<Architecture, ReadonlyMap<string, number>>();

/** Name -> number as the architecture's programs pass it. */
export function callNumbers(architecture: Architecture): ReadonlyMap<string, number> {
  let table = tables.get(architecture);
  if (table === undefined) {
    table = readTable(architecture);
    tables.set(architecture, table);
  }
  return table;
}

function readTable(architecture: Architecture): ReadonlyMap<string, number> {
  const own = {
    x86_64: X86_64_NUMBERS,
    x32: X86_64_NUMBERS,
    i386: I386_NUMBERS,
    aarch64: AARCH64_NUMBERS,
    arm: ARM_NUMBERS,
  }[architecture];
  const numbers = new Map<string, number>();
  addRuns(numbers, own);
  addRuns(numbers, COMMON_NUMBERS);
  if (architecture !== 'x32') return numbers;
  for (const name of X32_WITHOUT.split(' ')) numbers.delete(name);
  addRuns(numbers, X32_OWN_NUMBERS);
  return new Map([...numbers].map(([name, number]) => [name, number + X32_BIT]));
}

function addRuns(numbers: Map<string, number>, text: string): void {
  let next = 0;
  for (const word of text.split(' ')) {
    const colon = word.indexOf(':');
    if (colon > 0) next = Number(word.slice(0, colon));
    numbers.set(word.slice(colon + 1), next);
    next += 1;
  }
}

/** linux/net.h and linux/ipc.h: the first argument of socketcall and ipc. */
const SOCKETCALLS =
  '1:socket bind connect listen accept getsockname getpeername socketpair send recv sendto ' +
  'recvfrom shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg';
const IPC_CALLS =
  '1:semop semget semctl semtimedop 11:msgsnd msgrcv msgget msgctl 21:shmat shmdt shmget shmctl';

const multiplexed = new Map<string, { readonly through: string; readonly call: number }>();

/** How a call of 32-bit x86 is also made; undefined when it has only its own number. */
export function multiplexedCall(
  name: string,
): { readonly through: string; readonly call: number } | undefined {
  if (multiplexed.size === 0) {
    for (const [through, text] of [
      ['socketcall', SOCKETCALLS],
      ['ipc', IPC_CALLS],
    ]) {
      const calls = new Map<string, number>();
      addRuns(calls, text);
      for (const [call, number] of calls) multiplexed.set(call, { through, call: number });
    }
  }
  return multiplexed.get(name);
}
