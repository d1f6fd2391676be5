/**
 * One member's host: a disk that outlives processes, and at most one process at a time, in which
 * the production's driver, log, recovery and replica run. It watches what they hand to the disk and
 * apply, and holds it against ledger and oracle. It decides no fault; it can be told to fail.
 */
import { hasCode, SwarmError } from '../../base/errors.ts';
import { type Log, silentLog } from '../../base/log.ts';
import { SEAL_KEY_BYTES } from '../../base/seal.ts';
import { DiskStore, type Recovered } from '../../manager/raft/disk/disk.ts';
import { RaftNode } from '../../manager/raft/node.ts';
import { becomeSole } from '../../manager/raft/offline.ts';
import { StreamTransport } from '../../manager/raft/transport.ts';
import type {
  MemberAddress,
  RaftNodeOptions,
  RaftStatus,
  RaftTransport,
} from '../../manager/raft/types.ts';
import { Replica } from '../../manager/replica.ts';
import { Store } from '../../manager/store/store.ts';
import { Beliefs } from './beliefs.ts';
import { forcedCommand, type Keeping } from './clients.ts';
import { SimDisk } from './disk.ts';
import type { Seen } from './ledger.ts';
import type { SimNetwork } from './network.ts';
import { ObservedDisk } from './observedDisk.ts';
import { ObservedMachine } from './observedMachine.ts';
import { DeadProcess, SimProcess } from './process.ts';
import type { Dice, Schedule } from './schedule.ts';
import type { SimStreams } from './streams.ts';
import { threadStarter } from './thread.ts';
import { check } from './violation.ts';
import type { World } from './world.ts';

const SEGMENT = /\.wal$/;
const STATE_FILE = /\.(wal|snap)$/;
/** Falls of watchers out of the ring are part of what is tried. */
const RING_EVENTS = 128;
/** As the daemon keeps at most. */
const MAX_SEAL_KEYS = 8;

/** Deliberate faults, to prove that the checks would see them. */
export type Planted = 'lyingDisk' | 'ackBeforeSync' | 'forgetVote' | 'staleRead' | 'skipEvent';

/** What all machines of one simulation share. */
export interface Site {
  readonly schedule: Schedule;
  readonly dice: Dice;
  readonly network: SimNetwork;
  /** Set: the production's transport on streams; else whole messages, each by itself. */
  readonly streams: SimStreams | undefined;
  /** The newest history: users and those who run the swarm know of no other. */
  world: World;
  /** That history, and those that have begun since. */
  worldsFrom(world: World): readonly World[];
  readonly planted: Planted | undefined;
  readonly keeping: Keeping;
  /** Its users do little: what a change of leaders left is not put right by the next write. */
  readonly isQuiet: boolean;
  readonly segmentBytes: number;
  readonly snapshotEntries: number;
  readonly trailingEntries: number;
  /** Members' files are sealed, each with keys of its own. */
  readonly sealed: boolean;
  readonly log: ((process: SimProcess) => Log) | undefined;
  /** Ends the simulation as failed. */
  fail(error: unknown): void;
}

export interface Run {
  readonly process: SimProcess;
  readonly world: World;
  readonly replica: Replica;
  readonly machine: ObservedMachine;
  readonly transport: RaftTransport;
  readonly seen: Seen;
  readonly beliefs: Beliefs;
  node: RaftNode | undefined;
  isStopping: boolean;
}

/** What was done to its files: one of them damaged, or none left. */
interface Harm {
  readonly file: string | undefined;
}

export class Machine {
  readonly id: number;
  address: string;
  readonly disk: SimDisk;
  readonly #site: Site;
  readonly #voters: readonly MemberAddress[] | undefined;
  run: Run | undefined = undefined;
  #rate = 1;
  /** Told that it was taken out: it does not come back. */
  isOut = false;
  /** Its files were not what it had written, and it said so: it does not come back either. */
  isLost = false;
  /** Opened once: it has a state from then on, as its identity says. */
  #isKnown = false;
  /** The history that it belongs to. */
  world: World;
  /** It is to go on alone; called with what it holds, as the history of that begins. */
  #alone: ((found: Recovered) => World) | undefined = undefined;
  /** What its next start must name, where that cannot do without it. */
  #harm: Harm | undefined = undefined;
  /** Called when it has started from files that were harmed, or has refused to. */
  onJudged: (isLost: boolean) => void = () => {};
  /** The one in use first; as a file beside the log keeps them. */
  #sealKeys: readonly Uint8Array[];
  /** Where its next process listens. */
  nextAddress: string;
  restarts = -1;
  /** Called when its process ended by itself, and is to be started again. */
  onEnded: () => void = () => {};

