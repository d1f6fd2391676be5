/**
 * What the files of a host say about its swarm, while no daemon needs to run: who it is, how far
 * its log goes, who the managers are, what is damaged, and what going on from here alone would keep
 * and discard. Reads only, and through the code that a daemon starts with; mends nothing.
 */
import { existsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { SwarmError } from '../base/errors.ts';
import type { Random } from '../base/random.ts';
import { Seal } from '../base/seal.ts';
import { snapshotPath } from '../manager/raft/disk/snapshotFile.ts';
import { type MemberSurvey, surveyMember } from '../manager/raft/offline.ts';
import { Replica } from '../manager/replica.ts';
import { otherManagers } from '../manager/soleManager.ts';
import type { View } from '../manager/store/types.ts';
import { countsOf } from './backup.ts';
import { Identity, type Membership } from './identity.ts';
import { parseUnlockKey } from './keyFile.ts';

export interface ExaminedMember {
  readonly RaftID: number;
  readonly NodeID: string;
  readonly Hostname: string;
  readonly Address: string;
  readonly Voter: boolean;
  readonly Self: boolean;
}

/** As --json prints it, and the API answers it. */
export interface Examined {
  /** The data root. */
  readonly Directory: string;
  /** It can be gone on from with --force-new-cluster. */
  readonly Usable: boolean;
  /** Why not, or why no more is known; '' otherwise. */
  readonly Problem: string;
  readonly Damage: readonly { readonly File: string; readonly Offset: number; What: string }[];
  readonly Node?: {
    readonly ID: string;
    readonly Role: string;
    readonly Address: string;
    readonly RaftID: number;
    readonly Managers: readonly string[];
  };
  readonly Raft?: {
    readonly Term: number;
    readonly Vote: number;
    readonly Commit: number;
    readonly FirstIndex: number;
    readonly LastIndex: number;
    readonly LastTerm: number;
    readonly Snapshot?: { readonly Index: number; readonly Term: number; readonly Time: string };
    /** A last batch that was not written whole, and never acknowledged. */
    readonly Torn?: { readonly File: string; readonly Offset: number };
    readonly Removed: readonly number[];
    /** Of the newest parts; 0 = there is none. */
    readonly Formats: { readonly Log: number; readonly Snapshot: number };
  };
  readonly Members: readonly ExaminedMember[];
  readonly Cluster?: {
    readonly ID: string;
    readonly Version: number;
    /** Of the last change. */
    readonly Time: string;
    readonly Counts: Readonly<Record<string, number>>;
  };
  readonly Keeps: readonly string[];
  readonly Discards: readonly string[];
}

export interface ExamineOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** '' = none was given. */
  readonly unlockKey: string;
  /** A daemon's own, whose keys it has; default: read anew. */
  readonly identity?: Identity;
}

/** `directory` is a data root, or the swarm/ in it. SwarmError not_found when there is no state. */
export async function examine(directory: string, options: ExamineOptions): Promise<Examined> {
  const found = await examineOnce(directory, options);
  // What a daemon is just writing looks damaged; it is whole a moment later.
  return found.Damage.length === 0 ? found : examineOnce(directory, options);
}

async function examineOnce(directory: string, options: ExamineOptions): Promise<Examined> {
  const dataRoot = existsSync(join(directory, 'state.json')) ? dirname(directory) : directory;
  const path = join(dataRoot, 'swarm');
  if (!existsSync(path)) {
    throw new SwarmError(
      'not_found',
      `${dataRoot} holds no state of a swarm: name the data root of a daemon, /var/lib/tsswarm ` +
        'unless told otherwise',
    );
  }
  const found = new Findings(dataRoot);
  const identity = options.identity ?? new Identity(dataRoot, options.random);
  const membership = found.attempt(join(path, 'state.json'), () => identity.membership());
  if (membership === undefined) {
    return found.result(
      found.damage.length > 0 ? '' : 'this host is in no swarm: its join or init never finished',
    );
  }
  found.membership = membership;
  if (!existsSync(join(identity.raftDirectory, 'wal'))) {
    return found.result(
      membership.raftId === 0
        ? 'this host was a worker: it holds no state of the swarm'
        : 'the directory raft is missing: this manager lost its state, and can only join again',
    );
  }
  if (identity.isLocked && options.unlockKey === '') {
    return found.result('it is locked: give the unlock key to see more');
  }
  const key = found.attempt(join(path, 'node.key'), () => {
    if (identity.isLocked) identity.unlock(parseUnlockKey(options.unlockKey));
    return identity.storedRaftKeys();
  });
  if (key === undefined) return found.result('');
  const seal = key.length === 0 ? undefined : new Seal(key[0], options.random, key.slice(1));
  const replica = new Replica({ clock: options.clock });
  found.survey = await surveyMember(identity.raftDirectory, seal, replica);
  found.view = replica.store;
  found.atMs = replica.store.atMs;
  return found.result('');
}

