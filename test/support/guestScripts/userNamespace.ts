/**
 * Runs inside the guest: containers with a user namespace on a kernel that has neither overlayfs
 * by options nor mapped tmpfs. The data root is the ext4 image at /app/files/disk.
 */
import { execFileSync } from 'node:child_process';
import { chownSync, cpSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { SystemClock } from '../../../base/clock.ts';
import { Ids } from '../../../base/id.ts';
import { createLog } from '../../../base/log.ts';
import { SystemRandom } from '../../../base/random.ts';
import { openContainerTable } from '../../../runtime/container/table.ts';
import type { ContainerConfig } from '../../../runtime/container/types.ts';
import { report } from '../guest.ts';
import { exec } from '../probeExec.ts';

const random = new SystemRandom();
const ids = new Ids(random);
const ROOT = '/var/lib/tsswarm';
const LAYER = `${ROOT}/layer`;
const range = [{ inside: 0, outside: 100_000, count: 65_536 }];

async function main(): Promise<void> {
  mkdirSync(ROOT, { recursive: true });
  execFileSync('/bin/mount', ['-t', 'ext4', '-o', 'loop', '/app/files/disk', ROOT]);
  mkdirSync(`${LAYER}/bin`, { recursive: true });
  mkdirSync(`${LAYER}/tmp`);
  mkdirSync(`${LAYER}/home`);
  chownSync(`${LAYER}/home`, 1000, 1000);
  cpSync('/app/files/probe', `${LAYER}/bin/probe`);
  mkdirSync('/run/secrets', { recursive: true });
  execFileSync('/bin/mount', ['-t', 'tmpfs', 'tmpfs', '/run/secrets']);
  writeFileSync('/run/secrets/one', 'secret\n', { mode: 0o400 });
  mkdirSync(`${ROOT}/volume`);
  writeFileSync(`${ROOT}/hosts`, '127.0.0.1 localhost\n');
  const table = await openContainerTable({
    dataRoot: ROOT,
    execRoot: '/run/tsswarm',
    cgroupParent: 'tsswarm',
    clock: new SystemClock(),
    random,
    log: createLog('warn', 1),
  });
  const config: ContainerConfig = {
    id: ids.container(),
    name: 'guest',
    labels: {},
    image: { reference: 'guest:latest', id: 'sha256:guest' },
    layers: [LAYER],
    args: ['/bin/probe', 'stubborn'],
    env: [],
    workingDir: '/',
    user: '',
    hostname: 'guest',
    hostsFile: `${ROOT}/hosts`,
    mounts: [
      { type: 'bind', source: `${ROOT}/volume`, target: '/volume', idMapped: true },
      {
        type: 'bind',
        source: '/run/secrets/one',
        target: '/run/secrets/one',
        idMapped: true,
        readOnly: true,
        copyable: true,
      },
    ],
    networkNamespace: 'new',
    resources: { memoryBytes: 64 << 20 },
    log: {},
    userNamespace: { uids: range, gids: range },
  };
  const container = await table.create(config);
  await container.start();
  const run = async (...args: string[]): Promise<string> => {
    const program = await container.exec(exec(args));
    let all = '';
    program.streams.stdout.on('data', (data) => {
      all += String(data);
    });
    program.streams.stderr.on('data', (data) => {
      all += String(data);
    });
    await program.wait();
    return all.trimEnd();
  };
  const found = {
    files: await run('stat', '/bin/probe', '/home', '/etc/hosts', '/run/secrets/one'),
    secret: await run('cat', '/run/secrets/one'),
    written: [await run('write', '/volume/file', 'x'), await run('write', '/tmp/file', 'y')],
    ownersOnDisk: [
      statSync(`${ROOT}/volume/file`).uid,
      statSync(`${ROOT}/containers/${config.id}/upper/tmp/file`).uid,
    ],
    map: await run('cat', '/proc/self/uid_map'),
    status: statSync(`/proc/${container.pid}/root/tmp/file`).uid,
    device: await run('device', '/dev/null'),
  };
  await container.remove();
  const left = readdirSync(`${ROOT}/containers`);
  await table.close();
  report({ ...found, left });
}

main().catch((error: unknown) => {
  report({ failed: error instanceof Error ? (error.stack ?? error.message) : String(error) });
});
