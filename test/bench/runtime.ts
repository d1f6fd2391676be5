/**
 * Run, exit and clean-up of `/bin/true` with the same root, limits and rules: through the runtime's
 * own API in one process, as the agent uses it, by `tsswarm-oci run`, and by Debian's crun where it
 * is installed; taking turns, then four at a time. The same means:
 *   - a writable overlay on the same layer, made and removed by each run. The commands get it from
 *     engine.c, which does for them what an engine has to do and nothing else: no shell, no copy.
 *   - memory and pids limited, and the default list of devices, in every cgroup v1 hierarchy;
 *     namespaces, mounts, masks, capabilities and sysctls of a default container (engine.ts).
 *   - the default seccomp profile. Ours is compiled once and kept; crun 1.8.1 as Debian builds it
 *     compiles it with libseccomp for each container, so both are shown without one, too.
 *   - the process with the API is told of V8 what a daemon is (daemon/v8).
 *   - all files on one tmpfs: how long a disk's file system takes to make and remove a dozen files
 *     is no runtime's doing (ext4 without a journal looks at every file removed in the last 35 s
 *     before it makes one).
 * What remains different: the API also takes the program's output through pipes into a log, leaves
 * a durable exit record and stays with the container through a supervisor, so that it can be
 * attached to, paused and found again; of the command it is one `run`, where engines use `create`,
 * `start` and `delete`, and its output is /dev/null. crun does not see the v2 mount (it refuses
 * hosts with both kinds of groups) and so has v1's freezer instead.
 * Processor time is that of all processes of a run, the kernel's own threads not among them. What
 * the kernel alone takes for such a container (kernelPart.c) is shown as the bound of all of them.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { MIB } from '../../base/bytes.ts';
import { collectAlone, compileSoon } from '../../daemon/v8.ts';
import type { ContainerTable } from '../../runtime/container/types.ts';
import { OciBundle } from '../support/ociBundle.ts';
import { makeTestHost, type TestHost } from '../support/rootfs.ts';
import { buildEngine, dockerConfig, Engine } from './engine.ts';
import { type Figure, figure } from './report.ts';
import { clock } from './swarmClient.ts';

const ROUNDS = 100;
const WARM_ROUNDS = 10;
const AT_ONCE = 4;
const BATCHES = 10;
const A_BATCH = 40;
const LIMITS = { memoryBytes: 64 * MIB, pids: 100 };
const PROGRAM = ['/bin/true'];
const CRUN = '/usr/bin/crun';
const UNIFIED = '/sys/fs/cgroup/unified';
const MS_A_SECOND = 1000;
const NS_A_MS = 1e6;

/** One way to run a container. */
interface Side {
  readonly name: string;
  /** One whose name is of its own, from before it is made until nothing is left. */
  run(id: string): Promise<void>;
  /** Processor time of all so far. */
  usedMs(): Promise<number>;
  end(): Promise<void>;
}

