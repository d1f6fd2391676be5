/**
 * One daemon that is killed at random instants while clients make, use and remove containers
 * (killedContainers), and what must hold when the next one answers: nothing acknowledged is lost,
 * nothing ran twice, every running container is the very process it was, and on the host there is
 * exactly what these containers need. All chances come from one seed.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SystemClock } from '../../base/clock.ts';
import { SeededRandom } from '../../base/random.ts';
import { buildImage, collect, dockerArchive, tar } from './images.ts';
import { type ContainerState, KilledContainers, type KnownContainer } from './killedContainers.ts';
import { cgroupsBelow, difference, processesBelow, type Traces, tracesAt } from './labProbe.ts';
import { buildProbe } from './rootfs.ts';
import { type Standalone, startStandalone } from './standalone.ts';

const IMAGE = 'killed/probe:1';
const NETWORK = 'own';
const CLIENTS = 3;
/** From the first request of a round to the kill: a container's whole life takes some 300 ms. */
const KILL_WITHIN_MS = 900;
const KILLED_AGAIN_ONE_IN = 4;
const SETTLE_MS = 20_000;
const LOOK_EVERY_MS = 50;
const clock = new SystemClock();

export interface KillReport {
  readonly kills: number;
  readonly containers: number;
  readonly execs: number;
  /** How many requests of a kind were cut off by a kill. */
  readonly cut: Readonly<Record<string, number>>;
}

async function imageWithProbe(directory: string): Promise<Buffer> {
  const file = join(directory, 'probe');
  buildProbe(file);
  const layer = await tar([
    { name: 'bin/probe', mode: 0o755, body: readFileSync(file) },
    { name: 'tmp', type: 'directory', mode: 0o1777 },
    { name: 'marks', type: 'directory' },
  ]);
  const image = buildImage([layer], undefined, { Entrypoint: ['/bin/probe'], Cmd: ['exit', '0'] });
  return collect(
    (async function* () {
      yield await dockerArchive(image, [IMAGE]);
    })(),
  );
}

/** Kills a daemon at least `kills` times; throws at the first thing that is not as it must be. */
export async function killDaemonOften(
  kills: number,
  seed: number,
  say: (line: string) => void,
): Promise<KillReport> {
  const host = await startStandalone();
  try {
    const world = new KilledDaemon(host, seed, say);
    await world.prepare();
    for (let round = 1; world.kills < kills; round += 1) await world.round(round);
    await world.finish();
    return world.report();
  } finally {
    await host.stop();
  }
}

class KilledDaemon {
  readonly #host: Standalone;
  readonly #containers: KilledContainers;
  readonly #random: SeededRandom;
  readonly #say: (line: string) => void;
  readonly #keepers: KnownContainer[] = [];
  readonly #cut: Record<string, number> = {};
  #empty: Traces | undefined;
  #kept: Traces | undefined;
  #kills = 0;
  /** How long the last daemon took to answer. */
  #startMs = 1000;
  #made = 0;
  #execs = 0;

  constructor(host: Standalone, seed: number, say: (line: string) => void) {
    const marks = join(host.directory, 'marks');
    mkdirSync(marks);
    this.#host = host;
    this.#containers = new KilledContainers(host.socket, IMAGE, marks);
    this.#random = new SeededRandom(seed);
    this.#say = say;
  }

  async prepare(): Promise<void> {
    const all = this.#containers;
    const archive = await imageWithProbe(this.#host.directory);
    const loaded = await all.raw('POST', '/images/load', archive);
    assert.equal(loaded.status, 200, loaded.body.toString());
    await all.must('POST', '/networks/create', { Name: NETWORK });
    // What is made once, with the first container on a network, is part of an empty host.
    for (const network of ['bridge', NETWORK]) {
      const first = await all.create(`first-${network}`, network, ['exit', '0']);
      await all.start(first);
      await all.remove(first);
      all.known.delete(first.name);
    }
    await this.#host.kill();
    await this.#host.restart();
    this.#empty = this.#traces();
    const ports = { PortBindings: { '80/tcp': [{ HostPort: '8080' }] } };
    await this.#keep('keep-always', 'bridge', { RestartPolicy: { Name: 'always' }, ...ports });
    await this.#keep('keep-plain', NETWORK, {});
    await this.#keep('keep-unless', 'none', { RestartPolicy: { Name: 'unless-stopped' } });
    this.#kept = this.#traces();
  }

  async #keep(name: string, network: string, host: object): Promise<void> {
    const known = await this.#containers.create(name, network, ['ticks', '0'], host);
    await this.#containers.start(known);
    await this.#containers.meet(known);
    this.#keepers.push(known);
  }

