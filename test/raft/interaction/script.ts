/**
 * Replays conversations recorded from etcd-io/raft (its testdata: a command, `----`, what it
 * prints) on our core and prints the same text, log prose left out. The files are not part of this
 * tree.
 */
import { SeededRandom } from '../../../base/random.ts';
import { decodeConfChange } from '../../../manager/raft/core/confCodec.ts';
import { MemoryLog } from '../../../manager/raft/core/memoryLog.ts';
import { RawNode, type Ready } from '../../../manager/raft/core/rawnode.ts';
import {
  APPEND_THREAD,
  APPLY_THREAD,
  type ConfChange,
  type ConfChangeStep,
  type ConfChangeType,
  type ConfState,
  EMPTY_BYTES,
  EMPTY_CONF_STATE,
  type Entry,
  type HardState,
  type Message,
  makeMessage,
  NO_LIMIT,
  type RaftConfig,
  type SnapshotMeta,
  type StepError,
} from '../../../manager/raft/core/types.ts';
import * as describe from './scriptText.ts';

export interface Directive {
  readonly line: number;
  readonly command: string;
  readonly args: ReadonlyMap<string, readonly string[]>;
  readonly input: string;
  readonly expected: string;
}

/** The file format of cockroachdb/datadriven. */
export function parseScript(text: string): Directive[] {
  const lines = text.split('\n');
  const directives: Directive[] = [];
  for (let at = 0; at < lines.length; ) {
    const line = lines[at].trim();
    if (line === '' || line.startsWith('#')) {
      at += 1;
      continue;
    }
    const start = at + 1;
    const separator = lines.indexOf('----', at);
    const input = lines.slice(at + 1, separator).join('\n');
    at = separator + 1;
    const double = lines[at] === '----';
    if (double) at += 1;
    const from = at;
    const ends = (index: number): boolean =>
      double ? lines[index] === '----' && lines[index + 1] === '----' : lines[index] === '';
    while (at < lines.length && !ends(at)) at += 1;
    const expected = lines.slice(from, at).join('\n');
    if (double) at += 2;
    const [command = '', ...words] = line.match(/[^\s=]+(=\([^)]*\)|=\S+)?/g) ?? [];
    const args = new Map<string, string[]>();
    for (const word of words) {
      const [key = '', value] = word.split('=');
      const values = value?.replace(/[()]/g, '').split(/[,\s]+/) ?? [];
      args.set(key, values);
    }
    directives.push({ line: start, command, args, input, expected });
  }
  return directives;
}

const ERRORS: Readonly<Record<StepError, string>> = {
  proposal_dropped: 'raft proposal dropped',
  local_message: 'raft: cannot step raft local message',
  unknown_peer: 'raft: cannot step as peer not found',
};

const STEP_TYPES: Readonly<Record<string, ConfChangeType>> = {
  v: 'addVoter',
  l: 'addLearner',
  r: 'remove',
  u: 'update',
};

interface Node {
  readonly id: number;
  readonly raw: RawNode;
  readonly memory: MemoryLog;
  readonly config: RaftConfig;
  readonly history: SnapshotMeta[];
  readonly appendWork: Message[];
  readonly applyWork: Message[];
}

class ScriptLog extends MemoryLog {
  history: readonly SnapshotMeta[] = [];

  override snapshot(): SnapshotMeta | undefined {
    return this.history[this.history.length - 1];
  }
}

export class ScriptEnv {
  readonly #nodes: Node[] = [];
  #messages: Message[] = [];
  #out: string[] = [];

  /** What the command prints; '' for nothing. */
  run(directive: Directive): string {
    this.#out = [];
    const ids = [...directive.args].filter(([, values]) => values.length === 0).map(([key]) => key);
    const error = this.#run(directive, ids.map(Number), ids);
    if (error !== undefined) this.#out.push(ERRORS[error]);
    return this.#out.join('\n');
  }

