/**
 * `npm run mutants -- [--seeds N] [--ticks T] [--only NAME,...] [--jobs J]`: plants one bug after
 * another in a copy of the product and looks whether the simulation, or the replays of etcd's
 * conversations (RAFT_CHECKOUT), notice. A seed that catches one must hold without it. Prints a
 * table; exits with 1 if any survives.
 */
import { parseArgs } from 'node:util';
import { SystemClock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import { MUTANTS } from './all.ts';
import { huntByReplays, huntBySimulation, type SimulatedFind } from './hunt.ts';
import { type Mutant, planted } from './mutant.ts';
import { ROOT, Workshop } from './workshop.ts';

const USAGE = `usage: npm run mutants -- [--seeds N] [--ticks T] [--only NAME,...] [--jobs J]
  J: so many at a time
  RAFT_CHECKOUT=DIR: a checkout of etcd-io/raft, whose conversations are replayed too`;

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '150' },
    ticks: { type: 'string', default: '400' },
    only: { type: 'string', default: '' },
    jobs: { type: 'string', default: '1' },
    help: { type: 'boolean', default: false },
  },
});
/** What the replays have caught is caught: that many only show whether the simulation sees it too. */
const SEEDS_WHERE_REPLAYED = 3;
const clock = new SystemClock();
const checkout = process.env['RAFT_CHECKOUT'] ?? '';

interface Row {
  readonly mutant: Mutant;
  readonly simulated: SimulatedFind | undefined;
  readonly replayed: readonly string[];
  /** Why it proves nothing either way. */
  readonly broken: string | undefined;
  readonly tookMs: number;
}

function chosen(): readonly Mutant[] {
  if (values.only === '') {
    return checkout === '' ? MUTANTS.filter(({ harmless }) => harmless !== true) : MUTANTS;
  }
  return values.only.split(',').map((name) => {
    const found = MUTANTS.find((mutant) => mutant.name === name);
    if (found === undefined) throw new Error(`no mutant "${name}"\n${USAGE}`);
    return found;
  });
}

async function tryOne(sound: Workshop, workshop: Workshop, mutant: Mutant): Promise<Row> {
  const startMs = clock.nowMs();
  const ticks = Number(values.ticks);
  const seeds = { from: 1, to: Number(values.seeds) };
  let simulated: SimulatedFind | undefined;
  let replayed: readonly string[] = [];
  let broken: string | undefined;
  try {
    workshop.plant(mutant);
    const isReplayed = checkout !== '' && mutant.unreplayed !== true;
    if (isReplayed) replayed = await huntByReplays(workshop, checkout);
    if (replayed.length > 0) seeds.to = Math.min(seeds.to, SEEDS_WHERE_REPLAYED);
    simulated = await huntBySimulation(workshop, seeds, ticks);
    if (simulated !== undefined) {
      const { seed } = simulated;
      const alone = await huntBySimulation(sound, { from: seed, to: seed }, ticks);
      if (alone !== undefined) throw new Error(`seed ${seed} fails without it: ${alone.message}`);
    }
  } catch (error) {
    broken = messageOf(error);
  } finally {
    workshop.mend();
  }
  return { mutant, simulated, replayed, broken, tookMs: clock.nowMs() - startMs };
}

function isCaught({ simulated, replayed, broken }: Row): boolean {
  return broken === undefined && (simulated !== undefined || replayed.length > 0);
}

function byWhat({ simulated, replayed, broken }: Row): string {
  if (broken !== undefined) return `NOT JUDGED: ${broken.replaceAll('\n', ' ')}`;
  const found: string[] = [];
  if (simulated !== undefined) {
    const seconds = (simulated.atMs / 1000).toFixed(1);
    found.push(`seed ${simulated.seed} at ${seconds} s: ${simulated.kind}`);
  }
  if (replayed.length > 0) {
    const more = replayed.length > 1 ? ` and ${replayed.length - 1} more` : '';
    found.push(`${replayed[0]}${more}`);
  }
  return found.length === 0 ? 'SURVIVED' : found.join('; ');
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

async function main(): Promise<void> {
  if (values.help) {
    print(USAGE);
    return;
  }
  const mutants = chosen();
  for (const mutant of mutants) planted(ROOT, mutant);
  const sound = new Workshop();
  const workshops = Array.from({ length: Number(values.jobs) }, () => new Workshop());
  const remove = (): void => {
    for (const workshop of [sound, ...workshops]) workshop.remove();
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      remove();
      process.exit(1);
    });
  }
  let caught = 0;
  try {
    if (checkout === '')
      print('RAFT_CHECKOUT is not set: what the simulation can see, by it alone');
    else {
      const failed = await huntByReplays(sound, checkout);
      if (failed.length > 0) throw new Error(`they fail without any bug: ${failed.join(', ')}`);
    }
    print('| planted bug | what it does | where | caught by | took |\n|---|---|---|---|---|');
    const waiting = [...mutants];
    const work = async (workshop: Workshop): Promise<void> => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        const row = await tryOne(sound, workshop, next);
        if (isCaught(row)) caught += 1;
        printRow(row);
      }
    };
    await Promise.all(workshops.map(work));
  } finally {
    remove();
  }
  print(`${caught} of ${mutants.length} planted bugs were caught`);
  if (caught < mutants.length) process.exitCode = 1;
}

function printRow(row: Row): void {
  const { name, what, edits } = row.mutant;
  const where = edits.map(({ file }) => file.replace('manager/', '')).join(', ');
  const tookS = Math.round(row.tookMs / 1000);
  print(`| ${name} | ${what} | ${where} | ${byWhat(row)} | ${tookS} s |`);
}

main().catch((error: unknown) => {
  process.stderr.write(`mutants: ${messageOf(error)}\n`);
  process.exitCode = 1;
});
