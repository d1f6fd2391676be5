/**
 * The simulated network as streams, for the production's own transport: ordered both ways, each
 * message some time later. A cut way holds back what is on it, as TCP does, until it heals or one
 * end gives up; loss breaks connections; a process's end is told to the other side, a power loss is
 * not. Alters nothing and keeps no order between streams.
 */
import type { MemberAddress } from '../../manager/raft/types.ts';
import type { PeerDialer, PeerStream, StreamKind } from '../../manager/raft/wire.ts';
import type { SimNetwork } from './network.ts';
import type { SimProcess } from './process.ts';
import type { Schedule } from './schedule.ts';

export type Acceptor = (stream: PeerStream, kind: StreamKind) => void;

/** What one end takes before it asks to wait. */
const WINDOW_BYTES = 65_536;
/** How often a way that is cut is tried again. */
const AGAIN_MS = 150;

interface Listener {
  readonly process: SimProcess;
  readonly accept: Acceptor;
}

export class SimStreams {
  readonly #network: SimNetwork;
  readonly #schedule: Schedule;
  readonly #listeners = new Map<string, Listener>();

  constructor(network: SimNetwork, schedule: Schedule) {
    this.#network = network;
    this.#schedule = schedule;
  }

  listen(address: string, process: SimProcess, accept: Acceptor): void {
    this.#listeners.set(address, { process, accept });
  }

  dialer(self: MemberAddress, process: SimProcess): PeerDialer {
    return {
      openStream: (address, kind) => {
        const near = new End(this, process, self.address, address);
        this.#arrive(self.address, address, undefined, () => {
          // A connection takes both ends: who died while it came about has none.
          if (!process.alive) return;
          const listener = this.#listeners.get(address);
          if (listener?.process.alive !== true) {
            near.fail(new Error(`connection to ${address} refused`));
            return;
          }
          const far = new End(this, listener.process, address, self.address);
          near.joinTo(far);
          this.#schedule.after(0, listener.process, () => listener.accept(far, kind));
        });
        return near;
      },
    };
  }

  after(delayMs: number, process: SimProcess, run: () => void): void {
    this.#schedule.after(delayMs, process, run);
  }

  breaks(): boolean {
    return this.#network.breaksStream();
  }

  /** Runs `run` once what leaves now has come over; waits while the way is cut. */
  #arrive(from: string, to: string, process: SimProcess | undefined, run: () => void): void {
    this.arriveAt(this.#network.arrival(from, to), from, to, process, run);
  }

  arriveAt(
    atMs: number,
    from: string,
    to: string,
    process: SimProcess | undefined,
    run: () => void,
  ): void {
    this.#schedule.at(atMs, undefined, () => {
      if (this.#network.isCut(from, to)) {
        this.arriveAt(this.#schedule.nowMs + AGAIN_MS, from, to, process, run);
      } else if (process === undefined) {
        run();
      } else {
        this.#schedule.after(0, process, run);
      }
    });
  }

  arrival(from: string, to: string): number {
    return this.#network.arrival(from, to);
  }
}

class End implements PeerStream {
  readonly #streams: SimStreams;
  readonly #process: SimProcess;
  readonly #from: string;
  readonly #to: string;
  #other: End | undefined = undefined;
  /** Written before the other end was there. */
  #early: Uint8Array[] = [];
  #data: (bytes: Uint8Array) => void = () => {};
  #drain: () => void = () => {};
  #close: (error: Error | undefined) => void = () => {};
  #isClosed = false;
  #reason: Error | undefined = undefined;
  #onWayBytes = 0;
  #isFull = false;
  #queue: (() => void)[] = [];

  constructor(streams: SimStreams, process: SimProcess, from: string, to: string) {
    this.#streams = streams;
    this.#process = process;
    this.#from = from;
    this.#to = to;
  }

  joinTo(far: End): void {
    this.#other = far;
    far.#other = this;
    const reset = (): Error => new Error('connection reset');
    this.#process.onDeath(() => this.#tell(() => far.fail(reset())));
    far.#process.onDeath(() => far.#tell(() => this.fail(reset())));
    const early = this.#early;
    this.#early = [];
    for (const bytes of early) this.#send(bytes);
    if (this.#isClosed) this.#tell(() => far.fail(this.#reason));
  }

  write(bytes: Uint8Array): boolean {
    if (this.#isClosed || !this.#process.alive) return true;
    if (this.#other === undefined) this.#early.push(bytes);
    else this.#send(bytes);
    if (this.#other !== undefined && this.#streams.breaks()) {
      const broken = new Error('the connection broke');
      this.#tell(() => this.#other?.fail(broken));
      this.#streams.after(1, this.#process, () => this.fail(broken));
    }
    this.#isFull = this.#onWayBytes > WINDOW_BYTES;
    return !this.#isFull;
  }

  #send(bytes: Uint8Array): void {
    const copy = Uint8Array.from(bytes);
    this.#onWayBytes += copy.length;
    this.#tell(() => {
      this.#onWayBytes -= copy.length;
      if (this.#isFull && this.#onWayBytes <= WINDOW_BYTES / 2) {
        this.#isFull = false;
        this.#streams.after(0, this.#process, () => this.#drain());
      }
      const far = this.#other;
      if (far !== undefined && !far.#isClosed) far.#data(copy);
    });
  }

  /** Runs at the other end, after everything told before it. */
  #tell(run: () => void): void {
    const far = this.#other;
    if (far === undefined) return;
    this.#queue.push(run);
    const atMs = this.#streams.arrival(this.#from, this.#to);
    this.#streams.arriveAt(atMs, this.#from, this.#to, far.#process, () => this.#queue.shift()?.());
  }

  onData(listener: (bytes: Uint8Array) => void): void {
    this.#data = listener;
  }

  onDrain(listener: () => void): void {
    this.#drain = listener;
  }

  onClose(listener: (error: Error | undefined) => void): void {
    this.#close = listener;
  }

  close(reason?: Error): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#reason = reason;
    this.#tell(() => this.#other?.fail(reason));
    this.#streams.after(0, this.#process, () => this.#close(undefined));
  }

  /** Closed by the other end, or broken. */
  fail(error: Error | undefined): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#process.alive) this.#streams.after(0, this.#process, () => this.#close(error));
  }
}
