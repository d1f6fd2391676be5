/**
 * The simulated network: carries whole messages and snapshots between members' processes, and
 * loses, repeats, delays, reorders and cuts them as told; a snapshot may break off, or come again
 * later. It alters nothing. Like the production's transport it tells a removed member so, and does
 * not retry.
 */
import { SwarmError } from '../../base/errors.ts';
import { decodeMessage } from '../../manager/raft/codec.ts';
import { MESSAGE_TYPES, type Message } from '../../manager/raft/core/types.ts';
import type {
  MemberAddress,
  RaftTransport,
  SnapshotChunks,
  TransportHandler,
} from '../../manager/raft/types.ts';
import type { SimProcess } from './process.ts';
import { DeadProcess } from './process.ts';
import type { Dice, Schedule } from './schedule.ts';

export interface NetworkFaults {
  lossRate: number;
  duplicateRate: number;
  /** Chance that a message overtakes and is overtaken. */
  reorderRate: number;
  /** Added to each way, at random up to this. */
  slowMs: number;
  breakSnapshotRate: number;
  repeatSnapshotRate: number;
}

export const NO_NETWORK_FAULTS: NetworkFaults = {
  lossRate: 0,
  duplicateRate: 0,
  reorderRate: 0,
  slowMs: 0,
  breakSnapshotRate: 0,
  repeatSnapshotRate: 0,
};

/** A copy of a message, or a whole snapshot, may come this much later once more. */
const LATE_MS = 3_000;
/** A way that takes nothing is given up after this long. */
const SILENCE_MS = 4_000;
/** A connection breaks far less often than a single message is lost. */
const STREAM_BREAK_SHARE = 0.03;
/** Snapshots travel in pieces up to this, so that they can break off anywhere. */
const MAX_PIECE_BYTES = 4_096;

export class SimNetwork {
  faults: NetworkFaults = { ...NO_NETWORK_FAULTS };
  readonly #schedule: Schedule;
  readonly #dice: Dice;
  readonly #stations = new Map<string, SimTransport>();
  readonly #cut = new Set<string>();
  /** By way, 'from>to': what it takes more than others. */
  readonly lags = new Map<string, number>();
  readonly #lastMs = new Map<string, number>();
  /** What every way takes at least, also when nothing is wrong: members may be far apart. */
  readonly #distanceMs: number;
  /** Told of each message as it leaves. */
  readonly onSaid: (from: number, message: Message) => void;
  delivered = 0;
  snapshots = 0;

  constructor(
    schedule: Schedule,
    dice: Dice,
    distanceMs: number,
    onSaid: (from: number, message: Message) => void,
  ) {
    this.#schedule = schedule;
    this.#dice = dice;
    this.#distanceMs = distanceMs;
    this.onSaid = onSaid;
  }

  connect(self: MemberAddress, process: SimProcess): SimTransport {
    const station = new SimTransport(this, self, process);
    this.#stations.set(self.address, station);
    return station;
  }

  cut(from: string, to: string): void {
    this.#cut.add(`${from}>${to}`);
  }

  heal(): void {
    this.#cut.clear();
  }

  isCut(from: string, to: string): boolean {
    return this.#cut.has(`${from}>${to}`);
  }

  /** Whoever listens there now. */
  station(address: string): SimTransport | undefined {
    const found = this.#stations.get(address);
    return found?.process.alive === true && found.handler !== undefined ? found : undefined;
  }

