/**
 * SELinux's labels of programs and of mounts, on Debian's kernel with a policy of a few lines: what
 * a container is labelled with is what the kernel then judges it by.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { runInGuest } from '../support/guest.ts';
import { buildProbe } from '../support/rootfs.ts';
import { TOP } from '../tidy/sources.ts';

/** The kernel's own, in the order of their numbers. */
const INITIAL = (
  'kernel security unlabeled fs file file_labels init any_socket port netif netmsg node ' +
  'igmp_packet icmp_socket tcp_socket sysctl_modprobe sysctl sysctl_fs sysctl_kernel sysctl_net ' +
  'sysctl_net_unix sysctl_vm sysctl_dev kmod policy scmp_packet devnull'
).split(' ');
const each = (line: (name: string) => string): string => INITIAL.map(line).join('\n');
/**
 * A box may make and write files of the host's type and none of the data's; what classes and
 * permissions it does not name is allowed.
 */
const POLICY = `class process
class file
${each((name) => `sid ${name}`)}
class process { transition dyntransition setexec }
class file { create write entrypoint }
type host_t;
type box_t;
type data_t;
role r;
role r types { host_t box_t data_t };
allow host_t { host_t box_t }:process { transition dyntransition setexec };
allow box_t box_t:process { transition dyntransition setexec };
allow host_t { host_t data_t }:file { create write entrypoint };
allow box_t host_t:file { create write entrypoint };
user u roles r;
${each((name) => `sid ${name} u:r:host_t`)}
fs_use_trans tmpfs u:object_r:host_t;
fs_use_trans devtmpfs u:object_r:host_t;
genfscon proc / u:object_r:host_t
genfscon sysfs / u:object_r:host_t
`;

interface Ran {
  readonly code: number;
  readonly output: string;
}

interface Report {
  readonly failed?: string;
  readonly free: string;
  readonly boxed: string;
  readonly exec: string;
  readonly absent: string;
  readonly oci: {
    readonly label: Ran;
    readonly mount: Ran;
    readonly write: Ran;
    readonly own: Ran;
  };
}

function compiled(directory: string): string {
  execFileSync(join(TOP, 'deploy/fetch-package'), ['checkpolicy', directory], { stdio: 'ignore' });
  const [source, policy] = [join(directory, 'policy.conf'), join(directory, 'policy')];
  writeFileSync(source, POLICY);
  const compiler = join(directory, 'usr/bin/checkpolicy');
  execFileSync(compiler, ['-U', 'allow', '-o', policy, source], { stdio: 'ignore' });
  return policy;
}

test('programs and mounts have the SELinux labels asked for, and are judged by them', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'tsswarm-selinux-'));
  try {
    const probe = join(directory, 'probe');
    buildProbe(probe);
    const found = await runInGuest<Report>(
      'test/support/guestScripts/selinux.js',
      { probe, policy: compiled(directory) },
      { parameters: ['security=selinux', 'selinux=1'] },
    );
    assert.equal(found.failed, undefined, JSON.stringify(found));
    assert.deepEqual(
      [found.free, found.boxed, found.exec],
      ['u:r:host_t', 'u:r:box_t', 'u:r:box_t'],
    );
    assert.match(found.absent, /cannot apply the SELinux label "u:r:nothing_t": Invalid argument/);
    const { label, mount, write, own } = found.oci;
    assert.equal(label.output.replace('\0', '').trim(), 'u:r:box_t', label.output);
    assert.match(mount.output, /^tmpfs \/data tmpfs \S*\bcontext="?u:object_r:data_t"?/m);
    assert.match(mount.output, /^proc \/proc proc (?!\S*context)/m);
    assert.match(write.output, /\/data\/file: Permission denied/);
    assert.deepEqual(own, { code: 0, output: '' });
  } finally {
    rmSync(directory, { recursive: true });
  }
});
