/**
 * Proportional set size when idle: one daemon alone on the machine, as a manager and as a worker,
 * and one shim. A daemon's pages that other Node processes share would count less, so while one is
 * measured the other host's is stopped.
 */
import { readFileSync } from 'node:fs';
import { lab, loadImage, raise, swarm, WEB_IMAGE } from '../support/lab.ts';
import { type Figure, figure } from './report.ts';
import { clock } from './swarmClient.ts';
import { descendants, labHosts, pssKb } from './tools.ts';

const ROUNDS = 5;
/** V8 collects what the start left when little is allocated, or after 100 s at the latest. */
const SETTLE_MS = 120_000;
const BETWEEN_MS = 2_000;
const KB_PER_MB = 1000;

async function sample(host: string): Promise<number[]> {
  const found = (await labHosts()).find((each) => each.name === host);
  if (found === undefined) throw new Error(`no host ${host}`);
  await clock.sleep(SETTLE_MS);
  const values: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    values.push(pssKb(found.daemon) / KB_PER_MB);
    await clock.sleep(BETWEEN_MS);
  }
  return values;
}

function shims(root: number): number[] {
  return descendants(root).filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('tsswarm-shim\0');
    } catch {
      return false; // it ended while the list was read
    }
  });
}

export async function benchmark(): Promise<Figure[]> {
  try {
    await raise(1, 1);
    const manager = await sample('h1');
    await loadImage('h1');
    await swarm('h1', 'service', 'create', '--name', 's', '--replicas', '5', WEB_IMAGE);
    const host = (await labHosts())[0];
    const shim = shims(host.pid).map(pssKb);
    await raise(2, 1);
    await lab('stop-daemon', 'h1');
    const worker = await sample('h2');
    return [
      figure('idle daemon as manager, PSS', 'MB', manager, { text: '110 MB', median: 110 }),
      figure('idle daemon as worker, PSS', 'MB', worker, { text: '80 MB', median: 80 }),
      figure('shim, PSS', 'kB', shim, { text: '60 kB', median: 60 }),
    ];
  } finally {
    await lab('down');
  }
}
