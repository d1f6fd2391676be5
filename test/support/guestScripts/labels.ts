/**
 * Runs inside the guest, whose kernel has AppArmor: programs that are given a profile, by the
 * launcher itself. There is no policy in there, so the profiles are the one that always is there
 * and one that is not.
 */
import { cpSync, mkdirSync, readFileSync } from 'node:fs';
import { SystemClock } from '../../../base/clock.ts';
import { TAG } from '../../../runtime/container/encode.ts';
import type { ContainerConfig } from '../../../runtime/container/types.ts';
import { Cgroups, findHierarchies } from '../../../runtime/sys/cgroup.ts';
import { readMounts } from '../../../runtime/sys/mount.ts';
import { report } from '../guest.ts';
import { DETACHED, Launcher, type Told } from '../launcher.ts';

const APPARMOR = 1;

function config(id: string): ContainerConfig {
  return {
    id,
    name: 'guest',
    labels: {},
    image: { reference: 'guest:latest', id: 'sha256:guest' },
    layers: ['/layer'],
    args: ['/bin/probe', 'sleep', '60'],
    env: [],
    workingDir: '/',
    user: '',
    hostname: 'guest',
    mounts: [],
    networkNamespace: 'new',
    resources: {},
    log: {},
  };
}

async function main(): Promise<void> {
  process.chdir('/app');
  mkdirSync('/layer/bin', { recursive: true });
  mkdirSync('/layer/tmp', { recursive: true });
  cpSync('/app/files/probe', '/layer/bin/probe');
  const launcher = new Launcher({
    options: {
      dataRoot: '/var/lib/tsswarm',
      execRoot: '/run/tsswarm',
      clock: new SystemClock(),
    },
    cgroups: new Cgroups(findHierarchies(readMounts()), 'tsswarm'),
  });
  const start = async (id: string, profile: string): Promise<Told> =>
    await launcher.start(
      launcher.spec(config(id.repeat(64)), DETACHED, [
        [TAG.user, '0:0'],
        [TAG.label, APPARMOR, profile],
      ]),
    );
  const absent = await start('a', 'no-such-profile');
  const there = await start('b', 'unconfined');
  report({
    enabled: readFileSync('/sys/module/apparmor/parameters/enabled', 'utf8').trim(),
    absent: absent.failure,
    unconfined: there.failure ?? readFileSync(`/proc/${there.pid}/attr/current`, 'utf8').trim(),
  });
}

main().catch((error: unknown) => report({ failed: String(error) }));
