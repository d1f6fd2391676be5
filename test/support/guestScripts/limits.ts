/**
 * Runs inside the cgroup v2 guest: containers of the real runtime under limits, and what became of
 * them. The prebuilt layer's program is at /app/files.
 */
import { cpSync, mkdirSync, readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { SystemClock } from '../../../base/clock.ts';
import { Ids } from '../../../base/id.ts';
import { createLog } from '../../../base/log.ts';
import { SystemRandom } from '../../../base/random.ts';
import { openContainerTable } from '../../../runtime/container/table.ts';
import type { Container, ContainerConfig } from '../../../runtime/container/types.ts';
import { writeTar } from '../../../runtime/image/tar.ts';
import { report } from '../guest.ts';

const clock = new SystemClock();
const random = new SystemRandom();
const ids = new Ids(random);
const MIB = 1024 * 1024;

function config(args: readonly string[], extra: Partial<ContainerConfig> = {}): ContainerConfig {
  return {
    id: ids.container(),
    name: 'guest',
    labels: {},
    image: { reference: 'guest:latest', id: 'sha256:guest' },
    layers: ['/layer'],
    args: ['/bin/probe', ...args],
    env: [],
    workingDir: '/',
    user: '',
    hostname: 'guest',
    mounts: [],
    networkNamespace: 'new',
    resources: {},
    log: {},
    ...extra,
  };
}

async function text(container: Container): Promise<string> {
  let all = '';
  for await (const record of container.logs({})) all += `${Buffer.from(record.data).toString()}\n`;
  return all;
}

async function main(): Promise<void> {
  const program = process.argv[2] ?? '/app/files/probe';
  mkdirSync('/layer/bin', { recursive: true });
  mkdirSync('/layer/tmp', { recursive: true });
  cpSync(program, '/layer/bin/probe');
  const table = await openContainerTable({
    dataRoot: '/var/lib/tsswarm',
    execRoot: '/run/tsswarm',
    cgroupParent: 'tsswarm',
    clock,
    random,
    log: createLog('warn', 1),
  });
  const run = async (args: readonly string[], extra: Partial<ContainerConfig> = {}) => {
    const container = await table.create(config(args, extra));
    await container.start();
    const exit = await container.wait();
    return { exit, output: await text(container) };
  };
  const plain = await run(['echo', 'hello']);
  const memory = await run(['allocate', '64'], { resources: { memoryBytes: 24 * MIB } });
  const enough = await run(['allocate', '16'], { resources: { memoryBytes: 64 * MIB } });
  const pids = await run(['forks', '20'], { resources: { pids: 8 } });

  const limited = await table.create(
    config(['sleep', '60'], { resources: { nanoCpus: 500_000_000, cpuShares: 512 } }),
  );
  await limited.start();
  const own = readFileSync(`/proc/${limited.pid}/cgroup`, 'utf8').trim().replace(/^0::/, '');
  const group = `/sys/fs/cgroup${own}`;
  const cpuMax = readFileSync(`${group}/cpu.max`, 'utf8').trim();
  const cpuWeight = readFileSync(`${group}/cpu.weight`, 'utf8').trim();
  const exec = await limited.exec({
    args: ['/bin/probe', 'copy', '7'],
    env: [],
    workingDir: '',
    user: '',
    tty: false,
    privileged: false,
    stdin: true,
  });
  const execGroup = readFileSync(`/proc/${exec.pid}/cgroup`, 'utf8').trim().replace(/^0::/, '');
  exec.streams.stdin?.end('through');
  let execOutput = '';
  for await (const chunk of exec.streams.stdout) execOutput += String(chunk);
  const execCode = await exec.wait();
  await limited.update({ nanoCpus: 250_000_000, memoryBytes: 32 * MIB });
  const updatedCpuMax = readFileSync(`${group}/cpu.max`, 'utf8').trim();
  const stats = await limited.detailedStats();
  await limited.pause();
  const frozen = readFileSync(`${group}/cgroup.events`, 'utf8').includes('frozen 1');
  const stopped = await limited.stop(0);
  // Not running: its layers are mounted for the copy, on this kernel in the old way.
  await limited.writeArchive(
    '/tmp',
    Readable.from(writeTar([{ name: 'copied', body: Buffer.from('text') }]), { objectMode: false }),
    { noOverwriteDirNonDir: false, copyUidGid: false },
  );
  const copied = await limited.statPath('/tmp/copied');
  const changes = await limited.changes();
  await limited.start();
  const restarted = limited.state;
  for (const container of table.list()) await container.remove();
  await table.close();
  report({
    plain,
    memory,
    enough,
    pids,
    cpuMax,
    cpuWeight,
    own,
    stopped: stopped.signal,
    exec: { group: execGroup, output: execOutput, code: execCode },
    updatedCpuMax,
    memoryLimitBytes: stats.memoryLimitBytes,
    frozen,
    copied: [copied.name, copied.sizeBytes],
    changes,
    restarted,
  });
}

main().catch((error: unknown) => {
  report({ failed: String(error), stack: error instanceof Error ? error.stack : '' });
});
