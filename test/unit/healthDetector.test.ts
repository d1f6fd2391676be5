/**
 * The failure detector under a simulated clock: nodes beat, hosts answer probes or do not, the
 * manager pauses. Called down within its bound, and never otherwise.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeededRandom } from '../../base/random.ts';
import { type Action, DETECTOR_TIMES, FailureDetector } from '../../manager/health/detector.ts';

const TICK_MS = 50;
const BEAT_MS = 500;
const PROBE_MS = 310;
const TEN_MINUTES_MS = 600_000;

interface SimulatedNode {
  /** Its heartbeats reach the manager. */
  beats: boolean;
  /** Its host answers probes. */
  answers: boolean;
  nextBeatMs: number;
}

/** The detector with the world around it. */
class World {
  readonly detector = new FailureDetector();
  readonly nodes = new Map<string, SimulatedNode>();
  readonly said: { atMs: number; nodeId: string; state: string; message: string }[] = [];
  nowMs = 0;
  /** What a beat is late by. */
  lateMs: () => number = () => 0;
  #probes: { atMs: number; nodeId: string; round: number; sentMs: number }[] = [];

  constructor(...names: string[]) {
    for (const [index, name] of names.entries()) {
      this.nodes.set(name, { beats: true, answers: true, nextBeatMs: (index * 37) % BEAT_MS });
      this.detector.opened(name, 0);
    }
  }

  node(name: string): SimulatedNode {
    const node = this.nodes.get(name);
    assert(node !== undefined);
    return node;
  }

  cut(...names: string[]): void {
    for (const name of names) Object.assign(this.node(name), { beats: false, answers: false });
  }

  run(forMs: number): void {
    const endMs = this.nowMs + forMs;
    while (this.nowMs < endMs) this.step(TICK_MS);
  }

  /** One turn of the manager's loop, `gapMs` after the one before. */
  step(gapMs: number): void {
    this.nowMs += gapMs;
    // As in a real loop that stood still: timers first, then what the network brought meanwhile.
    const ticked = gapMs > DETECTOR_TIMES.pauseMs ? this.detector.tick(this.nowMs) : [];
    for (const [nodeId, node] of this.nodes) {
      while (node.nextBeatMs <= this.nowMs) {
        if (node.beats) this.detector.heard(nodeId, this.nowMs);
        node.nextBeatMs += BEAT_MS + this.lateMs();
      }
    }
    for (const probe of this.#probes.filter(({ atMs }) => atMs <= this.nowMs)) {
      const answered = this.node(probe.nodeId).answers;
      this.detector.probed(probe.nodeId, probe.round, answered ? 'answers' : 'silent', this.nowMs);
    }
    this.#probes = this.#probes.filter(({ atMs }) => atMs > this.nowMs);
    this.#take([...ticked, ...this.detector.tick(this.nowMs)]);
  }

  #take(actions: readonly Action[]): void {
    for (const action of actions) {
      if (action.kind === 'probe') {
        const tookMs = this.node(action.nodeId).answers ? 5 : PROBE_MS;
        const { nodeId, round } = action;
        this.#probes.push({ atMs: this.nowMs + tookMs, nodeId, round, sentMs: this.nowMs });
      } else {
        const { nodeId, state, message } = action;
        this.said.push({ atMs: this.nowMs, nodeId, state, message });
      }
    }
  }

  downs(): string[] {
    return this.said.filter(({ state }) => state === 'down').map(({ nodeId }) => nodeId);
  }
}

test('a node cut off is called down within 2.5 seconds, whenever in its beat the cut falls', () => {
  for (let offsetMs = 0; offsetMs < BEAT_MS; offsetMs += 50) {
    const world = new World('a', 'b', 'c');
    world.run(10_000 + offsetMs);
    const cutMs = world.nowMs;
    world.cut('b');
    world.run(5000);
    assert.deepEqual(world.downs(), ['b']);
    assert(world.said[0].atMs - cutMs <= 2500, `${world.said[0].atMs - cutMs} ms`);
    assert.match(world.said[0].message, /no heartbeat, and 3 rounds of probes found it silent/);
  }
});

