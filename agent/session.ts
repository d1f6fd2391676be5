/**
 * Keeps one session with the leading manager: finds it, heartbeats at the period it is told, reads
 * the assignments, and starts over with back-off when any of that breaks. It knows nothing of tasks
 * and gives up never.
 *
 * | state | what is true | left by |
 * |---|---|---|
 * | choosing | no link; waits out the back-off | `#choose` picks an address -> opening |
 * | opening | a link is made, no message yet | message -> up; error or deadline -> choosing |
 * | up | heartbeats are answered | a stream ends, 3 heartbeats fail, told to move -> choosing |
 */
import { AssertionError } from '../base/assert.ts';
import type { Clock } from '../base/clock.ts';
import { hasCode, messageOf, SwarmError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { Signal, withDeadline } from '../base/queue.ts';
import type { Random } from '../base/random.ts';
import type { AssignmentMessage, SessionMessage } from '../model/assignment.ts';
import type { Dial, Link, SessionRequest } from './link.ts';
import type { SendStatuses } from './reporter.ts';

export interface SessionHandlers {
  /** The first message of a session, and the way to report statuses in it. */
  up(message: SessionMessage, send: SendStatuses): void;
  /** Later ones. */
  message(message: SessionMessage): void;
  /** False: it does not build on what is held; the stream is opened anew. */
  assignment(message: AssignmentMessage): boolean;
  /** Resolves once the networks are as the last assignment wants them. */
  settled(): Promise<void>;
  down(reason: string): void;
  /** A manager says that this node may not come (removed, copied, no valid certificate). */
  refused(error: SwarmError): void;
}

export interface SessionOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly dial: Dial;
  readonly request: () => Omit<SessionRequest, 'previousSessionId'>;
  readonly handlers: SessionHandlers;
}

/** A manager that answers nothing for so long is passed over; grows while all fail. */
const FIRST_MESSAGE_MS = 1500;
const FIRST_MESSAGE_GROWTH = 2;
const BACKOFF_FIRST_MS = 100;
const BACKOFF_MAX_MS = 1000;
/** Managers that answer but do not lead are about to elect: asked again soon. */
const ELECTION_BACKOFF_MAX_MS = 250;
/** A manager that lags may not know a new node yet; so many refusals in a row are meant. */
export const REFUSALS = 4;
/** Then they will hardly change their mind: asked now and then. */
const REFUSED_BACKOFF_MS = 5000;
/** Followed without a pause, one after another. */
const REDIRECTS = 3;
/** An address that failed so recently is not worth following a redirect to. */
const FAILED_RECENTLY_MS = 1000;
/** One that answered nothing has its next turn so much later than one that refused. */
const SILENT_PENALTY_MS = 3000;
/** Nobody waits for longer. */
const CONFIRM_DEADLINE_MS = 1000;
export const HEARTBEAT_FAILURES = 3;
/** Of the period; three of them and the pauses between stay below the detector's patience. */
const HEARTBEAT_DEADLINE_SHARE = 0.6;
const HEARTBEAT_DEADLINE_MIN_MS = 300;
const HEARTBEAT_DEADLINE_MAX_MS = 2000;
const STATUS_DEADLINE_MS = 5000;
const RESYNC_DELAY_MS = 100;
/** Reasons remembered, so that the log says each once. */
const TOLD_MAX = 100;

export class Session {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #log: Log;
  readonly #dial: Dial;
  readonly #request: SessionOptions['request'];
  readonly #handlers: SessionHandlers;
  readonly #wake = new Signal();
  readonly #failedAtMs = new Map<string, number>();
  /** Addresses are tried in this order, the lowest first. */
  readonly #turnMs = new Map<string, number>();
  #managers: readonly string[] = [];
  #leader = '';
  #current = '';
  #move: ((reason: SwarmError) => void) | undefined;
  readonly #told = new Set<string>();
  #sessionId = '';
  #failures = 0;
  #refusals = 0;
  #redirects = 0;
  #stopped = false;
  #reopening = false;
  #running: Promise<void> | undefined;

  constructor(options: SessionOptions) {
    this.#clock = options.clock;
    this.#random = options.random;
    this.#log = options.log;
    this.#dial = options.dial;
    this.#request = options.request;
    this.#handlers = options.handlers;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Resolves when the link is closed. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#move?.(new SwarmError('cancelled', 'the agent stops'));
    this.#wake.emit();
    await this.#running;
  }

