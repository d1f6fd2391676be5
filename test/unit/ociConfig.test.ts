/** What config.json says, read strictly; mount options; arguments. Nothing of the kernel. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readArguments } from '../../runtime/oci/arguments.ts';
import { readConfig } from '../../runtime/oci/configRead.ts';
import { hookState, stateText } from '../../runtime/oci/hookState.ts';
import { parseMountOptions } from '../../runtime/oci/mountOptions.ts';
import { checkId } from '../../runtime/oci/store.ts';
import { parseTap, tableOf } from '../oci/suites.ts';

const LEAST = { ociVersion: '1.2.0', root: { path: 'rootfs' } };

test('what is not given has the specification’s default', () => {
  const config = readConfig({ ...LEAST, process: { args: ['sh'], cwd: '/' }, linux: null });
  assert.equal(config.root.readonly, false);
  assert.deepEqual(config.process?.user, {
    uid: 0,
    gid: 0,
    umask: undefined,
    additionalGids: [],
  });
  assert.equal(config.process?.capabilities, undefined);
  assert.deepEqual(config.linux.resources, {});
  assert.deepEqual(config.hooks.poststop, []);
});

test('a wrong field is named with its path', () => {
  const wrong: readonly [unknown, RegExp][] = [
    [[], /^the file: expected an object/],
    [
      { ociVersion: '2.0.0', root: { path: 'x' } },
      /^ociVersion: 2\.0\.0 is not one of 1\.0 to 1\.3/,
    ],
    [{ ...LEAST, root: {} }, /^root\.path: expected a string/],
    [{ ...LEAST, process: { args: ['sh', 1] } }, /^process\.args\[1\]: expected a string/],
    [{ ...LEAST, mounts: [{ destination: '/a' }, {}] }, /^mounts\[1\]\.destination: expected/],
    [{ ...LEAST, hooks: { prestart: [{ path: 'x' }] } }, /^hooks\.prestart\[0\]\.path: "x" is not/],
    [{ ...LEAST, linux: { intelRdt: {} } }, /^linux\.intelRdt is not supported/],
    [{ ...LEAST, linux: { namespaces: [{ type: 'pid' }, { type: 'pid' }] } }, /duplicated ns pid/],
    [
      { ...LEAST, linux: { namespaces: [{ type: 'moon' }] } },
      /namespaces\[0\]\.type: expected one of/,
    ],
    [
      { ...LEAST, linux: { resources: { pids: { limit: 'many' } } } },
      /^linux\.resources\.pids\.limit: expected a whole number/,
    ],
  ];
  for (const [value, message] of wrong) assert.throws(() => readConfig(value), { message });
});

test('what the specification does not know is left alone', () => {
  assert.doesNotThrow(() => readConfig({ ...LEAST, later: 1, linux: { alsoLater: {} } }));
});

test('an unlimited rlimit is unlimited, whatever JSON makes of the number', () => {
  const limits = [{ type: 'RLIMIT_CORE', soft: JSON.parse('18446744073709551615'), hard: -1 }];
  const config = readConfig({ ...LEAST, process: { args: ['sh'], rlimits: limits } });
  const unlimited = 2n ** 64n - 1n;
  assert.deepEqual(config.process?.rlimits, [
    { type: 'RLIMIT_CORE', soft: unlimited, hard: unlimited },
  ]);
});

test('mount options set and clear attributes, the later word counting', () => {
  const plan = parseMountOptions(['ro', 'nosuid', 'rw', 'noatime', 'rro', 'size=1k', 'defaults']);
  assert.deepEqual(
    [plan.set, plan.clear, plan.setBelow, plan.data],
    [0x02 | 0x10, 0x01 | 0x70, 0x01, ['size=1k']],
  );
  assert.deepEqual(
    [parseMountOptions(['rbind']).recursive, parseMountOptions(['bind']).recursive],
    [true, false],
  );
  assert.equal(parseMountOptions(['rslave']).propagation, 0x80000 | 0x4000);
  assert.deepEqual(parseMountOptions(['idmap=uids=0-2-10#10-100-10;gids=0-1-10']).maps, {
    uids: [
      { inside: 0, outside: 2, count: 10 },
      { inside: 10, outside: 100, count: 10 },
    ],
    gids: [{ inside: 0, outside: 1, count: 10 }],
  });
  assert.throws(() => parseMountOptions(['idmap=uids=0']), /INSIDE-OUTSIDE-COUNT/);
});

test('flags stand anywhere, take values that begin with a dash, or end at the first word', () => {
  const flags = [
    { name: 'memory-swap', value: true, help: '' },
    { name: 'all', short: 'a', help: '' },
    { name: 'env', short: 'e', value: true, multiple: true, help: '' },
  ];
  const anywhere = readArguments(['id', '--memory-swap', '-1', '-a'], flags, false);
  assert.deepEqual(
    [anywhere.words, anywhere.text('memory-swap'), anywhere.flag('all')],
    [['id'], '-1', true],
  );
  const early = readArguments(['-e', 'A=b', '--env=C=d', 'id', 'ps', '-a', '--x'], flags, true);
  assert.deepEqual(
    [early.words, early.texts('env')],
    [
      ['id', 'ps', '-a', '--x'],
      ['A=b', 'C=d'],
    ],
  );
  assert.throws(() => readArguments(['--nope'], flags, false), /not defined: -nope/);
  assert.throws(() => readArguments(['--env'], flags, false), /needs an argument/);
});

test('a state is one object around status and pid', () => {
  const state = hookState({
    ociVersion: '1.0.0',
    id: 'a"b',
    bundle: '/b',
    annotations: { k: 'v' },
  });
  assert.deepEqual(JSON.parse(stateText(state, 'creating', 7)), {
    ociVersion: '1.0.0',
    id: 'a"b',
    status: 'creating',
    pid: 7,
    bundle: '/b',
    annotations: { k: 'v' },
  });
});

test('a container’s name cannot lead out of its directory', () => {
  for (const id of ['', '.', '..', 'a/b', 'a b', '../x']) assert.throws(() => checkId(id));
  for (const id of ['a', 'A_1+2.3-4', '.hidden']) assert.doesNotThrow(() => checkId(id));
});

test('the suites’ results are read with what failing ones said', () => {
  const results = parseTap(
    'a.bats',
    '1..3\nok 1 one\nnot ok 2 two\n# why\nok 3 three # skip root\n',
  );
  assert.deepEqual(
    results.map(({ name, outcome }) => [name, outcome]),
    [
      ['one', 'passed'],
      ['two', 'failed'],
      ['three', 'skipped'],
    ],
  );
  assert.match(results[1]?.output ?? '', /# why/);
  assert.match(tableOf(results), /in all +1 +1 +1$/);
});
