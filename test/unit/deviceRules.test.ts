/**
 * A device list means the same to cgroup v1 and to cgroup v2: its lines in a model of the kernel's
 * devices controller, its program in an interpreter of eBPF, both against the list read entry by
 * entry.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type DeviceLine,
  deviceChanges,
  deviceLines,
  deviceProgram,
} from '../../runtime/sys/deviceRules.ts';
import type { DeviceAccess } from '../../runtime/sys/resources.ts';

const BITS: Readonly<Record<string, number>> = { m: 1, r: 2, w: 4 };
const bitsOf = (access: string): number =>
  [...access].reduce((sum, letter) => sum | BITS[letter], 0);

interface Request {
  readonly type: 'b' | 'c';
  readonly major: number;
  readonly minor: number;
  readonly bits: number;
}

/** Each bit on its own: the last entry that speaks of it decides. */
function byList(list: readonly DeviceAccess[], { type, major, minor, bits }: Request): boolean {
  return [1, 2, 4].every((bit) => {
    if ((bits & bit) === 0) return true;
    const last = list.findLast(
      (entry) =>
        ((entry.type ?? 'a') === 'a' || entry.type === type) &&
        (entry.major === undefined || entry.major === major) &&
        (entry.minor === undefined || entry.minor === minor) &&
        (bitsOf(entry.access) & bit) !== 0,
    );
    return last?.allow ?? false;
  });
}

/** eBPF as deviceProgram uses it. */
function byProgram(program: Uint8Array, { type, major, minor, bits }: Request): boolean {
  const context = [(bits << 16) | (type === 'b' ? 1 : 2), major, minor];
  const code = Buffer.from(program.buffer, program.byteOffset, program.byteLength);
  const registers = new Array<number>(11).fill(0);
  for (let at = 0; at * 8 < code.length; at += 1) {
    const [operation, pair] = [code[at * 8], code[at * 8 + 1]];
    const [to, from] = [pair & 15, pair >> 4];
    const offset = code.readInt16LE(at * 8 + 2);
    const value = code.readInt32LE(at * 8 + 4);
    if (operation === 0x61) registers[to] = context[offset / 4];
    else if (operation === 0xbf) registers[to] = registers[from];
    else if (operation === 0xb7) registers[to] = value;
    else if (operation === 0x54) registers[to] &= value;
    else if (operation === 0x74) registers[to] >>>= value;
    else if (operation === 0x55) at += registers[to] === value ? 0 : offset;
    else if (operation === 0x15) at += registers[to] === value ? offset : 0;
    else if (operation === 0x95) return registers[0] === 1;
    else assert.fail(`instruction ${operation}`);
  }
  return assert.fail('ran off the end');
}

/** security/device_cgroup.c: an exception is whole or not at all, and removed by its own numbers. */
function byKernelV1(lines: readonly DeviceLine[], request: Request): boolean {
  let allowsAll = true;
  let exceptions: { key: string; bits: number }[] = [];
  for (const { file, value } of lines) {
    const isAllow = file === 'devices.allow';
    if (value === 'a') {
      allowsAll = isAllow;
      exceptions = [];
      continue;
    }
    const [type, number, access] = value.split(' ');
    const [key, bits] = [`${type} ${number}`, bitsOf(access)];
    const own = exceptions.find((exception) => exception.key === key);
    if (isAllow === allowsAll) {
      if (own !== undefined) own.bits &= ~bits;
    } else if (own !== undefined) own.bits |= bits;
    else exceptions.push({ key, bits });
  }
  const matches = exceptions.filter(({ key }) => {
    const [type, major, minor] = key.split(/[ :]/);
    return (
      type === request.type &&
      (major === '*' || Number(major) === request.major) &&
      (minor === '*' || Number(minor) === request.minor)
    );
  });
  if (allowsAll) return !matches.some(({ bits }) => (bits & request.bits) !== 0);
  return matches.some(({ bits }) => (bits & request.bits) === request.bits);
}

const number = fc.option(fc.integer({ min: 0, max: 2 }), { nil: undefined });
const entry: fc.Arbitrary<DeviceAccess> = fc.record({
  allow: fc.boolean(),
  type: fc.constantFrom('a', 'b', 'c', undefined),
  major: number,
  minor: number,
  access: fc.constantFrom('r', 'w', 'm', 'rw', 'rwm', 'rwm', 'wm'),
}) as fc.Arbitrary<DeviceAccess>;

const REQUESTS: readonly Request[] = (['b', 'c'] as const).flatMap((type) =>
  [0, 1, 2].flatMap((major) =>
    [0, 1, 2].flatMap((minor) =>
      [1, 2, 4, 6].map((bits): Request => ({ type, major, minor, bits })),
    ),
  ),
);

