/**
 * When is a node gone? Pure: told of sessions, heartbeats, probes and the time, it says what to
 * probe and what to call whom. It opens no connection, sets no timer and reads no clock.
 *
 * | phase | what is true | left by |
 * |---|---|---|
 * | live | has a session, heard from lately | silence or a broken session -> suspected |
 * | any | its host says that it has left | down |
 * | awaited | this leader is new: no session yet | grace over -> suspected; opened -> live |
 * | suspected | probed, round after round | all silent -> down or held; answered -> answering |
 * | answering | host answers, no session | opened -> live; silent -> suspected; too long -> down |
 * | held | silent with most others at once | hold over -> down; opened -> live; |
 * | | | answered -> answering; most are back -> awaited |
 * | down | called down | opened -> live |
 *
 * Deadlines are put off by the manager's own pauses: a process that did not run could not listen.
 */
import { HEARTBEAT_MS } from '../heartbeat.ts';

export interface DetectorTimes {
  /** Silence after which a node with a session is suspected; in heartbeats, as it was told them. */
  readonly silenceBeats: number;
  /** How long a new leader waits for a node's session before it suspects it; in heartbeats. */
  readonly graceBeats: number;
  /** Silent probe rounds before a node is called down. */
  readonly rounds: number;
  /** Between probes of a host that answers but has no session. */
  readonly answeringEveryMs: number;
  /** Until such a node is shown as disconnected, and until it is called down. */
  readonly disconnectedMs: number;
  readonly answeringMs: number;
  /** A gap between ticks above which it counts as a pause of this process. */
  readonly pauseMs: number;
  /** How long nodes that vanished together are held, and how close together that is. */
  readonly holdMs: number;
  readonly togetherMs: number;
}

export const DETECTOR_TIMES: DetectorTimes = {
  silenceBeats: 2,
  graceBeats: 5,
  rounds: 3,
  answeringEveryMs: 1000,
  disconnectedMs: 5000,
  answeringMs: 30_000,
  pauseMs: 250,
  holdMs: 60_000,
  togetherMs: 10_000,
};

/** Fewer nodes than this vanishing together are just failures. */
const MANY = 3;

export type Phase = 'live' | 'awaited' | 'suspected' | 'answering' | 'held' | 'down';

/** What a round of probes found: the host, directly or through others; or nothing anywhere. */
export type ProbeResult = 'answers' | 'silent';

export type Action =
  | { readonly kind: 'probe'; readonly nodeId: string; readonly round: number }
  | {
      readonly kind: 'state';
      readonly nodeId: string;
      readonly state: 'down' | 'disconnected' | 'ready';
      readonly message: string;
    };

interface Watched {
  phase: Phase;
  heardAtMs: number;
  /** Between its heartbeats, as it was told last. */
  beatMs: number;
  /** When the present phase began. */
  sinceMs: number;
  /** Why it is suspected. */
  reason: string;
  /** Silent rounds in a row. */
  silentRounds: number;
  /** Grows with every probe, so that a late result is told from a current one. */
  round: number;
  probing: boolean;
  nextProbeMs: number;
  shown: '' | 'down' | 'disconnected';
}

export class FailureDetector {
  readonly #times: DetectorTimes;
  readonly #nodes = new Map<string, Watched>();
  #lastTickMs: number | undefined;
  #due: Action[] = [];

  constructor(times: DetectorTimes = DETECTOR_TIMES) {
    this.#times = times;
  }

