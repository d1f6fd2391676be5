/** Maps of a container's user namespace: what they say of ids, and which cannot be. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readSpec, SpecWriter, TAG } from '../../runtime/container/encode.ts';
import {
  addMount,
  addNamespace,
  addUserMaps,
  MOUNT,
  PROPAGATION,
} from '../../runtime/container/specRecords.ts';
import type { ContainerConfig } from '../../runtime/container/types.ts';
import {
  checkUserNamespace,
  layerMapsOf,
  toContainerId,
  toHostId,
  userMapsOf,
} from '../../runtime/container/userNamespace.ts';

const ranges = [
  { inside: 0, outside: 100_000, count: 1000 },
  { inside: 5000, outside: 7, count: 2 },
];
const maps = { uids: ranges, gids: ranges };

const check = (extra: Partial<ContainerConfig>): void =>
  checkUserNamespace({ networkNamespace: 'new', userNamespace: maps, ...extra } as ContainerConfig);

test('ids are found both ways, and what is not mapped is nobody', () => {
  assert.deepEqual(
    [0, 999, 5001].map((id) => toHostId(ranges, id)),
    [100_000, 100_999, 8],
  );
  assert.deepEqual(
    [1000, 4999, 5002].map((id) => toHostId(ranges, id)),
    [undefined, undefined, undefined],
  );
  assert.deepEqual(
    [100_999, 7, 0].map((id) => toContainerId(ranges, id)),
    [999, 5000, undefined],
  );
});

test("below mapped layers the host's root has an id on disk that no container has", () => {
  const [own] = layerMapsOf(maps).uids.slice(-1);
  assert.equal(own.outside, 0);
  assert.throws(() =>
    check({ userNamespace: { uids: [{ ...ranges[0], inside: own.inside }], gids: ranges } }),
  );
  const withRoot = [{ inside: 0, outside: 0, count: 10 }];
  assert.deepEqual(layerMapsOf({ uids: withRoot, gids: withRoot }).uids, withRoot);
});

test('maps that the kernel would not take are refused with their numbers', () => {
  check({});
  check({ userNamespace: 'host', privileged: true });
  assert.equal(userMapsOf({ userNamespace: 'host' }), undefined);
  const bad = (range: Partial<(typeof ranges)[number]>): void =>
    check({ userNamespace: { uids: [{ ...ranges[0], ...range }], gids: ranges } });
  assert.throws(() => bad({ count: 0 }), /user id map 0:100000:0 is out of range/);
  assert.throws(() => bad({ outside: -1 }), /out of range/);
  assert.throws(() => bad({ count: 2 ** 32 }), /out of range/);
  assert.throws(() => bad({ inside: 1 }), /must begin with 0 inside/);
});

test('records of namespaces, maps and mounts have the shim’s shape', () => {
  const writer = new SpecWriter();
  addNamespace(writer, 'user');
  addNamespace(writer, 'network', '/run/netns/x');
  addUserMaps(writer, { uids: ranges.slice(0, 1), gids: ranges.slice(1) });
  addMount(writer, {
    flags: MOUNT.bind | MOUNT.ownMap,
    set: 1,
    clearBelow: 0x70,
    propagation: PROPAGATION.slave | PROPAGATION.recursive,
    target: '/t',
    source: '/s',
    maps: { uids: ranges.slice(0, 1), gids: [] },
  });
  const records = readSpec(writer.finish());
  const hex = (index: number): string => Buffer.from(records[index].payload).toString('hex');
  assert.deepEqual(
    records.map(({ tag }) => tag),
    [TAG.namespace, TAG.namespace, TAG.uidMap, TAG.gidMap, TAG.mount, TAG.mountMap],
  );
  assert.equal(hex(0), '0000001000');
  assert.equal(hex(2), '00000000a0860100e8030000');
  const mount = Buffer.from(records[4].payload);
  assert.deepEqual(
    [0, 36].map((at) => mount.readUInt32LE(at)),
    [MOUNT.bind | MOUNT.ownMap, 0x84000],
  );
  assert.deepEqual(
    [4, 12, 20, 28].map((at) => mount.readBigUInt64LE(at)),
    [1n, 0n, 0n, 0x70n],
  );
  assert.equal(mount.subarray(40).toString(), '/t\0/s\0\0');
  assert.equal(hex(5), '0000000000000000a0860100e8030000');
});
