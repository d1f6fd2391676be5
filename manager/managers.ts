/**
 * All managers in one picture, as this one can draw it: each is asked for its own state at the same
 * time, and of one that does not answer is told what the leader, or this manager, knows of it.
 * Needs no quorum and no leader; writes nothing.
 */
import { messageOf } from '../base/errors.ts';
import type { Node } from '../model/types.ts';
import { differenceText, type KnownMember, type ManagerState, sameStore } from './managerState.ts';
import type { Member } from './raft/types.ts';
import type { StoreState } from './store/types.ts';

export interface ManagerEntry {
  readonly raftId: number;
  /** '' while its node is not known here. */
  readonly nodeId: string;
  readonly hostname: string;
  readonly address: string;
  readonly learner: boolean;
  readonly isSelf: boolean;
  /** undefined: it did not answer; `error` says why. */
  readonly state: ManagerState | undefined;
  readonly error: string;
  /** Entries that it lacks, as the leader knows. */
  readonly lag: number | undefined;
  /** Since the leader last heard from it; of the leader, since this manager did. */
  readonly heardAgeMs: number | undefined;
  /** Its store compared with this manager's; undefined where that cannot be told. */
  readonly sameStore: boolean | undefined;
}

export interface ManagersPicture {
  /** A leader is known and answers, and so does a majority. */
  readonly hasQuorum: boolean;
  /** What is wrong, and what to do, a line each; [] when nothing is. */
  readonly problems: readonly string[];
  readonly managers: readonly ManagerEntry[];
}

export interface ManagersOptions {
  readonly store: StoreState;
  readonly members: () => readonly Member[];
  readonly nodeOf: (raftId: number) => Node | undefined;
  readonly own: (atVersion: number) => ManagerState;
  /** Another manager's state; bounded. */
  readonly ask: (address: string, atVersion: number) => Promise<ManagerState>;
}

type Asked = { readonly member: Member } & Pick<ManagerEntry, 'state' | 'error'>;

export async function drawManagers(options: ManagersOptions): Promise<ManagersPicture> {
  const own = options.own(options.store.version);
  const asked = await Promise.all(
    options.members().map(async (member): Promise<Asked> => {
      if (member.id === own.raftId) return { member, state: own, error: '' };
      try {
        const state = await options.ask(member.address, own.storeVersion);
        return { member, state, error: '' };
      } catch (error) {
        return { member, state: undefined, error: messageOf(error) };
      }
    }),
  );
  const leader = asked.find(({ state }) => state?.role === 'leader')?.state;
  const managers = asked.map(({ member, state, error }): ManagerEntry => {
    const node = options.nodeOf(member.id);
    const isSelf = member.id === own.raftId;
    const byLeader = knownMember(leader ?? own, member.id);
    // Nobody hears the leader as its followers do; it knows of the rest.
    const heard = member.id === leader?.raftId ? knownMember(own, member.id) : byLeader;
    const compare = (theirs: ManagerState): boolean | undefined =>
      sameStore(own, (version) => options.store.hashAt(version), theirs);
    return {
      raftId: member.id,
      nodeId: node?.id ?? '',
      hostname: node?.description.hostname ?? '',
      address: member.address,
      learner: member.learner,
      isSelf,
      state,
      error,
      lag: byLeader?.lag,
      heardAgeMs: isSelf && state?.role === 'leader' ? undefined : heard?.heardAgeMs,
      sameStore: state === undefined ? undefined : isSelf || compare(state),
    };
  });
  const voters = managers.filter(({ learner }) => !learner);
  const answering = voters.filter(({ state }) => state !== undefined).length;
  const hasQuorum = leader !== undefined && answering >= majority(voters.length);
  return { hasQuorum, problems: problemsOf(managers, leader), managers };
}

function knownMember({ members }: ManagerState, id: number): KnownMember | undefined {
  return members.find(({ raftId }) => raftId === id);
}

function majority(voters: number): number {
  return Math.floor(voters / 2) + 1;
}

function nameOf({ hostname, address }: ManagerEntry): string {
  return hostname === '' ? address : hostname;
}

function problemsOf(
  managers: readonly ManagerEntry[],
  leader: ManagerState | undefined,
): readonly string[] {
  const voters = managers.filter((each) => !each.learner);
  const silent = managers.filter(({ state }) => state === undefined);
  const answering = voters.filter(({ state }) => state !== undefined).length;
  const needed = majority(voters.length);
  const problems: string[] = [];
  const names = silent.map((each) => `${nameOf(each)} (${each.address})`).join(', ');
  if (answering < needed) {
    problems.push(
      `no quorum: ${answering} of ${voters.length} managers answer here, ${needed} are needed; ` +
        `not answering: ${names}. Services run on, changes wait: bring back enough of them`,
    );
  } else if (leader === undefined) {
    problems.push(
      'no leader: an election is under way, or those who answer cannot reach each other',
    );
  } else if (silent.length > 0) {
    problems.push(`not answering: ${names}`);
  }
  for (const each of managers) {
    const { state } = each;
    if (state === undefined) continue;
    if (state.diskFull) {
      problems.push(
        `the disk of ${nameOf(each)} is full: its Raft log takes no writes; free space`,
      );
    }
    if (state.differsAt > 0) problems.push(differenceText(nameOf(each), state.differsAt));
    else if (each.sameStore === false) {
      problems.push(differenceText(nameOf(each), state.storeVersion));
    }
  }
  return problems;
}
