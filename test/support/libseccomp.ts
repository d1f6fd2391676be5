/** Filters as libseccomp makes them, to compare ours with. Needs libseccomp.so.2 and no right. */
import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Operator } from '../../runtime/container/seccompFilter.ts';
import type { Architecture } from '../../runtime/container/syscalls.ts';
import { define } from '../../runtime/sys/libc.ts';

const LIBSECCOMP = 'libseccomp.so.2';

/** linux/audit.h, and libseccomp's own for x32. */
export const TOKENS: Readonly<Record<Architecture, number>> = {
  x86_64: 0xc000003e,
  x32: 0x4000003e,
  i386: 0x40000003,
  aarch64: 0xc00000b7,
  arm: 0x40000028,
};
const OPERATIONS: Readonly<Record<Operator, number>> = {
  ne: 1,
  lt: 2,
  le: 3,
  eq: 4,
  ge: 5,
  gt: 6,
  masked: 7,
};
const BAD_ARCHITECTURE = 2; // SCMP_FLTATR_ACT_BADARCH
const KILL_PROCESS = 0x80000000;
const COMPARISON_BYTES = 24;

export interface OracleRule {
  readonly name: string;
  readonly action: number;
  readonly args: readonly {
    readonly index: number;
    readonly is: Operator;
    /** As seccomp_rule_add takes them: for 'masked' the mask, then the value. */
    readonly first: bigint;
    readonly second: bigint;
  }[];
}

/** The number of a call; below 0 when there is none. */
export function resolveCall(name: string, architecture: Architecture): number {
  const resolve = define<(architecture: number, name: string) => number>(
    LIBSECCOMP,
    'int seccomp_syscall_resolve_name_arch(uint32_t arch, const char *name)',
  );
  return resolve(TOKENS[architecture], name);
}

/** The program that libseccomp makes; a host of another kind than this one can be asked for. */
export function oracleProgram(
  defaultAction: number,
  architectures: readonly Architecture[],
  rules: readonly OracleRule[],
): Uint8Array {
  const init = define<(action: number) => unknown>(
    LIBSECCOMP,
    'void *seccomp_init(uint32_t def_action)',
  );
  const attribute = define<(context: unknown, which: number, value: number) => number>(
    LIBSECCOMP,
    'int seccomp_attr_set(void *ctx, int attr, uint32_t value)',
  );
  const native = define<() => number>(LIBSECCOMP, 'uint32_t seccomp_arch_native()');
  const add = define<(context: unknown, token: number) => number>(
    LIBSECCOMP,
    'int seccomp_arch_add(void *ctx, uint32_t token)',
  );
  const remove = define<(context: unknown, token: number) => number>(
    LIBSECCOMP,
    'int seccomp_arch_remove(void *ctx, uint32_t token)',
  );
  const resolve = define<(name: string) => number>(
    LIBSECCOMP,
    'int seccomp_syscall_resolve_name(const char *name)',
  );
  const addRule = define<
    (context: unknown, action: number, call: number, count: number, args: Buffer) => number
  >(
    LIBSECCOMP,
    'int seccomp_rule_add_array(void *ctx, uint32_t action, int syscall, unsigned int count, ' +
      'const void *args)',
  );
  const release = define<(context: unknown) => void>(LIBSECCOMP, 'void seccomp_release(void *ctx)');
  const context = init(defaultAction);
  try {
    assert.equal(attribute(context, BAD_ARCHITECTURE, KILL_PROCESS), 0);
    for (const architecture of architectures) {
      if (TOKENS[architecture] !== native()) assert.equal(add(context, TOKENS[architecture]), 0);
    }
    if (!architectures.some((architecture) => TOKENS[architecture] === native())) {
      assert.equal(remove(context, native()), 0);
    }
    for (const { name, action, args } of rules) {
      const call = resolve(name);
      if (call === -1 || action === defaultAction) continue;
      const comparisons = Buffer.alloc(COMPARISON_BYTES * Math.max(1, args.length));
      args.forEach(({ index, is, first, second }, at) => {
        comparisons.writeUInt32LE(index, at * COMPARISON_BYTES);
        comparisons.writeUInt32LE(OPERATIONS[is], at * COMPARISON_BYTES + 4);
        comparisons.writeBigUInt64LE(first, at * COMPARISON_BYTES + 8);
        comparisons.writeBigUInt64LE(second, at * COMPARISON_BYTES + 16);
      });
      const result = addRule(context, action, call, args.length, comparisons);
      assert(result === 0, `${name}: ${result}`);
    }
    return exported(context);
  } finally {
    release(context);
  }
}

function exported(context: unknown): Uint8Array {
  const write = define<(context: unknown, fd: number) => number>(
    LIBSECCOMP,
    'int seccomp_export_bpf(const void *ctx, int fd)',
  );
  const directory = mkdtempSync(join(tmpdir(), 'libseccomp-'));
  try {
    const file = join(directory, 'program');
    const fd = openSync(file, 'w');
    const result = write(context, fd);
    closeSync(fd);
    assert.equal(result, 0);
    return readFileSync(file);
  } finally {
    rmSync(directory, { recursive: true });
  }
}