  /**
   * Addresses (host:port) to look for the leader at, best first. `leader`, where the caller knows
   * it for sure (a manager's own daemon), makes the session move there at once.
   */
  setManagers(managers: readonly string[], leader = ''): void {
    const changed = leader !== '' || managers.join() !== this.#managers.join();
    this.#managers = managers;
    if (leader !== '') {
      this.#leader = leader;
      this.#failedAtMs.delete(leader);
      if (this.#current !== '' && this.#current !== leader) {
        this.#move?.(new SwarmError('not_leader', `manager ${leader} leads now`));
      }
    }
    if (changed) this.#wake.emit();
  }

  /** Begins the session anew at once, at the same manager: what it is opened with has changed. */
  reopen(): void {
    this.#reopening = this.#move !== undefined;
    this.#move?.(new SwarmError('cancelled', 'the session begins anew'));
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      const address = this.#choose();
      if (address === undefined) {
        await this.#pause(BACKOFF_MAX_MS);
        continue;
      }
      const error = await this.#serve(address);
      if (this.#stopped) return;
      if (this.#reopening) {
        this.#reopening = false;
        continue;
      }
      this.#failed(address, error);
      if (this.#redirected(address, error)) continue;
      this.#redirects = 0;
      this.#failures += 1;
      await this.#pause(this.#backoffMs(error));
    }
  }

  #failed(address: string, error: unknown): void {
    const nowMs = this.#clock.nowMs();
    this.#failedAtMs.set(address, nowMs);
    this.#turnMs.set(address, nowMs + (isRefusal(error) ? 0 : SILENT_PENALTY_MS));
  }

  /** The leader as far as known, else the address whose turn it is. */
  #choose(): string | undefined {
    if (this.#leader !== '' && !this.#failedRecently(this.#leader)) return this.#leader;
    const turnMs = (address: string): number => this.#turnMs.get(address) ?? 0;
    let best: string | undefined;
    for (const address of this.#managers) {
      if (best === undefined || turnMs(address) < turnMs(best)) best = address;
    }
    return best ?? (this.#leader === '' ? undefined : this.#leader);
  }

  #failedRecently(address: string): boolean {
    const atMs = this.#failedAtMs.get(address);
    return atMs !== undefined && this.#clock.nowMs() - atMs < FAILED_RECENTLY_MS;
  }