test('a session that breaks on a dead host is found sooner than silence would be', () => {
  const world = new World('a', 'b');
  world.run(5000);
  world.cut('b');
  world.detector.broken('b', 'its session broke', world.nowMs);
  const cutMs = world.nowMs;
  world.run(3000);
  assert.deepEqual(world.downs(), ['b']);
  assert(world.said[0].atMs - cutMs <= 1300);
});

test('a node that was asked to beat rarely is doubted later, and has the same time to return', () => {
  const detector = new FailureDetector();
  const beatMs = 60_000;
  detector.opened('rare', 0, beatMs);
  detector.watch('new', 'awaited', 0, beatMs);
  const said: Action[] = [];
  let nowMs = 0;
  const until = (endMs: number): void => {
    for (; nowMs < endMs; nowMs += TICK_MS) said.push(...detector.tick(nowMs));
  };
  until(2 * beatMs);
  assert.deepEqual(said, []);
  until(2 * beatMs + 100);
  assert.deepEqual(said, [{ kind: 'probe', nodeId: 'rare', round: 2 }]);
  detector.probed('rare', 2, 'answers', nowMs);
  until(2 * beatMs + 20_000);
  assert.equal(detector.phaseOf('rare'), 'answering');
  assert.equal(detector.phaseOf('new'), 'awaited');
  detector.heard('rare', nowMs, 500);
  until(2 * beatMs + 22_000);
  assert.equal(detector.phaseOf('rare'), 'suspected');
});

test('ten minutes of late beats and pauses of the manager call nobody down', () => {
  for (let seed = 1; seed <= 20; seed += 1) {
    const random = new SeededRandom(seed);
    const world = new World('a', 'b', 'c', 'd');
    world.lateMs = () => (random.below(20) === 0 ? random.below(4000) : random.below(300));
    while (world.nowMs < TEN_MINUTES_MS) {
      const pause = random.below(100) === 0;
      world.step(pause ? 250 + random.below(5000) : TICK_MS + random.below(100));
    }
    assert.deepEqual(world.downs(), [], `seed ${seed}`);
  }
});

test('a pause of the manager does not bring a cut node closer to being called down', () => {
  const world = new World('a', 'b');
  world.run(5000);
  world.cut('b');
  world.run(300);
  world.step(10_000);
  world.step(TICK_MS);
  assert.deepEqual(world.downs(), []);
  world.run(2500);
  assert.deepEqual(world.downs(), ['b']);
});

test('a host that answers keeps its tasks for half a minute after its daemon is gone', () => {
  const world = new World('a', 'b');
  world.run(5000);
  world.node('b').beats = false;
  world.detector.broken('b', 'its session broke', world.nowMs);
  const goneMs = world.nowMs;
  world.run(29_000);
  assert.deepEqual(
    world.said.map(({ state }) => state),
    ['disconnected'],
  );
  world.run(3000);
  assert.deepEqual(world.downs(), ['b']);
  const down = world.said[1];
  assert(down.atMs - goneMs >= 29_500, `${down.atMs - goneMs} ms`);
  assert.match(down.message, /its host answers but its daemon has not/);
});

test('a host that answers at first and then falls silent is called down at once', () => {
  const world = new World('a', 'b');
  world.run(5000);
  world.node('b').beats = false;
  world.run(8000);
  assert.deepEqual(world.downs(), []);
  world.node('b').answers = false;
  world.run(3000);
  assert.deepEqual(world.downs(), ['b']);
});

test('a node that returns is ready again, also when its session never ended', () => {
  const world = new World('a', 'b');
  world.run(5000);
  world.cut('b');
  world.run(4000);
  assert.deepEqual(world.downs(), ['b']);
  Object.assign(world.node('b'), { beats: true, answers: true });
  world.run(1000);
  assert.equal(world.said.at(-1)?.state, 'ready');
  world.cut('b');
  world.run(4000);
  assert.deepEqual(world.downs(), ['b', 'b']);
});

