/**
 * Figures that components count while they work, for whoever reads them later: plain numbers behind
 * names as Prometheus wants them (units in the name, `_total` for counters). Counting costs an
 * addition; nothing is put into text here, and what can be looked up is read only when asked for.
 */
export type Labels = Readonly<Record<string, string>>;

export class Counter {
  #value = 0;

  get value(): number {
    return this.#value;
  }

  add(by = 1): void {
    this.#value += by;
  }
}

export class Histogram {
  /** Upper bounds, ascending; what is above the last counts in one bucket more. */
  readonly bounds: readonly number[];
  readonly counts: number[];
  #sum = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.counts = new Array<number>(bounds.length + 1).fill(0);
  }

  get sum(): number {
    return this.#sum;
  }

  observe(value: number): void {
    let bucket = 0;
    while (bucket < this.bounds.length && value > this.bounds[bucket]) bucket += 1;
    this.counts[bucket] += 1;
    this.#sum += value;
  }
}

/** From a tenth of a millisecond to ten seconds: syncs, commits. */
export const FAST_SECONDS = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
];
/** From ten milliseconds to five minutes: snapshots. */
export const SLOW_SECONDS = [0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300];

export interface Reading {
  readonly labels: Labels;
  readonly value: number;
}

/** Read when asked for: one number, or one for each set of labels. */
export type Read = () => number | Iterable<Reading>;

export type Series<T> = readonly { readonly labels: Labels; readonly value: T }[];

export type Family = { readonly name: string; readonly help: string } & (
  | { readonly kind: 'counter'; readonly series: Series<Counter> }
  | { readonly kind: 'histogram'; readonly series: Series<Histogram> }
  | { readonly kind: 'gauge' | 'read counter'; readonly read: Read }
);

type Mutable = Family & { readonly series?: { labels: Labels; value: unknown }[] };

export class Meter {
  readonly #families = new Map<string, Mutable>();

  /** The same one when asked again: what is counted outlives the component that counts. */
  counter(name: string, help: string, labels: Labels = {}): Counter {
    return this.#series('counter', name, help, labels, () => new Counter());
  }

  histogram(name: string, help: string, bounds: readonly number[], labels: Labels = {}): Histogram {
    return this.#series('histogram', name, help, labels, () => new Histogram(bounds));
  }

  /**
   * Read when somebody looks; a later one of the name takes its place. Returns what ends it.
   * `counts`: it only grows.
   */
  gauge(name: string, help: string, read: Read, counts = false): () => void {
    const family: Family = { kind: counts ? 'read counter' : 'gauge', name, help, read };
    this.#families.set(name, family);
    return () => {
      if (this.#families.get(name) === family) this.#families.delete(name);
    };
  }

  families(): Iterable<Family> {
    return this.#families.values();
  }

  #series<T>(
    kind: 'counter' | 'histogram',
    name: string,
    help: string,
    labels: Labels,
    make: () => T,
  ): T {
    const family = this.#families.get(name) ?? ({ kind, name, help, series: [] } as Mutable);
    this.#families.set(name, family);
    const series = family.series ?? [];
    const same = series.find((each) => sameLabels(each.labels, labels));
    if (same !== undefined) return same.value as T;
    const value = make();
    series.push({ labels, value });
    return value;
  }
}

function sameLabels(left: Labels, right: Labels): boolean {
  const names = Object.keys(left);
  return (
    names.length === Object.keys(right).length && names.every((name) => left[name] === right[name])
  );
}
