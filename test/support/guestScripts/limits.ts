/**
 * Runs inside the cgroup v2 guest: containers of the real runtime under limits, and what became of
 * them. The prebuilt layer's program is at /app/files.
 */
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import type { Container } from '../../../runtime/container/types.ts';
import { writeTar } from '../../../runtime/image/tar.ts';
import { report } from '../guest.ts';
import { exec } from '../probeExec.ts';
import { MIB, openGuestHost } from './guestHost.ts';

async function main(): Promise<void> {
  const { table, config, run } = await openGuestHost();
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
  const copying = await limited.exec(exec(['copy', '7'], { stdin: true }));
  const execGroup = readFileSync(`/proc/${copying.pid}/cgroup`, 'utf8').trim().replace(/^0::/, '');
  copying.streams.stdin?.end('through');
  let execOutput = '';
  for await (const chunk of copying.streams.stdout) execOutput += String(chunk);
  const execCode = await copying.wait();
  const inGroups = await execAmongGroups(limited, group);
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
    inGroups,
    updatedCpuMax,
    memoryLimitBytes: stats.memoryLimitBytes,
    frozen,
    copied: [copied.name, copied.sizeBytes],
    changes,
    restarted,
  });
}

/** Into a container that has divided its group, as systemd and Docker do in theirs. */
async function execAmongGroups(container: Container, group: string): Promise<string> {
  mkdirSync(`${group}/init`);
  writeFileSync(`${group}/init/cgroup.procs`, String(container.pid));
  writeFileSync(`${group}/cgroup.subtree_control`, '+memory +pids');
  const reading = await container.exec(exec(['cat', '/proc/self/cgroup']));
  let output = '';
  for await (const chunk of reading.streams.stdout) output += String(chunk);
  await reading.wait();
  // One without groups again.
  writeFileSync(`${group}/cgroup.subtree_control`, '-memory -pids');
  writeFileSync(`${group}/cgroup.procs`, String(container.pid));
  rmdirSync(`${group}/init`);
  return output.trim();
}

main().catch((error: unknown) => {
  report({ failed: String(error), stack: error instanceof Error ? error.stack : '' });
});