/** Collects what is found, in any order, and puts it into words. */
class Findings {
  readonly damage: { File: string; Offset: number; What: string }[] = [];
  membership: Membership | undefined = undefined;
  survey: MemberSurvey | undefined = undefined;
  view: View | undefined = undefined;
  atMs = 0;
  readonly #dataRoot: string;

  constructor(dataRoot: string) {
    this.#dataRoot = dataRoot;
  }

  /** What `read` gives; an error of it is damage of the file. A wrong key is the user's. */
  attempt<T>(file: string, read: () => T): T | undefined {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof SwarmError) || error.code === 'invalid') throw error;
      this.damage.push({ File: file, Offset: 0, What: error.message });
      return undefined;
    }
  }

  result(problem: string): Examined {
    const { membership, survey, view } = this;
    const damage = survey?.damage;
    if (damage !== undefined) {
      const { file = '', offset = '0' } = damage.detail;
      this.damage.push({ File: file, Offset: Number(offset), What: damage.message });
    }
    const why = problem || this.#whyUnusable();
    const cluster = view?.cluster();
    return {
      Directory: this.#dataRoot,
      Usable: why === '',
      Problem: why,
      Damage: this.damage,
      ...(membership === undefined ? {} : { Node: nodeOf(membership) }),
      ...(survey?.state === undefined ? {} : { Raft: raftOf(survey, this.#dataRoot) }),
      Members: this.#members(),
      ...(view === undefined || cluster === undefined
        ? {}
        : {
            Cluster: {
              ID: cluster.id,
              Version: view.version,
              Time: iso(this.atMs),
              Counts: countsOf(view),
            },
          }),
      Keeps: why === '' ? this.#keeps() : [],
      Discards: why === '' ? this.#discards() : [],
    };
  }

  #whyUnusable(): string {
    const { membership, survey, view } = this;
    if (this.damage.length > 0) return 'it is damaged';
    const state = survey?.state;
    if (state === undefined || membership === undefined) return 'its log is empty';
    if (state.nodeId !== membership.raftId) {
      return `its log is of raft member ${state.nodeId}, and state.json says ${membership.raftId}`;
    }
    if (survey?.configuration?.table.wasRemoved(membership.raftId) === true) {
      return 'this manager had been taken out of the managers';
    }
    if (view?.cluster() === undefined) return 'the founding of its swarm was never finished';
    if (view.get('node', membership.nodeId) === undefined) {
      return 'this host had been removed from the swarm';
    }
    return '';
  }

  #members(): ExaminedMember[] {
    const nodes = [...(this.view?.all('node') ?? [])];
    const members = this.survey?.configuration?.table.members() ?? [];
    return members.map(({ id, address, learner }) => {
      const node = nodes.find(({ manager }) => manager?.raftId === id);
      return {
        RaftID: id,
        NodeID: node?.id ?? '',
        Hostname: node?.description.hostname ?? '',
        Address: address,
        Voter: !learner,
        Self: id === this.membership?.raftId,
      };
    });
  }

  #keeps(): string[] {
    const { view, survey } = this;
    const state = survey?.state;
    if (view === undefined || state === undefined) return [];
    const { service, task, network, secret, config, node } = countsOf(view);
    const others = otherManagers(view, this.membership?.nodeId ?? '').length;
    const lines = [
      `the swarm ${view.cluster()?.id} with its root certificate, join tokens and settings`,
      `${amount(service, 'service')}, ${amount(task, 'task')}, ${amount(network, 'network')}, ` +
        `${amount(secret, 'secret')}, ${amount(config, 'config')}, ` +
        `${amount(node - others - 1, 'worker')}, as of entry ${view.version} (${iso(this.atMs)})`,
      'containers that run, wherever a host stays in the swarm',
    ];
    const last = state.entries[state.entries.length - 1]?.index ?? state.base.index;
    const open = last - state.hardState.commit;
    if (open > 0) {
      lines.push(
        `also what it does not know to be agreed on (${open} at the end of the log): ` +
          'it may have been acknowledged',
      );
    }
    return lines;
  }

  #discards(): string[] {
    const { view } = this;
    if (view === undefined) return [];
    const lines = otherManagers(view, this.membership?.nodeId ?? '').map((node) => {
      const name = node.description.hostname || node.id;
      return (
        `manager ${name} (${node.manager?.address ?? node.address}): removed for good; its tasks ` +
        'are placed elsewhere, and its host has to leave ("tsswarm leave --force") and join again'
      );
    });
    if (lines.length > 0) {
      lines.push('changes that only those managers had, if there were any');
    }
    return lines;
  }
}