  #traces(): Traces {
    const { pid, execRoot, dataRoot, cgroupParent } = this.#host;
    return tracesAt({ first: pid, execRoot, dataRoot, cgroupParent });
  }

  async round(round: number): Promise<void> {
    const all = this.#containers;
    const afterMs = this.#random.below(KILL_WITHIN_MS);
    const clients = Array.from({ length: CLIENTS }, (_, client) =>
      all.live(client, new SeededRandom(this.#random.below(2 ** 31))),
    );
    const lives = Promise.all(clients);
    lives.catch(() => {}); // awaited below, after the kill
    await clock.sleep(afterMs);
    await this.#host.kill();
    await lives;
    this.#count();
    const killedMs = clock.nowMs();
    if (this.#random.below(KILLED_AGAIN_ONE_IN) === 0) await this.#killWhileStarting();
    const startedMs = clock.nowMs();
    await this.#host.restart();
    const readyMs = clock.nowMs();
    this.#startMs = readyMs - startedMs;
    await this.#settle(`round ${round}`, () => this.#checkAll());
    const wholeMs = clock.nowMs();
    const others = [...all.known.values()].filter((known) => !this.#keepers.includes(known));
    await Promise.all(
      others.map(async (known) => {
        await all.remove(known);
        all.known.delete(known.name);
      }),
    );
    await this.#settle(`nothing left after round ${round}`, async () => {
      assert.ok(this.#kept !== undefined);
      assert.equal(difference(this.#kept, this.#traces()), '');
    });
    const ms = (from: number, to: number): number => Math.round(to - from);
    this.#say(
      `${round}: killed ${afterMs} ms after the first request; next answers after ` +
        `${ms(killedMs, readyMs)} ms, checked in ${ms(readyMs, wholeMs)} ms, ` +
        `nothing left after ${ms(wholeMs, clock.nowMs())} ms more`,
    );
  }

  /** The next daemon is killed as well, somewhere from its first instruction to its first answer. */
  async #killWhileStarting(): Promise<void> {
    const starting = this.#host.restart().catch(() => {}); // ended, as it must
    await clock.sleep(this.#random.float() * this.#startMs);
    await this.#host.kill();
    await starting;
    this.#kills += 1;
  }

  #count(): void {
    this.#kills += 1;
    for (const known of this.#containers.known.values()) {
      if (this.#keepers.includes(known)) continue;
      this.#made += 1;
      this.#execs += known.execs;
      const under = (['removed', 'ended', 'started', 'created'] as const).find(
        (step) => known[step] === 'asked',
      );
      if (under !== undefined) this.#cut[under] = (this.#cut[under] ?? 0) + 1;
    }
  }

  /** Repeats a check that may need a moment after a start; its last complaint is the failure. */
  async #settle(what: string, check: () => Promise<void>): Promise<void> {
    const endMs = clock.nowMs() + SETTLE_MS;
    for (;;) {
      try {
        await check();
        return;
      } catch (error) {
        if (clock.nowMs() > endMs) throw new Error(`${what}: ${String(error)}`, { cause: error });
      }
      await clock.sleep(LOOK_EVERY_MS);
    }
  }

  async #checkAll(): Promise<void> {
    const all = this.#containers;
    const listed = await all.must<{ Names: string[] }[]>('GET', '/containers/json?all=1');
    const names = new Set(listed.map(({ Names }) => Names[0].slice(1)));
    for (const name of names) assert.ok(all.known.has(name), `${name} is there, and nobody's`);
    const running: ContainerState[] = [];
    for (const known of [...all.known.values()]) {
      if (!names.has(known.name)) {
        this.#checkGone(known);
        continue;
      }
      assert.notEqual(known.removed, 'yes', `${known.name} was removed and is there`);
      const state = await all.inspect(known.name);
      this.#checkState(known, state.State);
      if (state.State.Status === 'running') running.push(state);
    }
    this.#checkHost(running.map(({ Id }) => Id));
    for (const keeper of this.#keepers) await this.#checkKeeper(keeper);
  }

  #checkGone(known: KnownContainer): void {
    const mayBeGone = known.created === 'asked' || known.removed !== 'no';
    assert.ok(mayBeGone, `${known.name} is lost: ${JSON.stringify(known)}`);
    if (known.removed !== 'no') return;
    assert.equal(this.#containers.marksOf(known.name), 0, `${known.name} ran and is not there`);
    this.#containers.known.delete(known.name);
  }

  #checkState(known: KnownContainer, state: ContainerState['State']): void {
    const marks = this.#containers.marksOf(known.name);
    const told = `${JSON.stringify(known)} ${JSON.stringify(state)} ran ${marks} times`;
    assert.ok(marks <= 1, `started twice: ${told}`);
    assert.notEqual(state.Status, 'removing', told);
    if (known.started === 'no') {
      assert.deepEqual([state.Status, marks], ['created', 0], told);
      return;
    }
    if (known.started === 'yes') assert.equal(marks, 1, told);
    if (known.ended === 'no') {
      // A start that nobody heard of was made, or not; half of one is no state to be in.
      const isUp = state.Status === 'running' && marks === 1;
      assert.ok(isUp || (known.started === 'asked' && marks === 0), told);
    }
    if (known.ended === 'yes') assert.equal(state.Status, 'exited', told);
    if (state.Status === 'running' && known.pid !== 0) {
      assert.deepEqual([state.Pid, state.StartedAt], [known.pid, known.startedAt], told);
    }
    for (let at = 1; at <= known.execs; at += 1) {
      const times = this.#containers.marksOf(`${known.name}.exec-${at}`);
      assert.ok(times <= 1, `exec ${at} ran twice: ${told}`);
    }
  }

  /** One shim and one set of groups for each running container, and for nothing else. */
  #checkHost(running: readonly string[]): void {
    const wanted = running.map((id) => id.slice(0, 12)).sort();
    const [processes] = processesBelow([this.#host.pid]);
    const shims = processes
      .filter(({ state, arguments: words }) => words[0] === 'tsswarm-shim' && state !== 'Z')
      .map(({ arguments: words }) => words[1])
      .sort();
    assert.deepEqual(shims, wanted, 'shims');
    const groups = cgroupsBelow(this.#host.cgroupParent).map(
      (path) => path.split('/').at(-1) ?? '',
    );
    const ids = new Set(groups.filter((name) => /^[0-9a-f]{64}$/.test(name)));
    assert.deepEqual([...ids].map((id) => id.slice(0, 12)).sort(), wanted, 'groups');
  }

  /** Runs since the beginning, has logged every line, and holds its one DNS socket if any. */
  async #checkKeeper(keeper: KnownContainer): Promise<void> {
    const { RestartCount, State } = await this.#containers.inspect(keeper.name);
    assert.deepEqual([State.Status, State.Pid, RestartCount], ['running', keeper.pid, 0]);
    await this.#checkTicks(keeper, 'tail=300');
    if (keeper.network !== NETWORK) return;
    const { stdout } = await this.#host.inside(
      ...['nsenter', '-t', String(this.#host.pid), '-p', '-m', 'nsenter'],
      ...['-t', String(keeper.pid), '-n', 'cat', '/proc/net/udp'],
    );
    const sockets = stdout.split('\n').filter((line) => line.includes('0B00007F:'));
    assert.equal(sockets.length, 1, `DNS sockets of ${keeper.name}: ${stdout}`);
  }

  async #checkTicks(keeper: KnownContainer, query: string): Promise<number> {
    const lines = await this.#containers.logs(keeper.name, query);
    const first = Number(lines[0]?.split(' ')[1]);
    const expected = lines.map((_, at) => `tick ${first + at}`);
    assert.deepEqual(lines, expected, `the log of ${keeper.name} has every line once`);
    return first;
  }

  async finish(): Promise<void> {
    for (const keeper of this.#keepers) {
      assert.equal(await this.#checkTicks(keeper, 'tail=all'), 0, `${keeper.name}: no line lost`);
      await this.#containers.remove(keeper);
    }
    await this.#settle('nothing left at the end', async () => {
      assert.ok(this.#empty !== undefined);
      assert.equal(difference(this.#empty, this.#traces()), '');
    });
  }

  get kills(): number {
    return this.#kills;
  }

  report(): KillReport {
    return { kills: this.#kills, containers: this.#made, execs: this.#execs, cut: this.#cut };
  }
}
