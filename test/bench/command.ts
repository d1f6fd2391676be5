/** `tsswarm node ls`, the whole command. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { lab, raise } from '../support/lab.ts';
import { TOP } from '../tidy/sources.ts';
import { type Figure, figure } from './report.ts';
import { clock, socketOf } from './swarmClient.ts';

const run = promisify(execFile);
const ROUNDS = 20;

export async function benchmark(): Promise<Figure[]> {
  await raise(3, 3);
  try {
    const command = join(TOP, 'dist', 'cli', 'main.js');
    const host = `unix://${socketOf('h1')}`;
    const values: number[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      const started = clock.nowMs();
      await run(process.execPath, [command, '--host', host, 'node', 'ls']);
      values.push(clock.nowMs() - started);
    }
    const target = { text: '<= 150 ms', median: 150 };
    return [figure('tsswarm node ls, whole command', 'ms', values, target)];
  } finally {
    await lab('down');
  }
}
