/** What a Raft member counts, read back after a member or a group did what is counted. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { hasCode, SwarmError } from '../../../base/errors.ts';
import type { Meter } from '../../../base/meter.ts';
import { metricsText } from '../../../daemon/prometheus.ts';
import { parseFigures } from '../../support/figures.ts';
import { RaftCluster } from '../../support/raftCluster.ts';
import { until } from '../../support/until.ts';

const LIMIT_MS = 60_000;

const bytes = (text: string): Uint8Array => Buffer.from(text);

async function read(meter: Meter): Promise<(name: string) => number> {
  const { values } = parseFigures(await metricsText(meter));
  return (name) => {
    const value = values.get(name);
    assert.ok(value !== undefined, `no figure ${name}`);
    return value;
  };
}

test('proposals are counted by how they end, commits and syncs by how long they take', async () => {
  const cluster = new RaftCluster();
  try {
    const { node } = await cluster.start(1, { voters: [1] });
    await cluster.leader();
    const before = await read(cluster.meter(1));
    for (let at = 0; at < 5; at += 1) await node.propose(Buffer.alloc(1000, 1));
    await assert.rejects(node.propose(Buffer.alloc(3_000_000)), (error) =>
      hasCode(error, 'exhausted'),
    );
    const under = node.propose(bytes('under way')).catch((error: unknown) => error);
    await new Promise((resolve) => setImmediate(resolve)); // it is proposed, and its log written
    await cluster.stop(1);
    await under;
    const figure = await read(cluster.meter(1));
    const [accepted, refused, failed] = ['accepted', 'refused', 'failed'].map((outcome) =>
      figure(`tsswarm_raft_proposals_total{outcome="${outcome}"}`),
    );
    assert.equal(accepted, 5);
    // The one under way may or may not have been begun when the member stopped.
    assert.ok(refused >= 1 && refused + failed === 2, `${refused} refused, ${failed} failed`);
    assert.equal(figure('tsswarm_raft_commit_duration_seconds_count'), 5);
    assert.ok(figure('tsswarm_raft_commit_duration_seconds_sum') < 5);
    const syncs = 'tsswarm_raft_log_sync_duration_seconds';
    assert.ok(figure(`${syncs}_count`) >= before(`${syncs}_count`) + 5);
    assert.ok(figure(`${syncs}_sum`) > before(`${syncs}_sum`));
    assert.equal(figure(`${syncs}_bucket{le="+Inf"}`), figure(`${syncs}_count`));
    const written = 'tsswarm_raft_log_written_bytes_total';
    assert.ok(figure(written) - before(written) > 5_000);
  } finally {
    await cluster.dispose();
  }
});

/** 50 entries, together; false where the leader has changed meanwhile. */
async function written(cluster: RaftCluster): Promise<boolean> {
  const { node } = await cluster.leader();
  const all = Array.from({ length: 50 }, (_, at) => node.propose(bytes(`entry ${at}`)));
  const refused = (await Promise.allSettled(all)).filter(({ status }) => status === 'rejected');
  return refused.length === 0;
}

test('snapshots taken, sent and received are counted with their bytes, and changes of leader', async () => {
  const cluster = new RaftCluster({ snapshotEntries: 20 });
  try {
    await Promise.all([1, 2, 3].map((id) => cluster.start(id, { voters: [1, 2, 3] })));
    const behind = [1, 2, 3].find((id) => !cluster.get(id).node.isLeader) ?? 0;
    for (const { node } of cluster.nodes.values()) node.keepEntries(20, 5);
    await cluster.stop(behind);
    const others = [1, 2, 3].filter((id) => id !== behind);
    // Whoever leads by then: on a loaded machine that may change.
    for (let at = 0; at < 300; at += 50)
      await until('50 written', LIMIT_MS, () => written(cluster));
    await cluster.until('the log is cut', () =>
      others.every((id) => cluster.get(id).node.status().snapshotIndex > 200),
    );
    const { machine } = await cluster.start(behind);
    await cluster.until('it has them all', () => {
      const applied = others.map((id) => cluster.get(id).machine.commands.length);
      return applied.every((count) => count === machine.commands.length);
    });
    const sum = async (
      ids: readonly number[],
      kind: string,
    ): Promise<readonly [number, number]> => {
      let [count, size] = [0, 0];
      for (const id of ids) {
        const figure = await read(cluster.meter(id));
        count += figure(`tsswarm_raft_snapshot_duration_seconds_count{kind="${kind}"}`);
        size += figure(`tsswarm_raft_snapshot_bytes_total{kind="${kind}"}`);
      }
      return [count, size];
    };
    for (const [ids, kind] of [
      [others, 'taken'],
      [others, 'sent'],
      [[behind], 'received'],
    ] as const) {
      // Its sender hears a moment later that it is stored.
      await until(`${kind} is counted`, LIMIT_MS, async () => {
        const [count, size] = await sum(ids, kind);
        return count >= 1 && size > 1_000;
      });
    }
    const changes = async (): Promise<number> => {
      const figures = await Promise.all([1, 2, 3].map((id) => read(cluster.meter(id))));
      return figures.reduce((all, at) => all + at('tsswarm_raft_leader_changes_total'), 0);
    };
    const before = await changes();
    await until('another leader is counted', LIMIT_MS, async () => {
      const { node } = await cluster.leader();
      await node.transferLeadership().catch((error: unknown) => {
        // Time was up, or it lost the lead by itself: what counts is counted.
        if (!(error instanceof SwarmError)) throw error;
      });
      return (await changes()) > before;
    });
  } finally {
    await cluster.dispose();
  }
});

test('a snapshot that cannot even be begun is counted, and lets go what was pinned for it', async () => {
  const cluster = new RaftCluster({ snapshotEntries: 5 });
  try {
    const { node, machine } = await cluster.start(1, { voters: [1] });
    await cluster.leader();
    let released = 0;
    const take = machine.takeSnapshot.bind(machine);
    machine.takeSnapshot = () => {
      const { index, chunks } = take();
      const iterator = chunks[Symbol.asyncIterator]();
      const watched: AsyncIterableIterator<Uint8Array> = {
        [Symbol.asyncIterator]: () => watched,
        next: () => iterator.next(),
        return: async () => {
          released += 1;
          return { done: true, value: undefined };
        },
      };
      return { index, chunks: watched };
    };
    // Where the file is to be is no directory.
    const directory = path.join(cluster.root, '1', 'snap');
    fs.rmSync(directory, { recursive: true });
    fs.writeFileSync(directory, '');
    for (let at = 0; at < 10; at += 1) await node.propose(bytes(`e${at}`));
    await cluster.until('it was released', () => released > 0);
    const figure = await read(cluster.meter(1));
    assert.ok(figure('tsswarm_raft_snapshot_failures_total') >= 1);
    assert.equal(figure('tsswarm_raft_snapshot_duration_seconds_count{kind="taken"}'), 0);
  } finally {
    await cluster.dispose();
  }
});