  #node(id: number): Node {
    return this.#nodes[id - 1];
  }

  #run(
    directive: Directive,
    ids: readonly number[],
    words: readonly string[],
  ): StepError | undefined {
    const { args } = directive;
    const node = this.#node(ids[0]);
    switch (directive.command) {
      case 'log-level':
      case '_breakpoint':
        return undefined;
      case 'add-nodes':
        this.#addNodes(ids[0], args);
        return undefined;
      case 'campaign':
        node.raw.campaign();
        return undefined;
      case 'propose':
        return node.raw.propose(new TextEncoder().encode(words[1]));
      case 'propose-conf-change':
        return node.raw.proposeConfChange(confChangeOf(directive));
      case 'stabilize':
        this.#stabilize(ids.length > 0 ? ids.map((id) => this.#node(id)) : this.#nodes);
        return undefined;
      case 'process-ready':
        this.#each(ids, 'handling Ready', (one) => this.#processReady(one));
        return undefined;
      case 'process-append-thread':
        this.#each(ids, 'processing append thread', (one) => this.#processAppend(one));
        return undefined;
      case 'process-apply-thread':
        this.#each(ids, 'processing apply thread', (one) => this.#processApply(one));
        return undefined;
      case 'deliver-msgs': {
        const type = args.get('type')?.[0];
        let count = 0;
        for (const id of ids) count += this.#deliver(id, false, type);
        for (const id of args.get('drop') ?? []) count += this.#deliver(Number(id), true, type);
        if (count === 0) this.#out.push('no messages');
        return undefined;
      }
      case 'tick-election':
        for (let at = 0; at < node.config.electionTicks; at += 1) node.raw.tick();
        return undefined;
      case 'tick-heartbeat':
        node.raw.tick();
        return undefined;
      case 'set-randomized-election-timeout':
        node.raw.raft.randomizedElectionTicks = Number(args.get('timeout')?.[0]);
        return undefined;
      case 'transfer-leadership':
        this.#node(Number(args.get('from')?.[0])).raw.transferLeadership(
          Number(args.get('to')?.[0]),
        );
        return undefined;
      case 'forget-leader':
        node.raw.forgetLeader();
        return undefined;
      case 'report-unreachable':
        node.raw.reportUnreachable(ids[1]);
        return undefined;
      case 'compact':
        node.memory.compact(ids[1]);
        this.#out.push(...describe.log(node.memory));
        return undefined;
      case 'raft-log':
        this.#out.push(...describe.log(node.memory));
        return undefined;
      case 'status':
        if (node.raw.raft.role === 'leader') this.#out.push(...describe.progress(node.raw.raft));
        return undefined;
      case 'raft-state':
        for (const { raw } of this.#nodes) this.#out.push(describe.state(raw.raft));
        return undefined;
      case 'send-snapshot': {
        const snapshot = node.memory.snapshot();
        const message = makeMessage('snapshot', ids[1], {
          from: ids[0],
          term: node.raw.raft.term,
          snapshot,
        });
        this.#messages.push(message);
        this.#out.push(...describe.message(message));
        return undefined;
      }
      default:
        throw new Error(`unknown command ${directive.command}`);
    }
  }

  #addNodes(count: number, args: ReadonlyMap<string, readonly string[]>): void {
    const flag = (key: string): boolean => args.get(key)?.[0] === 'true';
    const numbers = (key: string): number[] => (args.get(key) ?? []).map(Number);
    const index = numbers('index')[0] ?? 0;
    const confState: ConfState = {
      ...EMPTY_CONF_STATE,
      voters: numbers('voters'),
      learners: numbers('learners'),
    };
    for (let at = 0; at < count; at += 1) {
      const id = this.#nodes.length + 1;
      const memory = new ScriptLog();
      const first: SnapshotMeta = { index, term: index > 0 ? 1 : 0, confState, data: EMPTY_BYTES };
      const history = [first];
      if (index > 0) memory.installSnapshot(first);
      memory.history = history;
      const applying = numbers('max-committed-size-per-ready')[0];
      const config: RaftConfig = {
        id,
        electionTicks: 3,
        heartbeatTicks: 1,
        storage: memory,
        applied: index,
        random: new SeededRandom(id),
        asyncStorageWrites: flag('async-storage-writes'),
        maxSizePerMessageBytes: NO_LIMIT,
        maxInflightMessages: numbers('inflight')[0] ?? 2 ** 31 - 1,
        checkQuorum: flag('checkquorum'),
        preVote: flag('prevote'),
        readOnly: args.get('read-only')?.[0] === 'lease-based' ? 'lease' : 'safe',
        disableConfChangeValidation: flag('disable-conf-change-validation'),
        stepDownOnRemoval: flag('step-down-on-removal'),
        ...(applying === undefined ? {} : { maxApplyingBytes: applying }),
      };
      const raw = new RawNode(config);
      this.#nodes.push({ id, raw, memory, config, history, appendWork: [], applyWork: [] });
    }
  }

  #each(ids: readonly number[], what: string, work: (node: Node) => void): void {
    for (const id of ids) {
      if (ids.length === 1) work(this.#node(id));
      else this.#section(id, what, () => work(this.#node(id)));
    }
  }

  #section(id: number, what: string, work: () => void): void {
    const outer = this.#out;
    this.#out = [];
    work();
    outer.push(`> ${id} ${what}`, ...this.#out.map((line) => `  ${line}`));
    this.#out = outer;
  }

  #stabilize(nodes: readonly Node[]): void {
    for (let done = false; !done; ) {
      done = true;
      const act = (node: Node, when: boolean, what: string, work: () => void): void => {
        if (!when) return;
        done = false;
        this.#section(node.id, what, work);
      };
      for (const node of nodes) {
        act(node, node.raw.hasReady(), 'handling Ready', () => this.#processReady(node));
      }
      for (const node of nodes) {
        const waits = this.#messages.some(({ to }) => to === node.id);
        act(node, waits, 'receiving messages', () => {
          this.#deliver(node.id, false, undefined);
        });
      }
      for (const node of nodes) {
        act(node, node.appendWork.length > 0, 'processing append thread', () => {
          while (node.appendWork.length > 0) this.#processAppend(node);
        });
      }
      for (const node of nodes) {
        act(node, node.applyWork.length > 0, 'processing apply thread', () => {
          while (node.applyWork.length > 0) this.#processApply(node);
        });
      }
    }
  }

  #deliver(to: number, drop: boolean, type: string | undefined): number {
    const local = ({ from, to: target }: Message): boolean =>
      from === target || from === APPEND_THREAD || from === APPLY_THREAD;
    const mine = this.#messages.filter(
      (message) =>
        message.to === to &&
        !(drop && local(message)) &&
        (type === undefined || describe.typeName(message.type) === type),
    );
    this.#messages = this.#messages.filter((message) => !mine.includes(message));
    for (const message of mine) {
      const lines = describe.message(message);
      this.#out.push(...(drop ? [`dropped: ${lines[0]}`, ...lines.slice(1)] : lines));
      if (drop) continue;
      const error = this.#node(to).raw.step(message);
      if (error !== undefined) this.#out.push(ERRORS[error]);
    }
    return mine.length;
  }

  #processReady(node: Node): void {
    const ready = node.raw.ready();
    this.#out.push(...describe.ready(ready));
    if (!node.config.asyncStorageWrites) {
      persist(node, ready.hardState, ready.entries, ready.snapshot);
      apply(node, ready.committedEntries);
    }
    for (const message of ready.messages) {
      if (message.to === APPEND_THREAD) node.appendWork.push(message);
      else if (message.to === APPLY_THREAD) node.applyWork.push(message);
      else this.#messages.push(message);
    }
    if (!node.config.asyncStorageWrites) node.raw.advance();
  }

  #processAppend(node: Node): void {
    const message = node.appendWork.shift();
    if (message === undefined) {
      this.#out.push('no append work to perform');
      return;
    }
    const { term, vote, commit } = message;
    const hard = term === 0 && vote === 0 && commit === 0 ? undefined : { term, vote, commit };
    this.#work(message, () => persist(node, hard, message.entries, message.snapshot));
  }

  #processApply(node: Node): void {
    const message = node.applyWork.shift();
    if (message === undefined) {
      this.#out.push('no apply work to perform');
      return;
    }
    this.#work(message, () => apply(node, message.entries));
  }

  #work(message: Message, work: () => void): void {
    this.#out.push('Processing:', ...describe.message({ ...message, responses: [] }));
    work();
    this.#out.push('Responses:');
    for (const response of message.responses) this.#out.push(...describe.message(response));
    this.#messages.push(...message.responses);
  }
}

