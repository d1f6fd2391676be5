/**
 * A figure is the median of at least five measurements with its least and greatest; a report is the
 * figures of one run with the machine they were measured on, as a table and as JSON.
 */
import { execFileSync } from 'node:child_process';
import { cpus, release, totalmem } from 'node:os';
import { GIB } from '../../base/bytes.ts';

export interface Figure {
  readonly name: string;
  readonly unit: 'ms' | 'MB' | 'kB' | 'count' | '/s' | 'MB/s' | 'Gbit/s' | 'x';
  readonly runs: number;
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly p99?: number;
  /** As the issue that set it words it. */
  readonly target: string;
  /** Absent where the target is no number. */
  readonly met?: boolean;
}

export interface Target {
  readonly text: string;
  readonly median?: number;
  readonly max?: number;
  /** The median must not be below it. */
  readonly least?: number;
}

const MIN_RUNS_FOR_P99 = 100;

function at(sorted: readonly number[], part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))];
}

/** `values` not empty. */
export function figure(
  name: string,
  unit: Figure['unit'],
  values: readonly number[],
  target: Target,
): Figure {
  const sorted = [...values].sort((left, right) => left - right);
  const middle = sorted.length / 2;
  const median =
    sorted.length % 2 === 1
      ? sorted[Math.floor(middle)]
      : (sorted[middle - 1] + sorted[middle]) / 2;
  const max = sorted[sorted.length - 1];
  return {
    name,
    unit,
    runs: sorted.length,
    median,
    min: sorted[0],
    max,
    ...(sorted.length >= MIN_RUNS_FOR_P99 ? { p99: at(sorted, 0.99) } : {}),
    target: target.text,
    ...verdict(median, max, target),
  };
}

function verdict(median: number, max: number, target: Target): Pick<Figure, 'met'> {
  if ([target.median, target.max, target.least].every((bound) => bound === undefined)) return {};
  return {
    met:
      median <= (target.median ?? Infinity) &&
      max <= (target.max ?? Infinity) &&
      median >= (target.least ?? 0),
  };
}

export function machine(): Record<string, string> {
  let commit = '';
  try {
    commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
  } catch {
    commit = 'unknown'; // not a checkout
  }
  return {
    processors: `${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}`,
    memory: `${Math.round(totalmem() / GIB)} GiB`,
    kernel: release(),
    node: process.version,
    commit,
  };
}

function round(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(value >= 10 ? 1 : 2);
}

/** Markdown, as the README has it. */
export function table(figures: readonly Figure[]): string {
  const rows = figures.map((each) => {
    const values = [each.median, each.min, each.max].map(round).join(' | ');
    const judged = each.met === undefined ? '' : each.met ? 'met' : 'missed';
    const cells = [each.name, each.unit, each.runs, values, each.target, judged];
    return `| ${cells.join(' | ')} |`;
  });
  return [
    '| figure | unit | runs | median | min | max | target | |',
    '|---|---|---|---|---|---|---|---|',
    ...rows,
  ].join('\n');
}
