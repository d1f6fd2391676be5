/**
 * Runs inside the cgroup v2 guest, with a disk (vda) and room to swap (vdb): each kind of limit on
 * a real program, of containers and of the OCI command, and what the program and the kernel's
 * counters say of it.
 */
import { closeSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { messageOf } from '../../../base/errors.ts';
import type { Container, ContainerResources } from '../../../runtime/container/types.ts';
import { Cgroups, findHierarchies } from '../../../runtime/sys/cgroup.ts';
import { define } from '../../../runtime/sys/libc.ts';
import { readMounts } from '../../../runtime/sys/mount.ts';
import { report } from '../guest.ts';
import { until } from '../until.ts';
import { makeBundle, runBundle } from './guestBundle.ts';
import { type GuestHost, groupOf, LAYER, logOf, MIB, openGuestHost, PARENT } from './guestHost.ts';

const DISK = '/dev/vda';
const SWAP = '/dev/vdb';
const SWAP_PAGES = 16_384;
const PAGE_BYTES = 4096;
const RATE = 1024 * 1024;
const PERIOD_NS = 100_000_000;
const THROTTLED_PERIODS = 15;
const SHARED_NS = 1_500_000_000;
const WAIT_MS = 120_000;

const read = (path: string): string => readFileSync(path, 'utf8').trim();
const keyOf = (path: string, key: string): number =>
  Number(new RegExp(`^${key} (\\d+)$`, 'm').exec(read(path))?.[1]);

/** mkswap(8) and swapon(2). */
function makeSwap(): void {
  const page = Buffer.alloc(PAGE_BYTES);
  page.writeUInt32LE(1, 1024);
  page.writeUInt32LE(SWAP_PAGES - 1, 1028);
  page.write('SWAPSPACE2', PAGE_BYTES - 10);
  const fd = openSync(SWAP, 'r+');
  writeSync(fd, page);
  closeSync(fd);
  const swapon = define<(path: string, flags: number) => number>(
    '',
    'int swapon(const char *path, int flags)',
  );
  if (swapon(SWAP, 0) !== 0) throw new Error('no swap');
}

async function memory({ run, start }: GuestHost): Promise<object> {
  const before = keyOf('/proc/vmstat', 'pswpout');
  const swapped = await run(['allocate', '48'], {
    resources: { memoryBytes: 24 * MIB, memorySwapBytes: 96 * MIB },
  });
  const pagesOut = keyOf('/proc/vmstat', 'pswpout') - before;
  const tooMuch = await run(['allocate', '48'], {
    resources: { memoryBytes: 24 * MIB, memorySwapBytes: 32 * MIB },
  });
  const soft = await start(['sleep', '60'], {
    resources: { memoryBytes: 64 * MIB, memoryReservationBytes: 16 * MIB, memorySwappiness: 10 },
  });
  const low = read(`${groupOf(soft)}/memory.low`);
  const cgroups = new Cgroups(findHierarchies(readMounts()), PARENT);
  const refused = messageFrom(() =>
    cgroups.update(soft.config.id, { memory: { limit: 4096, checkBeforeUpdate: true } }),
  );
  const unchanged = read(`${groupOf(soft)}/memory.max`);
  await soft.update({ memoryBytes: 32 * MIB, memorySwapBytes: -1 });
  const updated = [read(`${groupOf(soft)}/memory.max`), read(`${groupOf(soft)}/memory.swap.max`)];
  await soft.remove();
  return {
    swapped: swapped.exit.exitCode,
    pagesOut,
    tooMuch: [tooMuch.exit.exitCode, tooMuch.exit.oomKilled],
    low,
    notes: soft.notes,
    refused,
    unchanged,
    updated,
  };
}

function messageFrom(work: () => unknown): string {
  try {
    work();
    return 'not refused';
  } catch (error) {
    return messageOf(error);
  }
}

async function processor({ run, start }: GuestHost): Promise<object> {
  const throttled = await start(['spin', '0'], { resources: { nanoCpus: 200_000_000 } });
  const used = await until('it has been throttled for a while', WAIT_MS, async () => {
    const stats = await throttled.detailedStats();
    return stats.throttledPeriods >= THROTTLED_PERIODS && stats;
  });
  await throttled.remove();
  // Both want all of one processor.
  const sharing = (cpuShares: number): Promise<Container> =>
    start(['spin', '0'], { resources: { cpuShares, cpusetCpus: '0' } });
  const [heavy, light] = [await sharing(8192), await sharing(256)];
  const weights = [heavy, light].map((one) => read(`${groupOf(one)}/cpu.weight`));
  const start0 = [await heavy.stats(), await light.stats()];
  const end0 = await until('one has used a second of it', WAIT_MS, async () => {
    const now = [await heavy.stats(), await light.stats()];
    return now[0].cpuNs - start0[0].cpuNs >= SHARED_NS && now;
  });
  const times = start0.map(({ cpuNs }, at) => end0[at].cpuNs - cpuNs);
  await heavy.remove();
  await light.remove();
  const status = await run(['cat', '/proc/self/status'], { resources: { cpusetCpus: '1' } });
  return {
    throttledPeriods: used.throttledPeriods,
    // Of the periods it ran in: the emulated clock and ours are not the same.
    share: used.cpuNs / (used.periods * PERIOD_NS),
    weights,
    times,
    allowed: /^Cpus_allowed_list:\s*(.*)$/m.exec(status.output)?.[1],
  };
}

async function disk({ run, start }: GuestHost): Promise<object> {
  writeFileSync('/sys/block/vda/queue/scheduler', 'bfq');
  const devices = [{ hostPath: DISK, containerPath: DISK, permissions: 'rw' }];
  const moved = async (args: readonly string[], resources: ContainerResources = {}) => {
    const { output } = await run(args, { devices, resources });
    return { output, ms: Number(/ in (\d+) ms/.exec(output)?.[1]) };
  };
  const rate = (way: 'read' | 'write', unit: 'bytes' | 'operations', perSecond: number) => {
    return { deviceRates: [{ way, unit, device: DISK, perSecond }] };
  };
  const free = await moved(['read', DISK, '4096']);
  const readBytes = await moved(['read', DISK, '4096'], rate('read', 'bytes', RATE));
  const written = await moved(['fill', DISK, '3072'], rate('write', 'bytes', RATE));
  const operations = await moved(['read', DISK, '1600'], rate('read', 'operations', 40));
  const weighted = await start(['sleep', '60'], {
    resources: { blkioWeight: 750, blkioDeviceWeights: [{ device: DISK, weight: 300 }] },
  });
  const weights = read(`${groupOf(weighted)}/io.bfq.weight`).split('\n');
  await weighted.remove();
  return { free, readBytes, written, operations, weights };
}

/** Resolves with the length of its log once that is beyond `than`. */
function logGrows(container: Container, than: number): Promise<number> {
  return until('its log to grow', WAIT_MS, async () => {
    const { length } = await logOf(container);
    return length > than && length;
  });
}

async function life({ start }: GuestHost): Promise<object> {
  const [ticking, witness] = [await start(['ticks', '0']), await start(['ticks', '0'])];
  await logGrows(ticking, 0);
  await ticking.pause();
  const frozen = read(`${groupOf(ticking)}/cgroup.events`);
  const before = (await logOf(ticking)).length;
  // So long that it would have said more: another one that is not frozen has.
  let said = (await logOf(witness)).length;
  for (let times = 0; times < 5; times += 1) said = await logGrows(witness, said);
  const after = (await logOf(ticking)).length;
  await ticking.resume();
  const resumed = await logGrows(ticking, after);
  await witness.remove();
  await ticking.pause();
  const { signal } = await ticking.stop(0);
  await ticking.remove();
  return { frozen, before, after, resumed, signal };
}

/** A number no driver has: what is allowed there finds nothing, instead of being refused. */
async function devices({ run }: GuestHost): Promise<object> {
  const output = async (...rules: { readonly access: string }[]): Promise<string> => {
    const deviceRules = rules.map(({ access }) => {
      return { type: 'char', major: 1, minor: 12, access } as const;
    });
    return (await run(['mknod', '1', '12'], { deviceRules })).output.trim();
  };
  return {
    none: await output(),
    read: await output({ access: 'r' }),
    all: await output({ access: 'rw' }),
  };
}

/** The OCI command on a bundle, with the resources that no option of Docker's gives. */
function oci(resources: object, args: readonly string[]): { code: number; output: string } {
  // Of the run before: the root is the layer itself.
  rmSync(`${LAYER}/tmp/device`, { force: true });
  return runBundle(args, (config) => {
    for (const set of ['bounding', 'effective', 'permitted']) {
      config.process.capabilities[set].push('CAP_MKNOD');
    }
    config.linux.cgroupsPath = '/pods/one/box';
    config.linux.resources = resources;
  });
}

function ociResources(): object {
  makeBundle();
  writeFileSync('/proc/sys/vm/nr_hugepages', '8');
  const base = '/sys/fs/cgroup';
  const files = [
    ...['memory.high', 'memory.max', 'memory.low', 'cpu.max', 'cpu.max.burst', 'cpu.idle'],
    ...['pids.max', 'hugetlb.2MB.max', 'hugetlb.2MB.rsvd.max'],
  ];
  const written = oci(
    {
      memory: { limit: 64 * MIB, reservation: 8 * MIB },
      cpu: { quota: 60_000, period: 120_000, burst: 20_000, idle: 1 },
      pids: { limit: 50 },
      hugepageLimits: [{ pageSize: '2MB', limit: 4 * MIB }],
      unified: { 'memory.high': String(48 * MIB), 'pids.max': '30' },
    },
    ['cat', ...files.map((file) => `${base}/${file}`)],
  );
  return {
    written,
    forks: oci({ unified: { 'pids.max': '6' } }, ['forks', '20']),
    huge: [1, 4].map((count) =>
      oci({ hugepageLimits: [{ pageSize: '2MB', limit: 4 * MIB }] }, ['huge', String(count)]),
    ),
    noController: oci({ unified: { 'foo.bar': '1' } }, ['echo', 'x']),
    noKey: oci({ unified: { 'memory.DOESNTEXIST': '1' } }, ['echo', 'x']),
    devices: [12, 13].map((minor) =>
      oci(
        {
          devices: [
            { allow: false, access: 'rwm' },
            { allow: true, type: 'c', access: 'rw' },
            { allow: false, type: 'c', major: 1, minor: 12, access: 'w' },
          ],
        },
        ['mknod', '1', String(minor)],
      ),
    ),
  };
}

const PARTS: Readonly<Record<string, (host: GuestHost) => object | Promise<object>>> = {
  memory,
  processor,
  disk,
  life,
  devices,
  oci: ociResources,
};

async function main(): Promise<void> {
  makeSwap();
  const host = await openGuestHost();
  const found: Record<string, unknown> = {};
  const failed: string[] = [];
  for (const [name, part] of Object.entries(PARTS)) {
    try {
      found[name] = await part(host);
    } catch (error) {
      failed.push(`${name}: ${error instanceof Error ? error.stack : messageOf(error)}`);
    }
  }
  await host.table.close();
  report({ ...found, ...(failed.length === 0 ? {} : { failed: failed.join('; ') }) });
}

main().catch((error: unknown) => {
  report({ failed: messageOf(error) });
});
