/**
 * A program that ends at once, run in a running container over the HTTP API: from the request that
 * makes the exec until its output has ended and its exit code is told; beside dockerd, in turns.
 */
import { askSocket } from '../support/socketClient.ts';
import { until } from '../support/until.ts';
import { API, type BenchDaemon, PROBE, removeProbe, startProbe, withDaemons } from './daemons.ts';
import { type Figure, figure } from './report.ts';
import { callAt, clock } from './swarmClient.ts';

const RUNS = 100;
const WARM_RUNS = 20;
const TARGET_MS = 12;
const ENDED_LIMIT_MS = 10_000;

export function benchmark(): Promise<Figure[]> {
  return withDaemons(async ({ all }) => {
    const ids: string[] = [];
    for (const daemon of all) ids.push(await startProbe(daemon, ['sleep', '3600']));
    const taken: number[][] = all.map(() => []);
    for (let run = -WARM_RUNS; run < RUNS; run += 1) {
      for (const [at, daemon] of all.entries()) {
        const elapsedMs = await once(daemon, ids[at]);
        if (run >= 0) taken[at].push(elapsedMs);
      }
    }
    for (const [at, daemon] of all.entries()) await removeProbe(daemon, ids[at]);
    const [ours, theirs] = taken;
    const target = { text: `p50 <= ${TARGET_MS} ms`, median: TARGET_MS };
    const figures = [figure('exec of true, API to exit', 'ms', ours, target)];
    if (theirs !== undefined) {
      figures.push(figure('the same by dockerd 20.10', 'ms', theirs, { text: 'the peer' }));
    }
    return figures;
  });
}

async function once({ socket }: BenchDaemon, container: string): Promise<number> {
  const beganMs = clock.nowMs();
  const { Id } = await callAt<{ Id: string }>(
    socket,
    'POST',
    `${API}/containers/${container}/exec`,
    { Cmd: [PROBE, 'exit', '0'], AttachStdout: true, AttachStderr: true },
  );
  const how = { Detach: false, Tty: false };
  const { status, body } = await askSocket(socket, 'POST', `${API}/exec/${Id}/start`, how);
  if (status !== 200 && status !== 101) throw new Error(`exec: ${status} ${body}`);
  // dockerd may close the output a moment before it knows the exit.
  const exitCode = await until(
    'the exec to have ended',
    ENDED_LIMIT_MS,
    () => ended(socket, Id),
    1,
  );
  if (exitCode !== 0) throw new Error(`the exec ended with ${exitCode}`);
  return clock.nowMs() - beganMs;
}

async function ended(socket: string, id: string): Promise<number | undefined> {
  const path = `${API}/exec/${id}/json`;
  const told = await callAt<{ Running: boolean; ExitCode: number }>(socket, 'GET', path);
  return told.Running ? undefined : told.ExitCode;
}