export async function benchmark(): Promise<Figure[]> {
  const disk = mkdtempSync(join(tmpdir(), 'bench-runtime-'));
  execFileSync('mount', ['-t', 'tmpfs', 'bench-runtime', disk]);
  const usual = process.env.TMPDIR;
  process.env.TMPDIR = disk; // where a test host and a bundle make their directories
  try {
    return await measured();
  } finally {
    if (usual === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = usual;
    execFileSync('umount', [disk]);
    rmdirSync(disk);
  }
}

async function measured(): Promise<Figure[]> {
  compileSoon();
  collectAlone();
  const host = makeTestHost('bench-runtime');
  const bundle = new OciBundle('bench-runtime');
  const root = join(bundle.dir, 'rootfs');
  // As images have them: else each run would make them in its writable layer.
  for (const name of ['dev', 'proc', 'sys']) mkdirSync(join(root, name));
  const table = await host.open();
  const sides = [byApi(host, table, root, true), ...commands(host, root)];
  sides.push(byApi(host, table, root, false));
  try {
    const alone = await inTurns(sides);
    const together = await togetherInTurns(sides);
    return [...figures(sides, alone, together)];
  } finally {
    await Promise.all(sides.map((side) => side.end()));
    bundle.end();
    await host.end(table);
  }
}

function* figures(
  sides: readonly Side[],
  alone: readonly (readonly number[])[],
  together: readonly Together[],
): Generator<Figure> {
  for (const [at, { name }] of sides.entries()) {
    yield figure(`run, exit, clean up: ${name}`, 'ms', alone[at], { text: '' });
  }
  for (const [at, { name }] of sides.entries()) {
    yield figure(`${AT_ONCE} at a time: ${name}`, '/s', together[at].rates, { text: '' });
  }
  for (const [at, { name }] of sides.entries()) {
    yield figure(`processor time: ${name}`, 'ms', together[at].usedMs, { text: '' });
  }
  const of = (wanted: string): number => sides.findIndex(({ name }) => name === wanted);
  for (const suffix of ['', NO_FILTER]) {
    const [ours, theirs] = [of(`runtime API${suffix}`), of(`crun${suffix}`)];
    if (theirs < 0) continue;
    const compared = (values: readonly number[], peer: readonly number[]): number[] => {
      const { median } = figure('', 'x', peer, { text: '' });
      return values.map((value) => value / median);
    };
    const isTarget = suffix === '';
    yield figure(
      `run, exit, clean up: runtime API to crun${suffix}`,
      'x',
      compared(alone[ours], alone[theirs]),
      isTarget ? { text: '<= 0.6x crun', median: 0.6 } : { text: '' },
    );
    yield figure(
      `${AT_ONCE} at a time: runtime API to crun${suffix}`,
      'x',
      compared(together[ours].rates, together[theirs].rates),
      isTarget ? { text: '>= 3x crun', least: 3 } : { text: '' },
    );
  }
}

const NO_FILTER = ', no filter';

/** Both ways of crun and ours, in directories of their own below `dir`. */
function commands({ dir, options, cgroups, cgroupParent }: TestHost, root: string): Side[] {
  const program = join(dir, 'engine');
  buildEngine(program);
  const filtered = join(dir, 'filtered.json');
  const free = join(dir, 'free.json');
  writeFileSync(filtered, JSON.stringify(dockerConfig(PROGRAM, LIMITS, true)));
  writeFileSync(free, JSON.stringify(dockerConfig(PROGRAM, LIMITS, false)));
  const side = (
    name: string,
    config: string,
    hidden: string | undefined,
    words: readonly string[],
  ): Side => {
    const own = join(dir, name.replaceAll(/\W+/g, '-'));
    const state = ['--root', join(options.execRoot, basename(own)), 'run'];
    const command = words[0] === 'kernel' ? words : [...words, ...state];
    const engine = new Engine(program, own, root, config, hidden, command);
    const end = async (): Promise<void> => {
      await engine.end();
      rmSync(own, { recursive: true });
    };
    return { name, end, run: (id) => engine.run(id), usedMs: () => engine.usedMs() };
  };
  const hierarchies = cgroups.hierarchies.map(
    ({ version, controllers, path }) => `${version === 2 ? '' : controllers.join()}=${path}`,
  );
  const crun = [CRUN, '--cgroup-manager=cgroupfs'];
  return [
    side('tsswarm-oci', filtered, undefined, [resolve('dist/tsswarm-oci')]),
    ...(existsSync(CRUN)
      ? [side('crun', filtered, UNIFIED, crun), side(`crun${NO_FILTER}`, free, UNIFIED, crun)]
      : []),
    side('the kernel alone', free, undefined, ['kernel', cgroupParent, ...hierarchies]),
  ];
}

function byApi(host: TestHost, table: ContainerTable, root: string, withFilter: boolean): Side {
  const seccomp = withFilter ? 'default' : 'unconfined';
  return {
    name: `runtime API${withFilter ? '' : NO_FILTER}`,
    async run() {
      const container = await table.create(
        host.config(PROGRAM, { layers: [root], resources: LIMITS, seccomp }),
      );
      await container.start();
      const { exitCode } = await container.wait();
      if (exitCode !== 0) throw new Error(`the program ended with ${exitCode}`);
      await container.remove();
    },
    async usedMs() {
      const { user, system } = process.cpuUsage();
      // Shims' and containers' are counted where their groups were.
      const { cpuNs } = host.cgroups.stats(`/${host.cgroupParent}`);
      return (user + system) / MS_A_SECOND + cpuNs / NS_A_MS;
    },
    async end() {},
  };
}

/** Of each, the times of its runs in ms. */
async function inTurns(sides: readonly Side[]): Promise<number[][]> {
  const times: number[][] = sides.map(() => []);
  for (let round = -WARM_ROUNDS; round < ROUNDS; round += 1) {
    for (const [at, side] of sides.entries()) {
      const startMs = clock.nowMs();
      await side.run(`bench-${at}-${round + WARM_ROUNDS}`);
      if (round >= 0) times[at].push(clock.nowMs() - startMs);
    }
  }
  return times;
}

interface Together {
  /** Containers a second, of each batch. */
  readonly rates: number[];
  /** Processor time of a run, of each batch. */
  readonly usedMs: number[];
}

async function togetherInTurns(sides: readonly Side[]): Promise<Together[]> {
  const found: Together[] = sides.map(() => ({ rates: [], usedMs: [] }));
  for (let batch = 0; batch < BATCHES; batch += 1) {
    for (const [at, side] of sides.entries()) {
      const usedMs = await side.usedMs();
      const startMs = clock.nowMs();
      let next = 0;
      const one = async (): Promise<void> => {
        while (next < A_BATCH) {
          next += 1;
          await side.run(`bench-${at}-${batch}-${next}`);
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, one));
      found[at].rates.push((A_BATCH * MS_A_SECOND) / (clock.nowMs() - startMs));
      found[at].usedMs.push(((await side.usedMs()) - usedMs) / A_BATCH);
    }
  }
  return found;
}
