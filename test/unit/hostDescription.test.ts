/** What a host says of itself is plain and short, or refused by name. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode } from '../../base/errors.ts';
import { parseGenericResources } from '../../daemon/genericResources.ts';
import { checkDescription } from '../../manager/hostDescription.ts';
import type { NodeDescription } from '../../model/types.ts';

const PLAIN: NodeDescription = {
  hostname: 'h1',
  os: 'linux',
  architecture: 'x86_64',
  kernel: '6.1.0',
  nanoCpus: 2_000_000_000,
  memoryBytes: 1024,
  engineVersion: '0.1.0',
  engineLabels: { zone: 'a' },
  machineId: '',
  genericResources: [],
};

test('a plain description is taken as it is', () => {
  assert.equal(checkDescription(PLAIN), PLAIN);
});

test('control characters and long texts are refused, naming what holds them', () => {
  const wrong: [Partial<NodeDescription>, RegExp][] = [
    [{ hostname: 'h1\u001b[2J' }, /hostname/],
    [{ kernel: 'k'.repeat(256) }, /kernel/],
    [{ engineLabels: { zone: 'a\nb' } }, /label zone/],
    [
      { engineLabels: Object.fromEntries(Array.from({ length: 65 }, (_, at) => [`l${at}`, ''])) },
      /more than 64 labels/,
    ],
  ];
  for (const [change, message] of wrong) {
    assert.throws(
      () => checkDescription({ ...PLAIN, ...change }),
      (error) => hasCode(error, 'invalid') && message.test(error.message),
    );
  }
});

test('generic resources are amounts or names that differ, each kind one or the other', () => {
  assert.deepEqual(parseGenericResources(['gpu=a,gpu=b', 'disk=3']), [
    { kind: 'gpu', name: 'a', amount: 1 },
    { kind: 'gpu', name: 'b', amount: 1 },
    { kind: 'disk', name: '', amount: 3 },
  ]);
  for (const bad of ['gpu', 'gpu=', '=1', 'gpu=a=b', 'gpu=a,gpu=a', 'gpu=1,gpu=a', 'gpu=a,gpu=1']) {
    assert.throws(() => parseGenericResources([bad]), { code: 'invalid' }, bad);
  }
});