  /** When what leaves now arrives. */
  arrival(from: string, to: string): number {
    const way = `${from}>${to}`;
    const dice = this.#dice;
    const slowMs = dice.float() * this.faults.slowMs + (this.lags.get(way) ?? 0);
    let atMs = this.#schedule.nowMs + this.#distanceMs + dice.between(0.2, 2) + slowMs;
    if (dice.chance(this.faults.reorderRate)) return atMs + dice.float() * 50;
    atMs = Math.max(atMs, this.#lastMs.get(way) ?? 0);
    this.#lastMs.set(way, atMs);
    return atMs;
  }

  /** Whether a stream breaks with what is written on it now. */
  breaksStream(): boolean {
    const rate = (this.faults.lossRate + this.faults.breakSnapshotRate) * STREAM_BREAK_SHARE;
    return rate > 0 && this.#dice.chance(rate);
  }

  carry(from: SimTransport, to: number, address: string, bytes: Uint8Array): void {
    const { self } = from;
    const dice = this.#dice;
    if (this.isCut(self.address, address) || dice.chance(this.faults.lossRate)) {
      if (dice.chance(0.2)) this.#unreachable(from, to);
      return;
    }
    const atMs = this.arrival(self.address, address);
    this.#schedule.at(atMs, undefined, () => this.#deliver(from, to, address, bytes));
    if (!dice.chance(this.faults.duplicateRate)) return;
    const againMs = atMs + dice.float() * (dice.chance(0.5) ? LATE_MS : 20);
    this.#schedule.at(againMs, undefined, () => this.#deliver(from, to, address, bytes));
  }

  #deliver(from: SimTransport, to: number, address: string, bytes: Uint8Array): void {
    const station = this.station(address);
    if (this.isCut(from.self.address, address)) return;
    if (station === undefined) {
      this.#unreachable(from, to);
      return;
    }
    this.#schedule.after(0, station.process, () => {
      if (!this.admits(from, station)) return;
      this.delivered += 1;
      station.handler?.onMessage(from.self, bytes);
    });
  }

  announce(from: SimTransport, address: string): void {
    const { self } = from;
    if (this.isCut(self.address, address) || this.#dice.chance(this.faults.lossRate)) return;
    this.#schedule.at(this.arrival(self.address, address), undefined, () => {
      const station = this.station(address);
      if (station === undefined || this.isCut(self.address, address)) return;
      this.#schedule.after(0, station.process, () => {
        if (this.admits(from, station)) station.handler?.onHello(self);
      });
    });
  }

  /** A removed member is not listened to, and hears why. */
  admits(from: SimTransport, station: SimTransport): boolean {
    if (station.handler?.wasRemoved(from.self.id) !== true) return true;
    this.#schedule.after(1, from.process, () =>
      from.handler?.onRemoved(new SwarmError('forbidden', `${from.self.id} was taken out`)),
    );
    return false;
  }

  #unreachable(from: SimTransport, to: number): void {
    this.#schedule.after(this.#dice.between(0, 5), from.process, () =>
      from.handler?.onUnreachable(to),
    );
  }

  // ---- snapshots ----

  async carrySnapshot(
    from: SimTransport,
    address: string,
    message: Uint8Array,
    chunks: AsyncIterable<Uint8Array>,
  ): Promise<void> {
    const station = this.station(address);
    await from.process.wait(this.#dice.between(0.5, 3));
    if (station === undefined || !station.process.alive || this.isCut(from.self.address, address)) {
      throw new SwarmError('unavailable', `no way to ${address}`);
    }
    this.snapshots += 1;
    const breaksAfter = this.#dice.chance(this.faults.breakSnapshotRate)
      ? this.#dice.below(6)
      : Number.POSITIVE_INFINITY;
    const transfer = new Transfer(this, from, station, message);
    transfer.begin();
    let count = 0;
    const sent: Uint8Array[] = [];
    for await (const chunk of this.#pieces(chunks)) {
      if (count >= breaksAfter) transfer.breakOff('the connection broke');
      count += 1;
      sent.push(chunk);
      await transfer.send(chunk);
    }
    if (count >= breaksAfter) transfer.breakOff('the connection broke');
    await transfer.end();
    if (!this.#dice.chance(this.faults.repeatSnapshotRate)) return;
    this.#schedule.after(this.#dice.float() * LATE_MS, from.process, () => {
      const again = this.station(address);
      if (again === undefined) return;
      const repeat = new Transfer(this, from, again, message);
      repeat.begin();
      for (const chunk of sent) void repeat.send(chunk);
      repeat.end().catch(() => {
        // Nobody waits for the copy.
      });
    });
  }

  async *#pieces(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      for (let at = 0; at < chunk.length; ) {
        const bytes = this.#dice.whole(1, MAX_PIECE_BYTES);
        yield chunk.subarray(at, at + bytes);
        at += bytes;
      }
    }
  }

  get schedule(): Schedule {
    return this.#schedule;
  }
}

/** One snapshot on its way: what the sender pushes, the receiver pulls. */
class Transfer {
  readonly #network: SimNetwork;
  readonly #from: SimTransport;
  readonly #to: SimTransport;
  readonly #message: Uint8Array;
  readonly #arrived: Uint8Array[] = [];
  #lastMs = 0;
  #ended = false;
  #failure: Error | undefined = undefined;
  #wake: () => void = () => {};
  #settled: (() => void) | undefined = undefined;
  #outcome: 'stored' | Error | undefined = undefined;

