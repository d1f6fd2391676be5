/** Figures as tests read them: Prometheus' text, parsed as strictly as it is specified. */
import assert from 'node:assert/strict';

export interface Figures {
  /** Of a family: counter, gauge or histogram. */
  readonly types: ReadonlyMap<string, string>;
  /** By name and labels as written: 'tsswarm_tasks{state="running"}'. */
  readonly values: ReadonlyMap<string, number>;
}

const NAME = '[a-z][a-z0-9_]*';
const SAMPLE = new RegExp(`^(${NAME}(?:\\{(?:${NAME}="[^"]*",?)+\\})?) (\\S+)$`);

/** Fails on a line that is none of the format's. */
export function parseFigures(text: string): Figures {
  const types = new Map<string, string>();
  const values = new Map<string, number>();
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('# HELP ')) continue;
    const type = /^# TYPE (\S+) (counter|gauge|histogram|summary)$/.exec(line);
    if (type !== null) {
      assert.ok(!types.has(type[1]), `${type[1]} is there twice`);
      types.set(type[1], type[2]);
      continue;
    }
    const sample = SAMPLE.exec(line);
    assert.ok(sample !== null, `no line of the format: ${line}`);
    assert.ok(!values.has(sample[1]), `${sample[1]} is there twice`);
    values.set(sample[1], sample[2] === '+Inf' ? Number.POSITIVE_INFINITY : Number(sample[2]));
  }
  return { types, values };
}
