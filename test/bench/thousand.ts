/**
 * A thousand containers started and removed through the API, four at a time, each kind in turn
 * (thousandKinds.ts), then tasks of a service (thousandTasks.ts). What the daemon then has that it
 * had not before is a leak (traces.ts); and its resident memory is looked at on the way.
 */
import type { Standalone } from '../support/standalone.ts';
import { removeProbe, startProbe, withDaemons } from './daemons.ts';
import { type Figure, figure } from './report.ts';
import { KINDS, published } from './thousandKinds.ts';
import { tasksLeft } from './thousandTasks.ts';
import { difference, rssMb, settled, traces } from './traces.ts';

const CONTAINERS = 1000;
const WARM_CONTAINERS = 200;
const AT_ONCE = 4;
const RSS_EVERY = 100;
const MOST_GROWTH = 1.1;
/** What each container has on the host. */
const SEEN = ['mount', 'process', 'cgroup', 'file', 'rule', 'link', 'descriptor'];

export function benchmark(): Promise<Figure[]> {
  return withDaemons(async ({ ours }) => {
    await many(ours, WARM_CONTAINERS, () => {});
    const before = await settled(ours, undefined);
    await checkSeen(ours, before);
    const rss = [rssMb(ours)];
    await many(ours, CONTAINERS, (done) => {
      if (done % RSS_EVERY === 0) rss.push(rssMb(ours));
    });
    const after = await settled(ours, before);
    const left = difference(before, after);
    for (const line of left) process.stderr.write(`left behind: ${line}\n`);
    const growth = rss.slice(1).map((each) => each / rss[0]);
    const last = growth.slice(-1);
    const at = (done: number): Figure =>
      figure(`daemon RSS after ${done} containers`, 'MB', [rss[done / RSS_EVERY]], { text: '' });
    return [
      figure(`left behind by ${CONTAINERS} containers`, 'count', [left.length], {
        text: 'none',
        max: 0,
      }),
      at(0),
      at(CONTAINERS / 2),
      at(CONTAINERS),
      figure(`daemon RSS after ${CONTAINERS}, to before`, 'x', last, {
        text: `flat (<= ${MOST_GROWTH})`,
        median: MOST_GROWTH,
      }),
      ...(await tasksLeft(ours)),
    ];
  }, false);
}

/** That what is looked at shows a container that is there. */
async function checkSeen(ours: Standalone, before: readonly string[]): Promise<void> {
  const id = await startProbe(ours, ['sleep', '600'], published(0));
  const seen = new Set(difference(before, await traces(ours)).map((line) => line.split(' ')[0]));
  for (const what of SEEN) if (!seen.has(what)) throw new Error(`a container shows no ${what}`);
  await removeProbe(ours, id);
}

async function many(ours: Standalone, count: number, tell: (done: number) => void): Promise<void> {
  let next = 0;
  let done = 0;
  const one = async (): Promise<void> => {
    while (next < count) {
      const at = next;
      next += 1;
      await KINDS[at % KINDS.length](ours, at);
      done += 1;
      tell(done);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
}
