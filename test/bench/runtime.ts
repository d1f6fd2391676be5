/**
 * Run, exit and clean-up of `/bin/true` on one root with the same limits: through the runtime's own
 * API in one process, as the agent uses it, by `tsswarm-oci run`, and by Debian's crun where it is
 * installed; taking turns, then four at a time. The commands get no seccomp profile, the API's
 * containers have the default one. crun works in a mount namespace without the unified mount: it
 * refuses hosts with both kinds of control groups.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { MIB } from '../../base/bytes.ts';
import type { ContainerTable } from '../../runtime/container/types.ts';
import { OciBundle } from '../support/ociBundle.ts';
import { makeTestHost, type TestHost } from '../support/rootfs.ts';
import { type Figure, figure } from './report.ts';
import { clock } from './swarmClient.ts';

const ROUNDS = 100;
const WARM_ROUNDS = 10;
const AT_ONCE = 4;
const BATCHES = 10;
const A_BATCH = 40;
const MEMORY_BYTES = 64 * MIB;
const PIDS = 100;
const CRUN = '/usr/bin/crun';
const UNIFIED = '/sys/fs/cgroup/unified';
const MS_A_SECOND = 1000;
/** Reads an id a line, runs it, answers with the id and the exit code. */
const RUN_EACH =
  `[ ! -d ${UNIFIED} ] || umount ${UNIFIED}; ` +
  'while read -r id; do { "$@" "$id" </dev/null >/dev/null; echo "$id $?"; } & done; wait';

/** Runs one container whose name is of its own, from before it is made until nothing is left. */
type Run = (id: string) => Promise<void>;

export async function benchmark(): Promise<Figure[]> {
  const host = makeTestHost('bench-runtime');
  const bundle = new OciBundle('bench-runtime');
  const table = await host.open();
  bundle.configure((config) => {
    config.ociVersion = '1.0.2'; // as Debian's crun knows it
    config.process.args = ['/bin/true'];
    config.linux.resources = { memory: { limit: MEMORY_BYTES }, pids: { limit: PIDS } };
    // Containers made at the same time have groups of their own.
    delete config.linux.cgroupsPath;
  });
  const command = new Command([
    resolve('dist/tsswarm-oci'),
    ...['--root', bundle.stateRoot, 'run', '--bundle', bundle.dir],
  ]);
  const crun = existsSync(CRUN)
    ? new Command([CRUN, '--cgroup-manager=cgroupfs', 'run', '--bundle', bundle.dir])
    : undefined;
  const sides: { readonly name: string; readonly run: Run }[] = [
    { name: 'runtime API', run: byApi(host, table, join(bundle.dir, 'rootfs')) },
    { name: 'tsswarm-oci', run: command.run },
    ...(crun === undefined ? [] : [{ name: 'crun', run: crun.run }]),
  ];
  try {
    const alone = await inTurns(sides.map(({ run }) => run));
    const rates = await togetherInTurns(sides.map(({ run }) => run));
    const figures = sides.map(({ name }, at) =>
      figure(`run, exit, clean up: ${name}`, 'ms', alone[at], { text: '' }),
    );
    const median = (values: readonly number[]): number =>
      figure('', 'x', values, { text: '' }).median;
    if (crun !== undefined) {
      const part = alone[0].map((value) => value / median(alone[2]));
      const target = { text: '<= 0.6x crun', median: 0.6 };
      figures.push(figure('run, exit, clean up: runtime API to crun', 'x', part, target));
      const more = rates[0].map((value) => value / median(rates[2]));
      const least = { text: '>= 3x crun', least: 3 };
      figures.push(figure(`${AT_ONCE} at a time: runtime API to crun`, 'x', more, least));
    }
    for (const [at, { name }] of sides.entries()) {
      figures.push(figure(`${AT_ONCE} at a time: ${name}`, '/s', rates[at], { text: '' }));
    }
    return figures;
  } finally {
    await Promise.all([command.end(), crun?.end()]);
    bundle.end();
    await host.end(table);
  }
}

function byApi(host: TestHost, table: ContainerTable, root: string): Run {
  const resources = { memoryBytes: MEMORY_BYTES, pids: PIDS };
  return async () => {
    const container = await table.create(
      host.config(['/bin/true'], { layers: [root], resources, seccomp: 'default' }),
    );
    await container.start();
    const { exitCode } = await container.wait();
    if (exitCode !== 0) throw new Error(`the program ended with ${exitCode}`);
    await container.remove();
  };
}

/** A shell in a mount namespace of its own that runs a runtime's command for each id it is told. */
class Command {
  readonly #shell;
  readonly #waiting = new Map<string, (code: number) => void>();

  constructor(words: readonly string[]) {
    const args = ['-m', 'sh', '-c', RUN_EACH, 'sh', ...words];
    this.#shell = spawn('unshare', args, { stdio: ['pipe', 'pipe', 'inherit'] });
    createInterface({ input: this.#shell.stdout }).on('line', (line) => {
      const [id, code] = line.split(' ');
      this.#waiting.get(id)?.(Number(code));
      this.#waiting.delete(id);
    });
  }

  readonly run: Run = async (id) => {
    const code = await new Promise<number>((done) => {
      this.#waiting.set(id, done);
      this.#shell.stdin.write(`${id}\n`);
    });
    if (code !== 0) throw new Error(`${id} ended with ${code}`);
  };

  async end(): Promise<void> {
    const ended = once(this.#shell, 'close');
    this.#shell.stdin.end();
    await ended;
  }
}

/** Of each, the times of its runs in ms. */
async function inTurns(runs: readonly Run[]): Promise<number[][]> {
  const times: number[][] = runs.map(() => []);
  for (let round = -WARM_ROUNDS; round < ROUNDS; round += 1) {
    for (const [at, run] of runs.entries()) {
      const startMs = clock.nowMs();
      await run(`bench-${at}-${round + WARM_ROUNDS}`);
      if (round >= 0) times[at].push(clock.nowMs() - startMs);
    }
  }
  return times;
}

/** Of each, the containers a second of its batches. */
async function togetherInTurns(runs: readonly Run[]): Promise<number[][]> {
  const rates: number[][] = runs.map(() => []);
  for (let batch = 0; batch < BATCHES; batch += 1) {
    for (const [at, run] of runs.entries()) {
      const startMs = clock.nowMs();
      let next = 0;
      const one = async (): Promise<void> => {
        while (next < A_BATCH) {
          next += 1;
          await run(`bench-${at}-${batch}-${next}`);
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, one));
      rates[at].push((A_BATCH * MS_A_SECOND) / (clock.nowMs() - startMs));
    }
  }
  return rates;
}
