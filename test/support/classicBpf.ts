/** Classic BPF as seccomp has it, run on calls; fails on what the kernel would refuse to load. */
import assert from 'node:assert/strict';
import type { Architecture } from '../../runtime/container/syscalls.ts';

/** linux/audit.h. */
export const AUDIT: Readonly<Record<Architecture, number>> = {
  x86_64: 0xc000003e,
  x32: 0xc000003e,
  i386: 0x40000003,
  aarch64: 0xc00000b7,
  arm: 0x40000028,
};

export interface Call {
  readonly audit: number;
  readonly number: number;
  readonly args?: readonly bigint[];
}

interface Decoded {
  readonly operations: Uint16Array;
  readonly ifTrue: Uint8Array;
  readonly ifFalse: Uint8Array;
  readonly values: Uint32Array;
}

/** A function that answers what `program` returns for a call. */
export function bpfMachine(program: Uint8Array): (call: Call) => number {
  const code = decode(program);
  const data = Buffer.alloc(64);
  return (call) => {
    data.writeUInt32LE(call.number >>> 0, 0);
    data.writeUInt32LE(call.audit, 4);
    for (let index = 0; index < 6; index += 1) {
      data.writeBigUInt64LE(call.args?.[index] ?? 0n, 16 + 8 * index);
    }
    return run(code, data);
  };
}

function decode(program: Uint8Array): Decoded {
  const code = Buffer.from(program.buffer, program.byteOffset, program.byteLength);
  const length = code.length / 8;
  assert(length > 0 && length <= 4096 && Number.isInteger(length), `${length} instructions`);
  const decoded = {
    operations: new Uint16Array(length),
    ifTrue: new Uint8Array(length),
    ifFalse: new Uint8Array(length),
    values: new Uint32Array(length),
  };
  for (let at = 0; at < length; at += 1) {
    decoded.operations[at] = code.readUInt16LE(at * 8);
    decoded.ifTrue[at] = code[at * 8 + 2];
    decoded.ifFalse[at] = code[at * 8 + 3];
    decoded.values[at] = code.readUInt32LE(at * 8 + 4);
  }
  return decoded;
}

function run({ operations, ifTrue, ifFalse, values }: Decoded, data: Buffer): number {
  let accumulator = 0;
  for (let at = 0; at < operations.length; at += 1) {
    const value = values[at];
    const jump = (holds: boolean): void => {
      at += holds ? ifTrue[at] : ifFalse[at];
    };
    switch (operations[at]) {
      case 0x20:
        assert(value % 4 === 0 && value < 64);
        accumulator = data.readUInt32LE(value);
        break;
      case 0x54:
        accumulator = (accumulator & value) >>> 0;
        break;
      case 0x05:
        at += value;
        break;
      case 0x15:
        jump(accumulator === value);
        break;
      case 0x25:
        jump(accumulator > value);
        break;
      case 0x35:
        jump(accumulator >= value);
        break;
      case 0x45:
        jump((accumulator & value) !== 0);
        break;
      case 0x06:
        return value;
      default:
        assert.fail(`instruction ${operations[at].toString(16)}`);
    }
  }
  return assert.fail('ran off the end');
}
