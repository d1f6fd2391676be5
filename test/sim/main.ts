/**
 * `npm run sim -- --seed N | --seeds A..B [--ticks T]`: runs simulations, says nothing of those that
 * hold, and of one that fails the line that reproduces it, made smaller. Exits with 1 on a failure.
 * A signal ends it after the run under way, with the sums so far.
 */
import { parseArgs } from 'node:util';
import { SystemClock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import { createLog } from '../../base/log.ts';
import { FAULT_KINDS, type FaultKind } from './faults.ts';
import type { Planted } from './machine.ts';
import { commandOf, shrink } from './shrink.ts';
import { DEFAULT_TICKS, type Outcome, type SimulationOptions, simulate } from './simulation.ts';

const HOUR_MS = 3_600_000;

const USAGE = `usage: npm run sim -- [--seed N | --seeds A..B] [--ticks T] [--without KIND,...]
  [--planted FAULT] [--stop-at-failure] [--no-shrink] [--log]
kinds of faults: ${FAULT_KINDS.join(' ')}`;

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    seeds: { type: 'string', default: '1..100' },
    ticks: { type: 'string', default: String(DEFAULT_TICKS) },
    without: { type: 'string', default: '' },
    planted: { type: 'string' },
    'stop-at-failure': { type: 'boolean', default: false },
    'no-shrink': { type: 'boolean', default: false },
    log: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

function range(): [number, number] {
  const [from, to = from] = (values.seed ?? values.seeds).split('..').map(Number);
  if (!Number.isSafeInteger(from) || !Number.isSafeInteger(to)) throw new Error(USAGE);
  return [from, to];
}

function optionsOf(seed: number): SimulationOptions {
  const without = values.without.split(',').filter((kind) => kind !== '') as FaultKind[];
  const unknown = without.find((kind) => !FAULT_KINDS.includes(kind));
  if (unknown !== undefined) throw new Error(`no kind of faults "${unknown}"\n${USAGE}`);
  return {
    seed,
    ticks: Number(values.ticks),
    without,
    ...(values.planted === undefined ? {} : { planted: values.planted as Planted }),
    ...(values.log
      ? {
          log: (process, nowMs) =>
            createLog('debug').with({ member: process.id, startedMs: Math.round(nowMs) }),
        }
      : {}),
  };
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

class Sums {
  runs = 0;
  failures = 0;
  slowestCalmMs = 0;
  readonly #sums = new Map<string, number>();

  add(outcome: Outcome): void {
    this.runs += 1;
    this.slowestCalmMs = Math.max(this.slowestCalmMs, outcome.calmMs);
    if (outcome.failure !== undefined) this.failures += 1;
    for (const [name, value] of Object.entries(outcome)) {
      if (typeof value !== 'number') continue;
      this.#sums.set(name, (this.#sums.get(name) ?? 0) + value);
    }
  }

  line(seconds: number): string {
    const of = (name: string): number => this.#sums.get(name) ?? 0;
    const names = ['acknowledged', 'unknown', 'refused', 'reads', 'watched', 'resyncs', 'events'];
    names.push('messages', 'snapshots', 'elections', 'strikes', 'restarts');
    names.push('moves', 'losses', 'forks');
    const counts = names.map((name) => `${name} ${of(name)}`).join(', ');
    const hours = of('simulatedMs') / HOUR_MS;
    return (
      `${this.runs} runs, ${this.failures} failed: ${hours.toFixed(2)} simulated hours ` +
      `in ${seconds.toFixed(1)} s (${(this.runs / seconds).toFixed(2)} runs/s); ` +
      `served again within ${this.slowestCalmMs} ms; ${counts}`
    );
  }
}

async function main(): Promise<void> {
  if (values.help) {
    print(USAGE);
    return;
  }
  const clock = new SystemClock();
  const startMs = clock.nowMs();
  const [from, to] = range();
  const sums = new Sums();
  let isStopped = false;
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      isStopped = true;
    });
  }
  for (let seed = from; seed <= to && !isStopped; seed += 1) {
    const options = optionsOf(seed);
    const outcome = await simulate(options);
    sums.add(outcome);
    const { failure } = outcome;
    if (from === to) print(JSON.stringify(outcome));
    if (failure === undefined) continue;
    process.exitCode = 1;
    print(`FAILED at ${Math.round(failure.atMs)} ms: ${failure.message}\n  ${commandOf(options)}`);
    if (!values['no-shrink']) {
      const smaller = await shrink(options, failure);
      print(`smaller: ${smaller.failure.message}\n  ${commandOf(smaller.options)}`);
    }
    if (values['stop-at-failure']) break;
  }
  print(sums.line((clock.nowMs() - startMs) / 1000));
}

main().catch((error: unknown) => {
  process.stderr.write(`sim: ${messageOf(error)}\n`);
  process.exitCode = 1;
});
