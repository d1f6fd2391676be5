/** What init and join say of a kernel that lacks something, with the probes' outcomes injected. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode } from '../../base/errors.ts';
import { missingFeatures, type RunProbe, requireKernel } from '../../daemon/kernel.ts';

/** Fails the probes whose script has `part`, as execFile does. */
function lacking(part: string, stderr: string): RunProbe {
  return async (script) => {
    if (script.includes(part)) throw new Error(`Command failed: unshare ${part}\n${stderr}\n`);
  };
}

test('a kernel with everything is told nothing of', async () => {
  assert.deepEqual(await missingFeatures(async () => {}), []);
  await requireKernel(async () => {});
});

for (const [part, stderr, line] of [
  [
    'overlay',
    'unknown filesystem type',
    /^this kernel lacks overlayfs \(unknown.*\): load it with/,
  ],
  ['type vxlan', 'Unknown device type.', /^this kernel lacks VXLAN .*modprobe vxlan/],
  [
    'type veth',
    'Unknown device type.',
    /^this kernel lacks virtual Ethernet pairs .*modprobe veth/,
  ],
  ['nft ', 'Could not process rule', /^this kernel lacks nftables with NAT .*modprobe nf_tables/],
  ['cgroup.controllers', '', /^this kernel lacks the memory, cpu and pids cgroup controllers: /],
  [
    '--pid',
    'unshare failed',
    /^this kernel lacks pid, ipc, uts and cgroup namespaces .*CONFIG_NAM/,
  ],
] as const) {
  test(`a kernel without what "${part}" probes is refused by the feature's name`, async () => {
    const lines = await missingFeatures(lacking(part, stderr));
    assert.equal(lines.length, 1, lines.join('\n'));
    assert.match(lines[0], line);
    assert.doesNotMatch(lines[0], /\n/);
    await assert.rejects(requireKernel(lacking(part, stderr)), (error) =>
      hasCode(error, 'unsupported'),
    );
  });
}

test('a command that is not installed is told as that, once, with its package', async () => {
  const lines = await missingFeatures(lacking('ip link', 'sh: 1: ip: not found'));
  assert.deepEqual(lines, ['this host lacks the command "ip": install iproute2']);
  const none = await missingFeatures(async () => {
    throw new Error('spawn unshare ENOENT');
  });
  assert.deepEqual(none, ['this host lacks the command "unshare": install util-linux']);
});
