/**
 * What a manager's figures say when they are looked at: where Raft and the store stand. Read from
 * them at that moment and never counted beside them; a manager that stops takes its figures along.
 */
import type { Labels, Meter, Read, Reading } from '../base/meter.ts';
import { TaskState, taskStateName } from '../model/taskState.ts';
import type { RaftView } from './managerState.ts';
import { TABLES } from './store/contents.ts';
import type { StoreState } from './store/types.ts';

const NODE_STATES = ['unknown', 'down', 'ready', 'disconnected'] as const;

export interface GaugeSources {
  readonly raft: RaftView;
  readonly store: StoreState;
  /** Node id of a member; '' while it is not known. */
  readonly nodeIdOf: (raftId: number) => string;
  readonly storeDiffers: () => boolean;
}

/** Returns what takes them away again. */
export function addManagerGauges(meter: Meter, sources: GaugeSources): () => void {
  const { raft, store, nodeIdOf, storeDiffers } = sources;
  const status = () => raft.status();
  const gauges: readonly (readonly [string, string, Read])[] = [
    ['raft_term', 'Term of this manager.', () => status().term],
    ['raft_is_leader', '1 when this manager leads.', () => truth(status().role === 'leader')],
    ['raft_has_leader', '1 when this manager knows who leads.', () => truth(leaderOf() > 0)],
    [
      'raft_leader',
      '1 for the node that leads, as this manager knows; none when nobody does.',
      () => (leaderOf() > 0 ? [{ labels: { node: nodeIdOf(leaderOf()) }, value: 1 }] : []),
    ],
    ['raft_commit_index', 'Highest entry known to be committed.', () => status().commit],
    ['raft_applied_index', 'Highest entry applied to the store.', () => status().applied],
    ['raft_last_index', 'Last entry of the log.', () => status().lastIndex],
    ['raft_snapshot_index', 'Entry of the newest snapshot.', () => status().snapshotIndex],
    [
      'raft_commit_lag_entries',
      'Entries of the log that are not known to be committed.',
      () => status().lastIndex - status().commit,
    ],
    [
      'raft_apply_lag_entries',
      'Committed entries that are not applied yet.',
      () => status().commit - status().applied,
    ],
    ['raft_member_lag_entries', 'Entries that a member lacks; at the leader only.', () => lags()],
    ['raft_members', 'Managers by what they are in the group.', () => members()],
    ['raft_disk_full', '1 when the disk has no room for the log.', () => truth(status().diskFull)],
    ['store_version', 'Entry that the store is at.', () => store.version],
    [
      'store_differs',
      "1 when the store was found to differ from the leader's: see tsswarm manager status.",
      () => truth(storeDiffers()),
    ],
    ['store_objects', 'Objects in the store.', () => objects()],
    ['store_pins', 'Snapshots and readings that hold old records.', () => store.pins],
    ['store_watchers', 'Who follows the changes of the store.', () => store.watchers],
    ['tasks', 'Tasks by the state they are in.', () => tasks()],
    ['nodes', 'Nodes by their state.', () => nodes()],
  ];
  const leaderOf = (): number => status().leaderId ?? 0;
  const lags = (): Reading[] =>
    raft.members().flatMap(({ id, lag }) => {
      return lag === undefined || id === raft.id ? [] : [reading({ node: nodeIdOf(id) }, lag)];
    });
  const members = (): Reading[] => {
    const all = raft.members();
    const learners = all.filter(({ learner }) => learner).length;
    return [
      reading({ kind: 'voter' }, all.length - learners),
      reading({ kind: 'learner' }, learners),
    ];
  };
  const objects = (): Reading[] => TABLES.map((table) => reading({ table }, store.count(table)));
  const tasks = (): Reading[] =>
    Object.values(TaskState).map((state) =>
      reading({ state: taskStateName(state) }, store.taskStates.get(state) ?? 0),
    );
  const nodes = (): Reading[] => {
    const states = Array.from(store.all('node'), ({ state }) => state);
    return NODE_STATES.map((state) =>
      reading({ state }, states.filter((each) => each === state).length),
    );
  };
  const removals = gauges.map(([name, help, read]) => meter.gauge(`tsswarm_${name}`, help, read));
  removals.push(
    meter.gauge(
      'tsswarm_store_watch_falls_total',
      'Times that who follows the changes was too slow, or asked for too old ones, and began anew.',
      () => store.watchFalls,
      true,
    ),
  );
  return () => {
    for (const remove of removals) remove();
  };
}

function truth(is: boolean): number {
  return is ? 1 : 0;
}

function reading(labels: Labels, value: number): Reading {
  return { labels, value };
}