function iso(atMs: number): string {
  return new Date(atMs).toISOString();
}

function amount(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

function nodeOf(membership: Membership): NonNullable<Examined['Node']> {
  const { nodeId, role, advertiseHost, port, raftId, managers } = membership;
  const Address = `${advertiseHost}:${port}`;
  return { ID: nodeId, Role: role, Address, RaftID: raftId, Managers: managers };
}

function raftOf(survey: MemberSurvey, dataRoot: string): Examined['Raft'] {
  const { state, torn, configuration } = survey;
  if (state === undefined) return undefined;
  const { hardState, base, entries, snapshot } = state;
  const last = entries[entries.length - 1] ?? base;
  const file = snapshotPath(join(dataRoot, 'swarm', 'raft', 'snap'), snapshot);
  const time = existsSync(file) ? statSync(file).mtime.toISOString() : '';
  return {
    Term: hardState.term,
    Vote: hardState.vote,
    Commit: hardState.commit,
    FirstIndex: base.index + 1,
    LastIndex: last.index,
    LastTerm: last.term,
    ...(snapshot.index === 0
      ? {}
      : { Snapshot: { Index: snapshot.index, Term: snapshot.term, Time: time } }),
    ...(torn === undefined ? {} : { Torn: { File: torn.file, Offset: torn.offset } }),
    Removed: configuration?.table.removed() ?? [],
    Formats: { Log: survey.format, Snapshot: survey.snapshotFormat },
  };
}

export interface Comparison {
  /** Data root of the state to go on from; '' when there is none. */
  readonly Best: string;
  readonly Why: string;
  readonly Warnings: readonly string[];
}

/** Which of several states goes furthest, by the rule that managers elect by. */
export function compareStates(all: readonly Examined[]): Comparison {
  const warnings: string[] = [];
  const clusters = new Set(all.flatMap(({ Cluster }) => (Cluster === undefined ? [] : Cluster.ID)));
  if (clusters.size > 1) {
    const ids = [...clusters].join(', ');
    return { Best: '', Why: `they are of different swarms (${ids}): ask about one`, Warnings: [] };
  }
  const ids = all.flatMap(({ Node }) => (Node === undefined ? [] : Node.ID));
  for (const id of new Set(ids)) {
    if (ids.filter((each) => each === id).length > 1) {
      warnings.push(`several are of the same node ${id}: copies, or one of them is older`);
    }
  }
  const usable = all.filter((each) => each.Usable);
  if (usable.length === 0) {
    return { Best: '', Why: 'none of them can be gone on from', Warnings: warnings };
  }
  const rank = ({ Raft }: Examined): readonly [number, number] => [
    Raft?.LastTerm ?? 0,
    Raft?.LastIndex ?? 0,
  ];
  const [best, second] = [...usable].sort((left, right) => {
    const [term, index] = rank(left);
    const [otherTerm, otherIndex] = rank(right);
    return otherTerm - term || otherIndex - index;
  });
  for (const each of all) {
    const [term, index] = rank(each);
    const [bestTerm, bestIndex] = rank(best);
    if (each.Usable || (bestTerm - term || bestIndex - index) >= 0) continue;
    warnings.push(`${each.Directory} goes further, and cannot be used: ${each.Problem}`);
  }
  const [term, index] = rank(best);
  const isEqual = second !== undefined && rank(second).join() === rank(best).join();
  const Why = isEqual
    ? `its log ends at entry ${index} of term ${term}; others are as good`
    : `its log goes furthest: entry ${index} of term ${term}`;
  return { Best: best.Directory, Why, Warnings: warnings };
}