  /**
   * A node this leader is responsible for but has not heard of: 'awaited' gets the grace,
   * 'suspected' none (the leader before, whose fall made this one leader), 'down' was called so.
   */
  watch(
    nodeId: string,
    phase: 'awaited' | 'suspected' | 'down',
    nowMs: number,
    beatMs = HEARTBEAT_MS,
  ): void {
    if (this.#nodes.has(nodeId)) return;
    this.#nodes.set(nodeId, {
      phase,
      heardAtMs: nowMs,
      beatMs,
      sinceMs: nowMs,
      reason: phase === 'suspected' ? 'it stopped leading' : 'no session since the leader changed',
      // Its silence has been noticed by those who elected this leader: that is one round.
      silentRounds: phase === 'suspected' ? 1 : 0,
      round: 0,
      probing: false,
      nextProbeMs: nowMs,
      shown: phase === 'down' ? 'down' : '',
    });
  }

  forget(nodeId: string): void {
    this.#nodes.delete(nodeId);
  }

  phaseOf(nodeId: string): Phase | undefined {
    return this.#nodes.get(nodeId)?.phase;
  }

  /** `beatMs`: how soon the next heartbeat was asked for. */
  opened(nodeId: string, nowMs: number, beatMs = HEARTBEAT_MS): void {
    this.watch(nodeId, 'awaited', nowMs);
    const node = this.#nodes.get(nodeId);
    if (node === undefined) return;
    this.#enter(node, 'live', nowMs);
    node.heardAtMs = nowMs;
    node.beatMs = beatMs;
    node.silentRounds = 0;
    node.probing = false;
    node.round += 1;
    node.shown = '';
  }

  heard(nodeId: string, nowMs: number, beatMs = HEARTBEAT_MS): void {
    const node = this.#nodes.get(nodeId);
    if (node === undefined) return;
    node.beatMs = beatMs;
    if (node.phase === 'live') node.heardAtMs = nowMs;
    else if (node.phase !== 'awaited') {
      // Its session never ended: nobody else will write that it is ready again.
      const wasShown = node.shown !== '';
      this.opened(nodeId, nowMs, beatMs);
      if (wasShown) this.#due.push({ kind: 'state', nodeId, state: 'ready', message: '' });
    }
  }

  broken(nodeId: string, reason: string, nowMs: number): void {
    const node = this.#nodes.get(nodeId);
    if (node?.phase === 'live') this.#suspect(node, reason, nowMs);
  }

  /** It said so itself: no silence need be waited for. */
  left(nodeId: string, nowMs: number): void {
    const node = this.#nodes.get(nodeId);
    if (node === undefined) return;
    node.reason = 'it has left the swarm';
    node.probing = false;
    this.#enter(node, 'down', nowMs);
    this.#show(nodeId, node, 'down', node.reason, this.#due);
  }

  /** The outcome of the probe asked for with `round`; late ones count for nothing. */
  probed(nodeId: string, round: number, result: ProbeResult, nowMs: number): void {
    const node = this.#nodes.get(nodeId);
    if (node === undefined || !node.probing || node.round !== round) return;
    node.probing = false;
    if (result === 'silent') {
      node.silentRounds += 1;
      node.nextProbeMs = nowMs;
      if (node.phase === 'answering') this.#enter(node, 'suspected', nowMs);
      return;
    }
    node.silentRounds = 0;
    node.nextProbeMs = nowMs + this.#times.answeringEveryMs;
    if (node.phase !== 'answering') this.#enter(node, 'answering', nowMs);
  }

  /** What was said of a node could not be stored: say it again if it still holds. */
  unwritten(nodeId: string): void {
    const node = this.#nodes.get(nodeId);
    if (node === undefined) return;
    node.shown = '';
    if (node.phase === 'down') node.phase = 'suspected';
  }

  /** Call a few times a second; what comes back is to be done. */
  tick(nowMs: number): readonly Action[] {
    this.#absorbPause(nowMs);
    const actions = this.#due;
    this.#due = [];
    for (const [nodeId, node] of this.#nodes) this.#advance(nodeId, node, nowMs, actions);
    return actions;
  }

  /** A process that stood still heard nothing and its probes' deadlines meant nothing. */
  #absorbPause(nowMs: number): void {
    const gapMs = nowMs - (this.#lastTickMs ?? nowMs);
    this.#lastTickMs = nowMs;
    if (gapMs <= this.#times.pauseMs) return;
    for (const node of this.#nodes.values()) {
      node.heardAtMs = Math.min(nowMs, node.heardAtMs + gapMs);
      node.sinceMs = Math.min(nowMs, node.sinceMs + gapMs);
      if (!node.probing) continue;
      node.probing = false;
      node.nextProbeMs = nowMs;
    }
  }

  #advance(nodeId: string, node: Watched, nowMs: number, actions: Action[]): void {
    const times = this.#times;
    const { beatMs } = node;
    if (node.phase === 'live' && nowMs - node.heardAtMs >= times.silenceBeats * beatMs) {
      this.#suspect(node, 'no heartbeat', nowMs);
    } else if (node.phase === 'awaited' && nowMs - node.sinceMs >= times.graceBeats * beatMs) {
      this.#suspect(node, node.reason, nowMs);
    }
    if (node.phase === 'suspected' && node.silentRounds >= times.rounds) {
      if (this.#manyGone(nowMs)) this.#enter(node, 'held', nowMs);
      else this.#callDown(nodeId, node, nowMs, actions);
    }
    if (node.phase === 'held') this.#advanceHeld(nodeId, node, nowMs, actions);
    if (node.phase === 'answering') this.#advanceAnswering(nodeId, node, nowMs, actions);
    const probes =
      node.phase === 'suspected' || node.phase === 'answering' || node.phase === 'held';
    if (!probes || node.probing || nowMs < node.nextProbeMs) return;
    node.probing = true;
    node.round += 1;
    if (node.phase === 'held') node.nextProbeMs = nowMs + times.answeringEveryMs;
    actions.push({ kind: 'probe', nodeId, round: node.round });
  }

  #advanceHeld(nodeId: string, node: Watched, nowMs: number, actions: Action[]): void {
    if (nowMs - node.sinceMs >= this.#times.holdMs) {
      this.#callDown(nodeId, node, nowMs, actions);
      return;
    }
    if (!this.#manyGone(nowMs)) {
      // The others are back: so will this one be, or it is found silent once more.
      this.#enter(node, 'awaited', nowMs);
      return;
    }
    const seconds = Math.round(this.#times.holdMs / 1000);
    const message =
      `${node.reason}; unreachable together with most other nodes, which looks like a fault of ` +
      `the network: held for ${seconds} s before it is called down`;
    this.#show(nodeId, node, 'disconnected', message, actions);
  }

  #advanceAnswering(nodeId: string, node: Watched, nowMs: number, actions: Action[]): void {
    const forMs = nowMs - node.heardAtMs;
    if (forMs >= this.#times.answeringMs) {
      const seconds = Math.round(forMs / 1000);
      node.reason = `${node.reason}; its host answers but its daemon has not for ${seconds} s`;
      this.#enter(node, 'down', nowMs);
      this.#show(nodeId, node, 'down', node.reason, actions);
    } else if (forMs >= this.#times.disconnectedMs) {
      const message = `${node.reason}; its host answers, its daemon does not: its tasks run on`;
      this.#show(nodeId, node, 'disconnected', message, actions);
    }
  }

  #callDown(nodeId: string, node: Watched, nowMs: number, actions: Action[]): void {
    this.#enter(node, 'down', nowMs);
    const message = `${node.reason}, and ${node.silentRounds} rounds of probes found it silent`;
    this.#show(nodeId, node, 'down', message, actions);
  }

  /** Most nodes, and not just one or two, went silent within a short time. */
  #manyGone(nowMs: number): boolean {
    const { rounds, togetherMs, holdMs } = this.#times;
    let gone = 0;
    let known = 0;
    for (const node of this.#nodes.values()) {
      const recent = nowMs - node.sinceMs <= togetherMs;
      if (node.phase === 'down' && !recent) continue;
      known += 1;
      const silent = node.phase === 'suspected' && node.silentRounds >= Math.min(1, rounds);
      const held = node.phase === 'held' && nowMs - node.sinceMs < holdMs;
      if (silent || held || node.phase === 'down') gone += 1;
    }
    return gone >= MANY && gone * 2 > known;
  }

  #suspect(node: Watched, reason: string, nowMs: number): void {
    this.#enter(node, 'suspected', nowMs);
    // Heard rarely, it may have been heard long ago, and is given the same time to come back.
    const graceMs = this.#times.graceBeats * HEARTBEAT_MS;
    node.heardAtMs = Math.max(node.heardAtMs, nowMs - graceMs);
    node.reason = reason;
    node.silentRounds = 0;
    node.nextProbeMs = nowMs;
  }

  #enter(node: Watched, phase: Phase, nowMs: number): void {
    node.phase = phase;
    node.sinceMs = nowMs;
  }

  #show(
    nodeId: string,
    node: Watched,
    state: 'down' | 'disconnected',
    message: string,
    actions: Action[],
  ): void {
    if (node.shown === state) return;
    node.shown = state;
    actions.push({ kind: 'state', nodeId, state, message });
  }
}