  /** `voters`: founded with them; undefined: it joins. */
  constructor(site: Site, id: number, voters: readonly MemberAddress[] | undefined) {
    this.id = id;
    this.address = `10.0.0.${id}:2377`;
    this.nextAddress = this.address;
    this.#site = site;
    this.world = site.world;
    this.#voters = voters;
    this.#sealKeys = site.sealed ? [site.dice.bytes(SEAL_KEY_BYTES)] : [];
    this.disk = new SimDisk(site.dice);
    this.disk.faults.lies = site.planted === 'lyingDisk';
    this.disk.onDeath = (isPowerLoss) => {
      if (isPowerLoss) this.losePower();
      else this.kill();
      this.onEnded();
    };
  }

  get isUp(): boolean {
    return this.run !== undefined;
  }

  /** For good. */
  get isGone(): boolean {
    return this.isOut || this.isLost;
  }

  /** It has a state, hence something to lose. */
  get isKnown(): boolean {
    return this.#isKnown;
  }

  /** Running and open. */
  get node(): RaftNode | undefined {
    return this.run?.node;
  }

  start(): void {
    const { schedule, dice } = this.#site;
    check(this.run === undefined, 'simulation', `machine ${this.id} runs already`);
    this.restarts += 1;
    this.address = this.nextAddress;
    const process = new SimProcess(this.id, schedule, this.#rate, dice.whole(-5_000, 5_000));
    const log = this.#site.log?.(process) ?? silentLog;
    const store = new Store({ ringEvents: RING_EVENTS });
    const replica = new Replica({ clock: process.clock, store });
    const status = { id: this.id, term: 0, leaderId: undefined, role: 'follower' as const };
    const places = { commit: 0, applied: 0, lastIndex: 0 };
    const run: Run = {
      process,
      world: this.world,
      replica,
      machine: new ObservedMachine(this.world, this.id, replica, () => this.observe()),
      transport: this.#connect(process, log),
      seen: { status: { ...status, ...places } as RaftStatus },
      beliefs: new Beliefs(process),
      node: undefined,
      isStopping: false,
    };
    this.run = run;
    process.afterEvent = () => {
      this.observe();
      this.#look();
    };
    const work = this.#alone === undefined ? this.#open(run, log) : this.#goOnAlone(run, log);
    work.catch((error: unknown) => {
      if (!process.alive || error instanceof DeadProcess) return;
      if (this.#refuses(error)) return;
      const code = (error as { code?: string }).code;
      const disk = code === 'ENOSPC' || code === 'EIO' || hasCode(error, 'exhausted');
      if (disk) this.#ended();
      else this.#site.fail(error);
    });
  }

  #connect(process: SimProcess, log: Log): RaftTransport {
    const { network, streams, dice: random } = this.#site;
    const self = { id: this.id, address: this.address };
    if (streams === undefined) return network.connect(self, process);
    const dialer = streams.dialer(self, process);
    const { clock } = process;
    const transport = new StreamTransport({ self, dialer, clock, random, log });
    streams.listen(this.address, process, (stream, kind) => transport.acceptStream(stream, kind));
    return transport;
  }

  /** Damage is told by the file's name, and that there is nothing by a word of its own. */
  #refuses(error: unknown): boolean {
    const harm = this.#harm;
    if (harm === undefined || !(error instanceof SwarmError)) return false;
    const expected =
      harm.file === undefined
        ? hasCode(error, 'not_found')
        : hasCode(error, 'corrupt') && error.detail['file'] === harm.file;
    if (!expected) return false;
    this.isLost = true;
    this.kill();
    this.onJudged(true);
    return true;
  }

