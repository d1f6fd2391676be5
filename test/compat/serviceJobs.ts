/** docker service create and update: jobs, whose tasks write down when they begin and end. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { until } from '../support/lab.ts';
import type { Suite } from './suite.ts';
import { create, linesOf, ofService, remove, volumeOf } from './tasks.ts';
import { docker, SOON_MS } from './world.ts';

const JOB = 'echo begin >> /d/lines; sleep 0.6; echo end >> /d/lines';
const HERE = ['--constraint', 'node.hostname==h1', '--mount', 'type=volume,source=jobs,target=/d'];

const lines = (): string[] => linesOf(join(volumeOf('h1', 'jobs'), 'lines'));

/** The most that ran at one time. */
function mostAtOnce(all: readonly string[]): number {
  let now = 0;
  let most = 0;
  for (const line of all) {
    now += line === 'begin' ? 1 : -1;
    most = Math.max(most, now);
  }
  return most;
}

function ended(count: number): Promise<string[]> {
  return until(`${count} tasks have ended`, SOON_MS, () => {
    const all = lines();
    return all.filter((line) => line === 'end').length === count ? all : undefined;
  });
}

export function serviceJobs(suite: Suite): void {
  suite.works(
    'service create',
    ['max-concurrent', 'mode', 'replicas'],
    'a job runs as often as asked, so many at a time; a global job once on every host',
    async () => {
      const flags = ['--mode', 'replicated-job', '--replicas', '4', '--max-concurrent', '2'];
      await create('job', [...flags, ...HERE], 'sh', '-c', JOB);
      assert.equal(mostAtOnce(await ended(4)), 2);
      const volume = ['--mount', 'type=volume,source=every,target=/d'];
      await create('every', ['--mode', 'global-job', ...volume], 'sh', '-c', 'echo x >> /d/lines');
      for (const host of ['h1', 'h2']) {
        await until(`it ran on ${host}`, SOON_MS, () =>
          linesOf(join(volumeOf(host, 'every'), 'lines')).length === 1 ? true : undefined,
        );
      }
      await remove('every');
    },
  );
  suite.works('service update', ['force'], 'the job runs anew', async () => {
    await docker('h1', 'service', 'update', '--detach', '--force', 'job');
    assert.equal(mostAtOnce((await ended(8)).slice(8)), 2);
    assert.equal(await ofService('job', '{{.JobStatus.JobIteration.Index}}'), '1');
    await remove('job');
  });
  suite.not(
    'service update',
    ['max-concurrent'],
    'this client sends what was there before; `tsswarm service update` has the flag',
  );
}