  constructor(network: SimNetwork, from: SimTransport, to: SimTransport, message: Uint8Array) {
    this.#network = network;
    this.#from = from;
    this.#to = to;
    this.#message = message;
  }

  begin(): void {
    const stop = this.#to.process.onDeath(() => this.#answer(new Error('the receiver went away')));
    this.#from.process.onDeath(() => this.#arrive(() => this.#fail('the sender went away')));
    this.#arrive(() => {
      const { handler } = this.#to;
      if (handler === undefined || !this.#network.admits(this.#from, this.#to)) {
        this.#answer(new Error('refused'));
        return;
      }
      handler.onSnapshot(this.#from.self, this.#message, this.#chunks()).then(
        () => {
          stop();
          this.#answer('stored');
        },
        (error: unknown) => {
          stop();
          this.#answer(error instanceof Error ? error : new Error(String(error)));
        },
      );
    });
  }

  /** Runs at the receiver once it has come over; a cut way breaks the transfer in the end. */
  #arrive(run: () => void): void {
    const { schedule } = this.#network;
    const [from, to] = [this.#from.self.address, this.#to.self.address];
    // In order: it is one stream.
    this.#lastMs = Math.max(this.#lastMs, this.#network.arrival(from, to));
    schedule.at(this.#lastMs, undefined, () => {
      if (this.#network.isCut(from, to)) {
        schedule.after(SILENCE_MS, this.#to.process, () => this.#fail('nothing comes any more'));
        this.#answer(new Error('nothing passes'));
        return;
      }
      schedule.after(0, this.#to.process, run);
    });
  }

  #fail(why: string): void {
    this.#failure ??= new Error(why);
    this.#wake();
  }

  /** The receiver's word on its way back. */
  #answer(outcome: 'stored' | Error): void {
    const { schedule } = this.#network;
    const [from, to] = [this.#from.self.address, this.#to.self.address];
    const isLost = this.#network.isCut(to, from);
    schedule.after(isLost ? SILENCE_MS : 1, this.#from.process, () => {
      this.#outcome ??= isLost ? new Error('no answer') : outcome;
      this.#settled?.();
    });
  }

  async send(chunk: Uint8Array): Promise<void> {
    this.#arrive(() => {
      this.#arrived.push(chunk);
      this.#wake();
    });
    await this.#from.process.wait(0.1);
    if (this.#outcome instanceof Error) throw this.#outcome;
  }

  breakOff(why: string): never {
    this.#arrive(() => this.#fail(why));
    throw new Error(why);
  }

  async end(): Promise<void> {
    this.#arrive(() => {
      this.#ended = true;
      this.#wake();
    });
    if (this.#outcome === undefined) {
      await new Promise<void>((resolve) => {
        this.#settled = resolve;
      });
    }
    if (this.#outcome instanceof Error) throw this.#outcome;
  }

  async *#chunks(): AsyncGenerator<Uint8Array> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure;
      const chunk = this.#arrived.shift();
      if (chunk !== undefined) {
        yield chunk;
      } else if (this.#ended) {
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }
}

/** One process's end of the network. */
export class SimTransport implements RaftTransport {
  readonly self: MemberAddress;
  readonly process: SimProcess;
  handler: TransportHandler | undefined = undefined;
  readonly #network: SimNetwork;

  constructor(network: SimNetwork, self: MemberAddress, process: SimProcess) {
    this.#network = network;
    this.self = self;
    this.process = process;
  }

  start(handler: TransportHandler): void {
    this.handler = handler;
  }

  send(to: number, address: string, bytes: Uint8Array): void {
    if (!this.process.alive) return;
    // Most messages, and nothing is promised in them: not worth the reading.
    const type = MESSAGE_TYPES[bytes[1]];
    if (type !== 'heartbeat' && type !== 'heartbeatResp') {
      this.#network.onSaid(this.self.id, decodeMessage(bytes));
    }
    this.#network.carry(this, to, address, bytes);
  }

  sendSnapshot(
    _to: number,
    address: string,
    message: Uint8Array,
    chunks: SnapshotChunks,
  ): Promise<void> {
    if (!this.process.alive) return Promise.reject(new DeadProcess('dead'));
    this.#network.onSaid(this.self.id, decodeMessage(message));
    return this.#network.carrySnapshot(this, address, message, chunks(0));
  }

  flush(): void {}

  announce(_to: number, address: string): void {
    if (this.process.alive) this.#network.announce(this, address);
  }

  setPeers(): void {}

  stop(): Promise<void> {
    this.handler = undefined;
    return Promise.resolve();
  }
}
