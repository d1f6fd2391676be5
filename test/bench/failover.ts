/**
 * A host is cut off until 8 replicas run again on the others, for a follower's host and for the
 * leader's; in the latter also until a write is accepted elsewhere.
 */
import { lab, loadImage, raise, WEB_IMAGE } from '../support/lab.ts';
import { type Figure, figure } from './report.ts';
import { call, clock, createService, poll, removeService, runningTasks } from './swarmClient.ts';
import { leaderOf, nodesOf } from './tools.ts';

const ROUNDS = 20;
const REPLICAS = 8;
const HOSTS = ['h1', 'h2', 'h3'];
const PATIENCE_MS = 60_000;

export async function benchmark(): Promise<Figure[]> {
  await raise(3, 3);
  try {
    await loadImage(...HOSTS);
    const follower: number[] = [];
    const leading: number[] = [];
    const written: number[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      follower.push((await once(false, `follower-${round}`)).restoredMs);
      const result = await once(true, `leader-${round}`);
      leading.push(result.restoredMs);
      written.push(result.writtenMs);
      process.stderr.write(
        `bench: round ${round + 1} of ${ROUNDS}: follower ${follower.at(-1)?.toFixed(0)} ms, ` +
          `leader ${leading.at(-1)?.toFixed(0)} ms, write ${written.at(-1)?.toFixed(0)} ms\n`,
      );
    }
    const restored = { text: 'p50 <= 3 s, max <= 5 s', median: 3000, max: 5000 };
    const write = { text: 'p50 <= 1.5 s, max <= 3 s', median: 1500, max: 3000 };
    return [
      figure("a follower's host cut off until 8 replicas run", 'ms', follower, restored),
      figure("the leader's host cut off until 8 replicas run", 'ms', leading, restored),
      figure('the leader cut off until a write is accepted', 'ms', written, write),
    ];
  } finally {
    await lab('down');
  }
}

interface Result {
  readonly restoredMs: number;
  readonly writtenMs: number;
}

async function once(cutLeader: boolean, name: string): Promise<Result> {
  const leader = await poll('a leader', PATIENCE_MS, () => leaderOf('h1'));
  const id = await createService(leader, { name, replicas: REPLICAS, image: WEB_IMAGE });
  await poll('all run', PATIENCE_MS, async () => {
    const found = await runningTasks(leader, id);
    return found.length === REPLICAS ? true : undefined;
  });
  const lost = cutLeader ? leader : (HOSTS.find((host) => host !== leader) ?? leader);
  const watcher = HOSTS.find((host) => host !== lost && host !== leader) ?? leader;
  const lostId = (await nodesOf(watcher)).find((each) => each.Description.Hostname === lost)?.ID;
  await lab('cut', lost);
  const started = clock.nowMs();
  const write = cutLeader ? firstWrite(watcher, name, started) : Promise.resolve(0);
  await poll('restored', PATIENCE_MS, async () => {
    try {
      const found = await runningTasks(watcher, id);
      const elsewhere = found.filter((task) => task.NodeID !== lostId);
      return elsewhere.length === REPLICAS ? true : undefined;
    } catch {
      return undefined; // no leader at the moment: asked again
    }
  });
  const restoredMs = clock.nowMs() - started;
  const writtenMs = await write;
  await lab('heal', lost);
  await poll('healed', PATIENCE_MS, async () => {
    try {
      const nodes = await nodesOf(watcher);
      return nodes.every((each) => each.Status.State === 'ready') ? true : undefined;
    } catch {
      return undefined; // as above
    }
  });
  await removeService(watcher, id);
  return { restoredMs, writtenMs };
}

/** Tries to create a network until it is accepted; ms since `started`. */
async function firstWrite(host: string, name: string, started: number): Promise<number> {
  const body = { Name: `write-${name}`, Driver: 'overlay' };
  const made = await poll('a write accepted', PATIENCE_MS, async () => {
    try {
      return await call<{ Id: string }>(host, 'POST', '/networks/create', body, PATIENCE_MS);
    } catch (error) {
      if (String(error).includes('exists')) return { Id: body.Name };
      return undefined; // no leader yet: asked again
    }
  });
  const took = clock.nowMs() - started;
  await call(host, 'DELETE', `/networks/${made.Id}`);
  return took;
}
