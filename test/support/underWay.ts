/**
 * A reporter beside the readable one: says on stderr which test is under way when one takes long,
 * since a file that is ended for its time (test/run) is named without the test it stood in. Judges
 * nothing; files run one at a time.
 */
import type { TestEvent } from 'node:test/reporters';

const TOLD_EVERY_MS = 4 * 60_000;

export default async function* underWay(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  /** The file, then from the outermost test in. */
  let standing: string[] = [];
  let sinceMs = Date.now();
  const tell = (): void => {
    const minutes = Math.round((Date.now() - sinceMs) / 60_000);
    process.stderr.write(`after ${minutes} min still in: ${standing.join(' > ')}\n`);
  };
  let timer = setInterval(tell, TOLD_EVERY_MS);
  for await (const event of events) {
    if (event.type !== 'test:dequeue' && event.type !== 'test:complete') continue;
    const { file, name, nesting } = event.data;
    const isFile = name === file;
    const within = isFile ? [] : standing.slice(0, 1 + nesting);
    standing = event.type === 'test:dequeue' ? [...within, name] : within;
    sinceMs = Date.now();
    clearInterval(timer);
    timer = setInterval(tell, TOLD_EVERY_MS);
  }
  clearInterval(timer);
  yield '';
}