const show = (list: readonly DeviceAccess[], request: Request): string =>
  `${JSON.stringify(list)} ${JSON.stringify(request)}`;

test('the program of cgroup v2 decides as the list does, whatever the list', () => {
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 8 }), (list) => {
      const program = deviceProgram(list);
      for (const request of REQUESTS) {
        assert.equal(byProgram(program, request), byList(list, request), show(list, request));
      }
    }),
    { seed: 20261121, numRuns: 400 },
  );
});

test('the lines of cgroup v1 allow nothing the list denies, and are the list where they can', () => {
  let told = 0;
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 8 }), (list) => {
      let lines: readonly DeviceLine[];
      try {
        lines = deviceLines(list);
      } catch (error) {
        assert.match(String(error), /cgroup v1 cannot express/);
        return;
      }
      told += 1;
      for (const request of REQUESTS) {
        const [got, wanted] = [byKernelV1(lines, request), byList(list, request)];
        // One open for reading and writing needs one exception that has both.
        if (request.bits === 6) assert(wanted || !got, show(list, request));
        else assert.equal(got, wanted, show(list, request));
      }
    }),
    { seed: 20261121, numRuns: 400 },
  );
  assert(told > 100, `${told}`);
});

/** devices.list, as the kernel shows a group that was written to so: not what a wildcard lacks. */
function shown(lines: readonly DeviceLine[]): string {
  const [first, ...rest] = lines;
  if (first.file === 'devices.allow') return 'a *:* rwm\n';
  return rest.map(({ value }) => `${value}\n`).join('');
}

test('a group of v1 in use comes to a list by what differs, and allows before it denies', () => {
  let kept = 0;
  fc.assert(
    fc.property(
      fc.array(entry, { maxLength: 6 }),
      fc.array(entry, { maxLength: 6 }),
      (old, list) => {
        let before: readonly DeviceLine[];
        let wanted: readonly DeviceLine[];
        try {
          [before, wanted] = [deviceLines(old), deviceLines(list)];
        } catch (error) {
          assert.match(String(error), /cgroup v1 cannot express/);
          return;
        }
        const changes = deviceChanges(list, shown(before));
        const isPart = !changes.some(({ value }) => value === 'a');
        const both = [before, wanted].every(([first]) => first.file === 'devices.deny');
        assert.equal(isPart, both);
        for (const request of REQUESTS) {
          const now = byKernelV1([...before, ...changes], request);
          assert.equal(now, byKernelV1(wanted, request), show(list, request));
          // What may be used before and after may be at every moment between.
          if (!isPart || !now || !byKernelV1(before, request)) continue;
          kept += 1;
          for (let count = 1; count < changes.length; count += 1) {
            const between = [...before, ...changes.slice(0, count)];
            assert.ok(byKernelV1(between, request), show(list, request));
          }
        }
      },
    ),
    { seed: 20261122, numRuns: 400 },
  );
  assert(kept > 100, `${kept}`);
});

test("a container's list becomes the lines that Docker's and runc's containers have", () => {
  const list: readonly DeviceAccess[] = [
    { allow: false, access: 'rwm' },
    { allow: true, type: 'c', access: 'm' },
    { allow: true, type: 'c', major: 1, minor: 3, access: 'rwm' },
    { allow: true, type: 'c', major: 136, access: 'rw' },
    { allow: true, type: 'b', major: 8, minor: 0, access: 'r' },
    { allow: false, type: 'c', major: 1, minor: 11, access: 'rw' },
  ];
  assert.deepEqual(
    deviceLines(list).map(({ file, value }) => `${file.slice(8)} ${value}`),
    ['deny a', 'allow c *:* m', 'allow c 1:3 rwm', 'allow c 136:* rwm', 'allow b 8:0 r'],
  );
  assert.deepEqual(deviceLines([{ allow: true, access: 'rwm' }]), [
    { file: 'devices.allow', value: 'a' },
  ]);
  assert.deepEqual(deviceLines([]), [{ file: 'devices.deny', value: 'a' }]);
});

test('a list that takes a part out of a wildcard is refused on v1 and kept on v2', () => {
  const list: readonly DeviceAccess[] = [
    { allow: true, type: 'c', access: 'rwm' },
    { allow: false, type: 'c', major: 1, minor: 11, access: 'w' },
  ];
  assert.throws(() => deviceLines(list), /"c 1:11 w" takes a part out of "c \*:\* rwm"/);
  const program = deviceProgram(list);
  const may = (bits: number): boolean =>
    byProgram(program, { type: 'c', major: 1, minor: 11, bits });
  assert.deepEqual([may(2), may(4), may(6)], [true, false, false]);
});
