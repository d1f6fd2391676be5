/** `npm run bench`: runs benchmarks by name, prints the table and writes dist/bench.json. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '../../base/errors.ts';
import { TOP } from '../tidy/sources.ts';
import { type Figure, machine, table } from './report.ts';

type Benchmark = () => Promise<Figure[]>;

const BENCHMARKS: Readonly<Record<string, () => Promise<{ benchmark: Benchmark }>>> = {
  start: () => import('./start.ts'),
  runtime: () => import('./runtime.ts'),
  replicas: () => import('./replicas.ts'),
  restart: () => import('./restart.ts'),
  failover: () => import('./failover.ts'),
  memory: () => import('./memory.ts'),
  command: () => import('./command.ts'),
  reach: () => import('./reach.ts'),
  writes: () => import('./writes.ts'),
  containers: () => import('./containers.ts'),
  exec: () => import('./exec.ts'),
  firehose: () => import('./firehose.ts'),
  idle: () => import('./idle.ts'),
  thousand: () => import('./thousand.ts'),
  pull: () => import('./pull.ts'),
  overlay: () => import('./overlay.ts'),
  scheduler: () => import('./scheduler.ts'),
  update: () => import('./update.ts'),
  state: () => import('./state.ts'),
  calm: () => import('./calm.ts'),
  store: () => import('./store.ts'),
};

/** Takes more than ten minutes: only when named. */
const LONG = new Set(['calm', 'store']);

async function main(names: readonly string[]): Promise<void> {
  if (names[0] === 'list') {
    process.stdout.write(`${Object.keys(BENCHMARKS).join('\n')}\n`);
    return;
  }
  const unknown = names.find((name) => BENCHMARKS[name] === undefined);
  if (unknown !== undefined) throw new Error(`no benchmark "${unknown}": bench list names them`);
  const chosen = names.length > 0 ? names : Object.keys(BENCHMARKS).filter((n) => !LONG.has(n));
  const figures: Figure[] = [];
  for (const name of chosen) {
    process.stderr.write(`bench: ${name}\n`);
    figures.push(...(await (await BENCHMARKS[name]()).benchmark()));
  }
  process.stdout.write(`${JSON.stringify(machine())}\n\n${table(figures)}\n`);
  const file = join(TOP, 'dist', 'bench.json');
  writeFileSync(file, `${JSON.stringify({ machine: machine(), figures }, null, 2)}\n`);
}

main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`bench: ${messageOf(error)}\n`);
  process.exitCode = 1;
});