function persist(
  node: Node,
  hardState: HardState | undefined,
  entries: Ready['entries'],
  snapshot: SnapshotMeta | undefined,
): void {
  if (hardState !== undefined) node.memory.setHardState(hardState);
  if (snapshot !== undefined) node.memory.installSnapshot(snapshot);
  else node.memory.append(entries);
}

function apply(node: Node, entries: readonly Entry[]): void {
  for (const entry of entries) {
    let { confState } = node.history[node.history.length - 1];
    if (entry.type === 'confChange') {
      confState = node.raw.applyConfChange(decodeConfChange(entry.data));
    }
    node.history.push({ index: entry.index, term: entry.term, confState, data: EMPTY_BYTES });
  }
}

function confChangeOf({ args, input }: Directive): ConfChange {
  const transitions = { implicit: 'jointImplicit', explicit: 'jointExplicit' } as const;
  const name = args.get('transition')?.[0] ?? 'auto';
  const transition = name === 'implicit' || name === 'explicit' ? transitions[name] : 'auto';
  const changes = stepsOf(input);
  return { transition, changes, context: EMPTY_BYTES };
}

/** 'v1 l2 r3 u4' */
export function stepsOf(input: string): ConfChangeStep[] {
  const words = input.split(/\s+/).filter((word) => word !== '');
  return words.map((word) => ({ type: STEP_TYPES[word[0]], id: Number(word.slice(1)) }));
}