test('a new leader waits for sessions, but not for the one that led before', () => {
  const world = new World();
  for (const name of ['old', 'late', 'gone']) {
    world.nodes.set(name, { beats: false, answers: false, nextBeatMs: 0 });
  }
  world.node('late').answers = true;
  world.detector.watch('old', 'suspected', 0);
  world.detector.watch('late', 'awaited', 0);
  world.detector.watch('gone', 'awaited', 0);
  world.run(1000);
  assert.deepEqual(world.downs(), ['old']);
  world.detector.opened('late', world.nowMs);
  world.node('late').beats = true;
  world.run(3500);
  assert.deepEqual(world.downs(), ['old', 'gone']);
  assert.match(world.said[1].message, /no session since the leader changed/);
});

test('when most nodes vanish together the leader holds still for a minute and says so', () => {
  const world = new World('self', 'a', 'b', 'c', 'd');
  world.run(5000);
  world.cut('a', 'b', 'c');
  world.run(30_000);
  assert.deepEqual(world.downs(), []);
  assert.equal(world.said.length, 3);
  for (const { state, message } of world.said) {
    assert.equal(state, 'disconnected');
    assert.match(message, /together with most other nodes/);
  }
  world.run(40_000);
  assert.deepEqual(world.downs().sort(), ['a', 'b', 'c']);
});

test('held nodes that return one by one are ready, and the last one is not rushed', () => {
  const world = new World('self', 'a', 'b', 'c', 'd');
  world.run(5000);
  world.cut('a', 'b', 'c', 'd');
  world.run(20_000);
  assert.deepEqual(world.downs(), []);
  for (const name of ['a', 'b', 'c', 'd']) {
    Object.assign(world.node(name), { beats: true, answers: true });
    world.detector.opened(name, world.nowMs);
    world.run(900);
  }
  world.run(10_000);
  assert.deepEqual(world.downs(), []);
});

test('two of three nodes are too few to speak of most: they are called down', () => {
  const world = new World('self', 'a', 'b');
  world.run(5000);
  world.cut('a', 'b');
  world.run(4000);
  assert.deepEqual(world.downs().sort(), ['a', 'b']);
});

test('a late probe result of an earlier suspicion counts for nothing', () => {
  const detector = new FailureDetector();
  detector.opened('a', 0);
  detector.broken('a', 'its session broke', 10);
  const [probe] = detector.tick(20);
  assert(probe.kind === 'probe');
  detector.opened('a', 30);
  detector.broken('a', 'its session broke', 40);
  detector.tick(50);
  detector.probed('a', probe.round, 'silent', 60);
  detector.probed('a', probe.round, 'silent', 61);
  detector.probed('a', probe.round, 'silent', 62);
  assert(detector.tick(70).every(({ kind }) => kind !== 'state'));
});

test('a state that could not be stored is said again', () => {
  const world = new World('a', 'b');
  world.run(5000);
  world.cut('b');
  world.run(3000);
  assert.deepEqual(world.downs(), ['b']);
  world.detector.unwritten('b');
  world.run(100);
  assert.deepEqual(world.downs(), ['b', 'b']);
});

test('a node that says it has left is down at once, and stays so until it comes back', () => {
  const detector = new FailureDetector();
  detector.opened('h1', 0);
  detector.tick(0);
  detector.left('h1', 100);
  detector.broken('h1', 'its session broke', 110);
  const [action, ...others] = detector.tick(150);
  assert.deepEqual(action, {
    kind: 'state',
    nodeId: 'h1',
    state: 'down',
    message: 'it has left the swarm',
  });
  assert.deepEqual(others, []);
  for (let nowMs = 200; nowMs < 60_000; nowMs += 50) assert.deepEqual(detector.tick(nowMs), []);
  detector.opened('h1', 60_000);
  assert.equal(detector.phaseOf('h1'), 'live');
});
