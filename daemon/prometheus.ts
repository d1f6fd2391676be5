/**
 * The daemon's figures as Prometheus reads them. The one door to prom-client, which is loaded when
 * somebody looks for the first time: until then it costs no memory, and the process is not
 * measured. What is counted is counted elsewhere (base/meter); this only puts it into text.
 */
import { collectDefaultMetrics, type Metric, type MetricObject, Registry } from 'prom-client';
import type { Family, Histogram, Labels, Meter, Reading } from '../base/meter.ts';

/** Of the loop's delay; finer costs an idle daemon wake-ups. */
const LOOP_PRECISION_MS = 50;

interface Sample {
  readonly labels: Labels;
  readonly value: number;
  readonly metricName?: string;
}

/** One family in the shape that a registry prints. */
class FamilyMetric {
  readonly name: string;
  readonly #family: Family;

  constructor(family: Family) {
    this.name = family.name;
    this.#family = family;
  }

  async get(): Promise<Pick<MetricObject, 'name' | 'help'> & { type: string; values: Sample[] }> {
    const { name, help, kind } = this.#family;
    const type = kind === 'read counter' ? 'counter' : kind;
    return { name, help, type, values: samplesOf(this.#family) };
  }
}

function samplesOf(family: Family): Sample[] {
  switch (family.kind) {
    case 'counter':
      return family.series.map(({ labels, value }) => ({ labels, value: value.value }));
    case 'histogram':
      return family.series.flatMap(({ labels, value }) => buckets(family.name, labels, value));
    default: {
      const read: number | Iterable<Reading> = family.read();
      return typeof read === 'number' ? [{ labels: {}, value: read }] : [...read];
    }
  }
}

function buckets(name: string, labels: Labels, { bounds, counts, sum }: Histogram): Sample[] {
  let below = 0;
  const samples = counts.map((count, at): Sample => {
    below += count;
    const le = at < bounds.length ? String(bounds[at]) : '+Inf';
    return { labels: { ...labels, le }, value: below, metricName: `${name}_bucket` };
  });
  return [
    ...samples,
    { labels, value: sum, metricName: `${name}_sum` },
    { labels, value: below, metricName: `${name}_count` },
  ];
}

let processRegistry: Registry | undefined;

/** Memory, processor time, descriptors, loop and collections of this process. */
function ofProcess(): Registry {
  if (processRegistry !== undefined) return processRegistry;
  processRegistry = new Registry();
  collectDefaultMetrics({
    register: processRegistry,
    eventLoopMonitoringPrecision: LOOP_PRECISION_MS,
  });
  return processRegistry;
}

export const METRICS_TYPE = Registry.PROMETHEUS_CONTENT_TYPE;

/** Everything there is to know now, in Prometheus' text format. */
export async function metricsText(meter: Meter): Promise<string> {
  const registry = new Registry();
  for (const family of meter.families()) {
    // A registry asks for the name and for get(), no more; its types name its own classes.
    registry.registerMetric(new FamilyMetric(family) as unknown as Metric);
  }
  return `${await registry.metrics()}\n${await ofProcess().metrics()}`;
}
