/**
 * A container that writes 500 MB in lines of 100 bytes as fast as they are taken, into a json-file
 * log: from its start until it has ended and the log is whole, beside dockerd, which writes a fifth
 * of it, in turns; and the processor time that the daemon takes meanwhile.
 */
import { statSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { cpuTicks } from '../support/processes.ts';
import {
  type BenchDaemon,
  daemonPid,
  endOf,
  removeProbe,
  type Sides,
  startProbe,
  withDaemons,
} from './daemons.ts';
import { type Figure, figure } from './report.ts';
import { clock } from './swarmClient.ts';

const RUNS = 7;
const LINE_BYTES = 100;
const OUR_MB = 500;
/** It is many times slower: a rate needs no more. */
const THEIR_MB = 100;
const TARGET_MB_S = 300;
/** Starting and ending a container takes the daemon a few. */
const DAEMON_MS = 50;
const MS_A_TICK = 10;
const MS_A_SECOND = 1000;
const BYTES_A_MB = 1_000_000;
/** The newest of the files that rotation keeps may just have begun. */
const LEAST_KEPT_MB = 60;
/** More than it writes: nothing is dropped, as dockerd has it unless told otherwise. */
const KEPT_WHOLE = { 'max-size': '4g' };

interface Taken {
  readonly rate: number;
  readonly daemonMs: number;
}

export function benchmark(): Promise<Figure[]> {
  return withDaemons(async (sides) => {
    const { ours, theirs } = sides;
    const our: Taken[] = [];
    const whole: Taken[] = [];
    const their: Taken[] = [];
    await once(ours, THEIR_MB);
    for (let run = 0; run < RUNS; run += 1) {
      our.push(await once(ours, OUR_MB, sides));
      whole.push(await once(ours, OUR_MB, sides, KEPT_WHOLE));
      if (theirs !== undefined) their.push(await once(theirs, THEIR_MB));
    }
    const rates = (taken: readonly Taken[]): number[] => taken.map(({ rate }) => rate);
    const cost = our.map(({ daemonMs }) => daemonMs);
    const least = { text: `>= ${TARGET_MB_S} MB/s`, least: TARGET_MB_S };
    const most = { text: `~0 (<= ${DAEMON_MS} ms)`, median: DAEMON_MS };
    const figures = [
      figure(`log firehose, ${LINE_BYTES}-byte lines`, 'MB/s', rates(our), least),
      figure('log firehose, one file of all', 'MB/s', rates(whole), least),
      figure(`the daemon’s processor time for ${OUR_MB} MB of log`, 'ms', cost, most),
    ];
    if (theirs !== undefined) {
      const peer = their.map(({ daemonMs }) => (daemonMs * OUR_MB) / THEIR_MB);
      figures.push(
        figure('log firehose: dockerd 20.10', 'MB/s', rates(their), { text: 'the peer' }),
        figure(`dockerd’s for ${OUR_MB} MB`, 'ms', peer, { text: 'the peer' }),
      );
    }
    return figures;
  });
}

/** `sides`: the log's size is looked at too. */
async function once(
  daemon: BenchDaemon,
  megabytes: number,
  sides?: Sides,
  options: Readonly<Record<string, string>> = {},
): Promise<Taken> {
  const process = daemonPid(daemon);
  const ticks = cpuTicks(process);
  const beganMs = clock.nowMs();
  const host = { NetworkMode: 'none', LogConfig: { Type: 'json-file', Config: options } };
  const id = await startProbe(daemon, ['flood', String(megabytes), String(LINE_BYTES)], host);
  await endOf(daemon, id);
  const elapsedMs = clock.nowMs() - beganMs;
  const daemonMs = (cpuTicks(process) - ticks) * MS_A_TICK;
  if (sides !== undefined) await checkWritten(sides, id, options === KEPT_WHOLE);
  await removeProbe(daemon, id);
  return { rate: (megabytes * MS_A_SECOND) / elapsedMs, daemonMs };
}

/** Rotation keeps the newest files, else all is there: each line and what JSON adds to it. */
async function checkWritten({ ours }: Sides, id: string, isWhole: boolean): Promise<void> {
  const logs = join(ours.dataRoot, 'containers', id, 'logs');
  let bytes = 0;
  for (const name of await readdir(logs)) bytes += statSync(join(logs, name)).size;
  const least = (isWhole ? OUR_MB : LEAST_KEPT_MB) * BYTES_A_MB;
  if (bytes < least) throw new Error(`only ${bytes} bytes of log in ${logs}`);
}