  /** Whom it tells that they are out is noted. */
  #watched(transport: RaftTransport): RaftTransport {
    const { ledger } = this.world;
    return {
      start: (handler) => {
        const wasRemoved = (id: number): boolean => {
          const isOut = handler.wasRemoved(id);
          if (isOut) ledger.saidRemoved(this.id, id);
          return isOut;
        };
        transport.start({ ...handler, wasRemoved });
      },
      send: (...message) => transport.send(...message),
      flush: () => transport.flush(),
      announce: (...member) => transport.announce(...member),
      sendSnapshot: (...snapshot) => transport.sendSnapshot(...snapshot),
      setPeers: (peers) => transport.setPeers(peers),
      stop: () => transport.stop(),
    };
  }

  get #directory(): string {
    return `/m${this.id}`;
  }

  async #openDisk(run: Run, log: Log): Promise<ObservedDisk> {
    const { dice, segmentBytes } = this.#site;
    const [sealKey, ...olderKeys] = this.#sealKeys;
    const { process } = run;
    const disk = await DiskStore.open({
      directory: this.#directory,
      nodeId: this.id,
      clock: process.clock,
      log,
      onFatal: (error) => this.#fatal(run, error),
      segmentBytes,
      files: this.disk.filesFor(process),
      startThread: threadStarter(process, this.disk, dice),
      ...(sealKey === undefined ? {} : { seal: { key: sealKey, olderKeys, random: dice } }),
    });
    this.#checkSynced('starts from');
    // What was emptied holds none of what it promised: it must say so, further down.
    if (!this.#isEmptied) this.world.ledger.recovered(this.id, disk.recovered);
    return new ObservedDisk(disk, this, this.#site, run, () => this.#checkSynced('trusts'));
  }

  /** As a manager's files are changed while it does not run: they have it the only member. */
  async #goOnAlone(run: Run, log: Log): Promise<void> {
    const { process } = run;
    const disk = await this.#openDisk(run, log);
    const { base, entries } = disk.recovered;
    // Cut off halfway it is asked for again, in the history that it has begun.
    if (this.world === run.world && this.#alone !== undefined) {
      this.world = this.#alone(disk.recovered);
      this.#alone = () => this.world;
    }
    const lastIndex = (entries[entries.length - 1] ?? base).index;
    const command = forcedCommand(`f${this.id}-${lastIndex}`, this.world.oracle);
    await becomeSole({
      dir: this.#directory,
      self: { id: this.id, address: this.address },
      clock: process.clock,
      random: this.#site.dice,
      log,
      machine: new Replica({ clock: process.clock }),
      command: () => command,
      disk,
    });
    process.requireAlive();
    this.#alone = undefined;
    this.kill();
    this.start();
  }

  async #open(run: Run, log: Log): Promise<void> {
    const { dice } = this.#site;
    const { process, replica, transport } = run;
    const disk = await this.#openDisk(run, log);
    const node = await RaftNode.open({
      id: this.id,
      address: this.address,
      dir: this.#directory,
      clock: process.clock,
      random: dice,
      log,
      transport: this.#watched(transport),
      stateMachine: run.machine,
      ...this.#beginning(),
      onRemoved: () => this.#removed(run),
      olderSealKeys: this.#sealKeys.slice(1),
      onSealSettled: () => {
        if (process.alive) this.#sealKeys = this.#sealKeys.slice(0, 1);
      },
      onFatal: (error) => this.#site.fail(error),
      disk,
      snapshotEntries: this.#site.snapshotEntries,
    });
    check(!this.#isEmptied, 'emptied disk', `member ${this.id} starts from nothing`);
    if (this.#harm !== undefined) this.onJudged(false);
    this.#harm = undefined;
    this.#isKnown = true;
    node.keepEntries(this.#site.snapshotEntries, this.#site.trailingEntries, 0);
    run.node = node;
    replica.attach(node);
    this.observe();
  }

  get #isEmptied(): boolean {
    return this.#harm !== undefined && this.#harm.file === undefined;
  }

  #beginning(): Pick<RaftNodeOptions, 'join' | 'bootstrap'> {
    if (this.#isKnown) return {};
    return this.#voters === undefined ? { join: true } : { bootstrap: { voters: this.#voters } };
  }

  #checkSynced(what: string): void {
    if (this.#site.planted === 'lyingDisk') return;
    const names = this.disk.unsynced(`/m${this.id}/wal`, SEGMENT);
    check(names.length === 0, 'not durable', () => `member ${this.id} ${what} ${names.join(' ')}`);
  }

  /** Holds what the member now is against what it was. */
  observe(): void {
    const { run } = this;
    if (run?.node === undefined) return;
    this.world.ledger.observe(this.id, run.seen, run.node.status());
  }

  /** Between events only: all that was handed out is applied then. */
  #look(): void {
    // One that stops ticks no more, and waits for its disk: what it shows is what it was.
    if (this.run?.node === undefined || this.run.isStopping) return;
    const { node, seen, beliefs, machine } = this.run;
    const { ledger } = this.world;
    const conf = ledger.configurationAt(seen.status.applied);
    beliefs.look(node, seen.status, conf, machine.members);
    beliefs.lookAtLog(seen.status, ledger.mirror(this.id).written.lastIndex);
  }

  #fatal(run: Run, error: SwarmError): void {
    if (!run.process.alive) return;
    if (this.disk.faults.syncErrorRate === 0) this.#site.fail(error);
    if (this.#site.dice.chance(0.5)) this.losePower();
    else this.kill();
    this.onEnded();
  }

  #removed(run: Run): void {
    if (!run.process.alive || this.isOut) return;
    const isOut = this.#site
      .worldsFrom(this.world)
      .some(({ ledger }) => ledger.wasRemoved(this.id));
    check(isOut, 'removed', `${this.id} was told it is out`);
    this.isOut = true;
    this.#ended();
  }

  /** How fast its clock goes, from now on. */
  setRate(rate: number): void {
    this.#rate = rate;
    if (this.run !== undefined) this.run.process.clock.rate = rate;
  }

  /** A new key for its files, kept before it is used, where they are sealed. */
  rotateSealKey(): void {
    const { node } = this;
    const room = this.#sealKeys.length > 0 && this.#sealKeys.length < MAX_SEAL_KEYS;
    if (node === undefined || !room) return;
    const key = this.#site.dice.bytes(SEAL_KEY_BYTES);
    this.#sealKeys = [key, ...this.#sealKeys];
    node.rotateSealKey(key);
  }

  /** Whether only one key is left. */
  get isSealSettled(): boolean {
    return this.#sealKeys.length <= 1;
  }

  /** The process ends; what it wrote stays in the cache. */
  kill(): void {
    this.run?.process.die();
    this.run = undefined;
  }

  #ended(): void {
    this.kill();
    this.onEnded();
  }

  losePower(): void {
    this.kill();
    this.disk.losePower();
  }

  /** Ends in good order. */
  async stop(transfer: boolean): Promise<void> {
    const { run } = this;
    if (run?.node === undefined) return;
    run.isStopping = true;
    await run.node.stop({ transfer });
    if (this.run === run) this.#ended();
  }

  // ---- its files, while it is off ----

  /** It makes itself the only member before it starts again, with all that it holds. */
  goAlone(begin: (found: Recovered) => World): void {
    this.nextAddress = this.address;
    this.#alone = begin;
  }

  /** Nothing else is to be done to it meanwhile. */
  get isGoingAlone(): boolean {
    return this.#alone !== undefined;
  }

  /** Something of what it has written is not what it was. */
  rot(): void {
    const file = this.disk.damage(STATE_FILE);
    if (file === undefined) this.onJudged(false);
    else this.#harm = { file };
  }

  wipe(withSnapshots: boolean): void {
    this.disk.empty((directory) => withSnapshots || directory.endsWith('/wal'));
    this.#harm = { file: undefined };
  }

  describe(): string {
    const { run } = this;
    if (run === undefined) {
      return `${this.id}:${this.isOut ? 'out' : this.isLost ? 'lost' : 'down'}`;
    }
    const { role, term, leaderId, commit, applied, lastIndex } = run.seen.status;
    const state = run.node === undefined ? 'opening' : role;
    return `${this.id}:${state} t${term} l${leaderId ?? 0} c${commit} a${applied} i${lastIndex}`;
  }
}