  /** True when the next address should be tried without a pause. */
  #redirected(address: string, error: unknown): boolean {
    if (this.#leader === address) this.#leader = '';
    if (!hasCode(error, 'not_leader')) return false;
    const leader = error.detail.leader ?? this.#leader;
    if (leader === '' || leader === address || this.#failedRecently(leader)) return false;
    this.#leader = leader;
    this.#redirects += 1;
    return this.#redirects <= REDIRECTS;
  }

  #backoffMs(error: unknown): number {
    if (isForbidden(error) && this.#refusals >= REFUSALS) return REFUSED_BACKOFF_MS;
    const maxMs = hasCode(error, 'not_leader') ? ELECTION_BACKOFF_MAX_MS : BACKOFF_MAX_MS;
    const fullMs = Math.min(maxMs, BACKOFF_FIRST_MS * 2 ** Math.min(this.#failures - 1, 10));
    return fullMs * (0.5 + this.#random.float() / 2);
  }

  /** Ends early when something changed that makes another try worthwhile. */
  async #pause(delayMs: number): Promise<void> {
    if (this.#stopped) return;
    await this.#wake.next(this.#clock, delayMs).catch(() => {
      // Nothing changed meanwhile: the pause is over.
    });
  }

  /** One session from dialling to its end; resolves with what ended it. */
  async #serve(address: string): Promise<unknown> {
    let link: Link | undefined;
    const ended = new AbortController();
    const moved = new Promise<never>((_, reject) => {
      this.#move = reject;
    });
    this.#current = address;
    let up = false;
    let reason: unknown;
    try {
      link = this.#dial(address);
      const request = { ...this.#request(), previousSessionId: this.#sessionId };
      const messages = link.openSession(request, ended.signal)[Symbol.asyncIterator]();
      const first = await Promise.race([this.#first(address, messages), moved]);
      up = true;
      this.#cameUp(address, link, first);
      await Promise.race([
        this.#readMessages(messages),
        this.#readAssignments(link, first.sessionId, ended.signal),
        this.#beat(link, first, ended.signal),
        moved,
      ]);
    } catch (error) {
      if (error instanceof AssertionError) throw error;
      reason = error;
    } finally {
      this.#move = undefined;
      this.#current = '';
      ended.abort();
      link?.close();
    }
    this.#tell(address, up, messageOf(reason));
    if (up) this.#handlers.down(messageOf(reason));
    this.#refusals = isForbidden(reason) ? this.#refusals + 1 : 0;
    if (isForbidden(reason) && this.#refusals >= REFUSALS) this.#handlers.refused(reason);
    return reason;
  }

  /** Each reason once, however often it is met. */
  #tell(address: string, up: boolean, reason: string): void {
    const fields = { manager: address, reason };
    const told = `${address} ${reason}`;
    if (up) this.#log.info('session lost', fields);
    else if (this.#told.has(told)) this.#log.debug('no session', fields);
    else this.#log.info('no session', fields);
    if (this.#told.size < TOLD_MAX) this.#told.add(told);
  }

  async #first(address: string, messages: AsyncIterator<SessionMessage>): Promise<SessionMessage> {
    const growth = FIRST_MESSAGE_GROWTH ** Math.min(2, Math.floor(this.#failures / 3));
    const what = `opening a session with manager ${address}`;
    const first = await withDeadline(this.#clock, FIRST_MESSAGE_MS * growth, what, messages.next());
    if (first.done !== true) return first.value;
    throw new SwarmError('unavailable', `manager ${address} ended the session at once`);
  }

  #cameUp(address: string, link: Link, first: SessionMessage): void {
    this.#failures = 0;
    this.#redirects = 0;
    this.#told.clear();
    this.#failedAtMs.clear();
    this.#turnMs.clear();
    this.#leader = address;
    this.#sessionId = first.sessionId;
    this.#log.info('session is up', { manager: address, session: first.sessionId });
    this.#learn(first);
    this.#handlers.up(first, (updates) =>
      link.updateTaskStatus(first.sessionId, updates, STATUS_DEADLINE_MS),
    );
  }

  #learn(message: SessionMessage): void {
    const addresses = message.managers.map((manager) => manager.address);
    if (addresses.length > 0) this.#managers = addresses;
  }

  async #readMessages(messages: AsyncIterator<SessionMessage>): Promise<never> {
    for (;;) {
      const next = await messages.next();
      if (next.done === true) throw new SwarmError('unavailable', 'the manager ended the session');
      this.#learn(next.value);
      this.#handlers.message(next.value);
    }
  }

  async #readAssignments(link: Link, sessionId: string, signal: AbortSignal): Promise<never> {
    for (;;) {
      let fits = true;
      for await (const message of link.assignments(sessionId, signal)) {
        if (signal.aborted) break;
        fits = this.#handlers.assignment(message);
        if (!fits) break;
        if (message.confirm) void this.#confirm(link, sessionId, message.resultsIn);
      }
      if (signal.aborted) throw new SwarmError('cancelled', 'the session has ended');
      if (fits) throw new SwarmError('unavailable', 'the manager ended the assignments');
      await this.#clock.sleep(RESYNC_DELAY_MS);
    }
  }

  /** Tasks elsewhere may be stopped once nobody connects to them from here; bounded over there. */
  async #confirm(link: Link, sessionId: string, sequence: number): Promise<void> {
    try {
      await this.#handlers.settled();
      await link.applied(sessionId, sequence, CONFIRM_DEADLINE_MS);
    } catch (error) {
      this.#log.debug('networks are not confirmed', { sequence, error: messageOf(error) });
    }
  }

  async #beat(link: Link, first: SessionMessage, signal: AbortSignal): Promise<never> {
    let periodMs = first.heartbeatMs;
    let failures = 0;
    for (;;) {
      await this.#clock.sleep(failures === 0 ? periodMs : Math.min(periodMs, BACKOFF_FIRST_MS));
      if (signal.aborted) throw new SwarmError('cancelled', 'the session has ended');
      const deadlineMs = Math.min(
        HEARTBEAT_DEADLINE_MAX_MS,
        Math.max(HEARTBEAT_DEADLINE_MIN_MS, periodMs * HEARTBEAT_DEADLINE_SHARE),
      );
      try {
        const answer = await link.heartbeat(first.sessionId, deadlineMs);
        if (answer.periodMs > 0) periodMs = answer.periodMs;
        failures = 0;
      } catch (error) {
        if (isRefusal(error)) throw error;
        failures += 1;
        if (failures < HEARTBEAT_FAILURES) continue;
        const message = `${failures} heartbeats were not answered: ${messageOf(error)}`;
        throw new SwarmError('timeout', message, { cause: error });
      }
    }
  }
}

/** The manager knows this node, or its certificate, and does not let it in. */
function isForbidden(error: unknown): error is SwarmError {
  return hasCode(error, 'forbidden') || hasCode(error, 'unauthorized');
}

/** The manager answered, and does not want this session. */
function isRefusal(error: unknown): boolean {
  const codes = ['not_leader', 'not_manager', 'not_found', 'unauthorized', 'forbidden'] as const;
  return codes.some((code) => hasCode(error, code));
}
