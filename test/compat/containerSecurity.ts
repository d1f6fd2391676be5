/** docker container create/run: who a container's processes are and what they may do. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { daemonPid } from '../../deploy/hosts/host.ts';
import { hostLayout } from '../../deploy/hosts/layout.ts';
import { until } from '../support/lab.ts';
import { CREATE } from './containerResources.ts';
import type { Suite } from './suite.ts';
import {
  BOX,
  boxed,
  docker,
  fileOf,
  namespaceOf,
  pidOf,
  procFile,
  refused,
  SLEEP,
  SOON_MS,
  within,
} from './world.ts';

const NET_ADMIN = 1n << 12n;
const CHOWN = 1n << 0n;

function statusOf(pid: number, name: string): string {
  return new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(procFile(pid, 'status'))?.[1].trim() ?? '';
}

const effective = (pid: number): bigint => BigInt(`0x${statusOf(pid, 'CapEff')}`);

export function containerSecurity(suite: Suite): void {
  rights(suite);
  namespaces(suite);
  suite.differs(
    CREATE,
    ['security-opt'],
    'all work; AppArmor profiles and SELinux labels where the kernel has such, else they are ' +
      'refused by name, as is a seccomp profile that hands calls to a listener (SCMP_ACT_NOTIFY); ' +
      'the default AppArmor profile is `tsswarm-default`, where apparmor_parser is installed',
  );
  suite.differs(CREATE, ['isolation'], 'only `default`: the others are of Windows');
  suite.differs(
    CREATE,
    ['runtime'],
    '`tsswarm`, and `runc` as another name for it: there is no second runtime',
  );
}

function rights(suite: Suite): void {
  suite.works(
    CREATE,
    ['cap-add', 'cap-drop', 'user', 'group-add', 'read-only', 'sysctl', 'security-opt'],
    'the kernel holds its process to the user, groups, capabilities and settings asked for',
    async () => {
      const flags = [
        ...['--cap-add', 'NET_ADMIN', '--cap-drop', 'CHOWN', '--group-add', '4321'],
        ...['--read-only', '--sysctl', 'net.ipv4.ip_default_ttl=44'],
        ...['--security-opt', 'no-new-privileges', '--security-opt', 'seccomp=unconfined'],
        ...['--security-opt', 'systempaths=unconfined'],
      ];
      await boxed('narrow', flags, SLEEP, async (pid) => {
        assert.equal(effective(pid) & NET_ADMIN, NET_ADMIN);
        assert.equal(effective(pid) & CHOWN, 0n);
        assert.ok(statusOf(pid, 'Groups').split(/\s+/).includes('4321'));
        assert.equal(statusOf(pid, 'NoNewPrivs'), '1');
        assert.equal(statusOf(pid, 'Seccomp'), '0');
        assert.match(procFile(pid, 'mountinfo'), / \/ \/ ro,/);
        assert.doesNotMatch(procFile(pid, 'mountinfo'), / \/proc\/keys /);
        assert.equal(await within(pid, 'cat', '/proc/sys/net/ipv4/ip_default_ttl'), '44');
      });
      const usual = ['--user', '1234:5678', '--security-opt', 'seccomp=builtin'];
      await boxed('plain', usual, SLEEP, async (pid) => {
        assert.match(procFile(pid, 'mountinfo'), / \/proc\/keys /);
        assert.match(statusOf(pid, 'Uid'), /^1234\s+1234\s/);
        assert.match(statusOf(pid, 'Gid'), /^5678\s+5678\s/);
        assert.equal(effective(pid), 0n);
        assert.equal(statusOf(pid, 'Seccomp'), '2');
      });
      const profile = join(mkdtempSync(join(tmpdir(), 'compat-seccomp-')), 'profile.json');
      const calls = [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 100 }];
      writeFileSync(profile, JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: calls }));
      const judged = ['container', 'run', '--rm', '--security-opt', `seccomp=${profile}`, BOX];
      await refused('h1', [...judged, 'mkdir', '/made'], /Network is down/);
      rmSync(dirname(profile), { recursive: true });
      const own = ['container', 'create', '--security-opt'];
      if (!existsSync('/sys/module/apparmor')) {
        await refused('h1', [...own, 'apparmor=mine', BOX], /"mine": .* has no AppArmor/);
      }
      if (!existsSync('/sys/fs/selinux/enforce')) {
        const label = [...own, 'label=type:mine_t', BOX];
        await refused('h1', label, /"system_u:system_r:mine_t:s0": .* has no SELinux/);
      }
      await refused('h1', [...own, 'label=colour:red', BOX], /use user:, role:, type:/);
    },
  );
  suite.works(CREATE, ['privileged'], 'it has every capability and device', () =>
    boxed('mighty', ['--privileged'], SLEEP, async (pid) => {
      const all = BigInt(`0x${/^CapBnd:\s*(\S+)/m.exec(hostStatus())?.[1] ?? ''}`);
      assert.equal(effective(pid), all);
      assert.equal(statusOf(pid, 'Seccomp'), '0');
      assert.equal(await within(pid, 'stat', '-c', '%t:%T', '/dev/kmsg'), '1:b');
    }),
  );
}

function hostStatus(): string {
  return readFileSync(`/proc/${hostPid()}/status`, 'utf8');
}

function hostPid(): number {
  const pid = daemonPid(hostLayout(1));
  assert.ok(pid !== undefined, 'the host’s daemon runs');
  return pid;
}

function namespaces(suite: Suite): void {
  suite.works(
    CREATE,
    ['pid', 'ipc', 'userns', 'uts', 'cgroupns', 'isolation', 'runtime'],
    'its namespaces are its own, or the host’s where that was asked for',
    async () => {
      const own = ['--ipc', 'private', '--cgroupns', 'private', '--userns', 'host'];
      await boxed(
        'apart',
        [...own, '--isolation', 'default', '--runtime', 'tsswarm'],
        SLEEP,
        (pid) => {
          for (const kind of ['pid', 'ipc', 'uts', 'cgroup', 'mnt', 'net']) {
            assert.notEqual(namespaceOf(pid, kind), namespaceOf(hostPid(), kind), kind);
          }
          assert.equal(namespaceOf(pid, 'user'), namespaceOf(hostPid(), 'user'));
          return Promise.resolve();
        },
      );
      const shared = ['--pid', 'host', '--ipc', 'host', '--uts', 'host', '--cgroupns', 'host'];
      await boxed('among', shared, SLEEP, (pid) => {
        for (const kind of ['pid', 'ipc', 'uts', 'cgroup']) {
          assert.equal(namespaceOf(pid, kind), namespaceOf(hostPid(), kind), kind);
        }
        return Promise.resolve();
      });
      await sharing();
      const create = ['container', 'create'];
      await refused('h1', [...create, '--pid', 'container:x', BOX], /No such container: x/);
      await refused('h1', [...create, '--runtime', 'kata', BOX], /HostConfig\.Runtime/);
    },
  );
}

/** One container in the namespaces of another. */
async function sharing(): Promise<void> {
  const join = ['--pid', 'container:lends', '--ipc', 'container:lends'];
  const create = ['container', 'create'];
  await boxed('lends', ['--ipc', 'shareable', '--shm-size', '2m'], SLEEP, async (lender) => {
    await boxed(
      'joins',
      join,
      ['sh', '-c', 'echo mine > /dev/shm/x; exec sleep 601'],
      async (pid) => {
        for (const kind of ['pid', 'ipc']) {
          assert.equal(namespaceOf(pid, kind), namespaceOf(lender, kind), kind);
        }
        assert.notEqual(namespaceOf(pid, 'uts'), namespaceOf(lender, 'uts'));
        assert.match(await within(lender, 'ps', '-o', 'args'), /sleep 601/);
        await until('its memory is the other’s', SOON_MS, () =>
          fileOf(lender, '/dev/shm/x') === 'mine\n' ? true : undefined,
        );
        assert.match(await within(pid, 'df', '/dev/shm'), / 2048 /);
        await docker('h1', 'exec', 'joins', 'true');
        await docker('h1', 'container', 'restart', '-t', '0', 'joins');
        assert.equal(namespaceOf(await pidOf('h1', 'joins'), 'pid'), namespaceOf(lender, 'pid'));
      },
    );
    await docker('h1', ...create, '--name', 'late', ...join, BOX, ...SLEEP);
    await docker('h1', 'container', 'stop', '-t', '0', 'lends');
    await refused('h1', ['start', 'late'], /cannot join the pid namespace of a non running/);
    await docker('h1', 'container', 'rm', 'late');
  });
  await boxed('keeps', ['--ipc', 'private'], SLEEP, async () => {
    const ipc = ['--ipc', 'container:keeps'];
    await refused('h1', [...create, ...ipc, BOX], /non-shareable IPC/);
  });
  await boxed('bare', ['--ipc', 'none'], SLEEP, (pid) => {
    assert.doesNotMatch(procFile(pid, 'mountinfo'), / \/dev\/shm /);
    assert.notEqual(namespaceOf(pid, 'ipc'), namespaceOf(hostPid(), 'ipc'));
    return Promise.resolve();
  });
}
