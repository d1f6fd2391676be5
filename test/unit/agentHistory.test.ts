/**
 * Random histories of one agent: tasks come, are stopped and taken back while containers crash,
 * calls fail, sessions break and the daemon restarts. Checked throughout: one container per task,
 * statuses that only move forward; at the end: the host holds exactly what is assigned.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Agent } from '../../agent/agent.ts';
import { SwarmError } from '../../base/errors.ts';
import { Ids } from '../../base/id.ts';
import { silentLog } from '../../base/log.ts';
import { SeededRandom } from '../../base/random.ts';
import type { AssignmentItem } from '../../model/assignment.ts';
import { isTerminal, TaskState } from '../../model/taskState.ts';
import type { Task } from '../../model/types.ts';
import { change, complete, MemoryJournal, makeTask, overlay } from '../support/agentParts.ts';
import { fakeRuntime } from '../support/fakeRuntime.ts';
import { ManualClock } from '../support/manualClock.ts';
import { scriptedManagers } from '../support/scriptedManager.ts';

const SEEDS = 40;
const EVENTS = 60;
const DESCRIPTION = {
  hostname: 'h1',
  os: 'linux',
  architecture: 'x86_64',
  kernel: '6',
  nanoCpus: 2e9,
  memoryBytes: 1e9,
  engineVersion: '1',
  engineLabels: {},
  machineId: '',
  genericResources: [],
};

class History {
  readonly clock = new ManualClock();
  readonly runtime = fakeRuntime();
  readonly journal = new MemoryJournal();
  readonly random: SeededRandom;
  readonly assigned = new Map<string, Task>();
  readonly manager;
  readonly #dial;
  readonly #seen = new Map<string, TaskState>();
  agent: Agent;
  trouble = true;
  #sequence = 0;
  #made = 0;

  constructor(seed: number) {
    this.random = new SeededRandom(seed);
    const { managers, dial } = scriptedManagers('m:1');
    this.manager = managers[0];
    this.#dial = dial;
    this.manager.onStream = (stream) => {
      this.#sequence += 1;
      stream.push(complete(this.#sequence, this.items()));
    };
    this.manager.onStatus = async (updates) => {
      if (this.chance(0.1)) throw new SwarmError('unavailable', 'not now');
      for (const { taskId, status } of updates) this.#saw(taskId, status.state);
    };
    for (const call of ['create', 'start', 'stop', 'remove'] as const) {
      this.runtime.containers.gates.set(call, async () => {
        await this.clock.sleep(this.random.below(50));
        if (this.chance(call === 'start' || call === 'create' ? 0.1 : 0.2)) {
          throw new SwarmError('internal', `${call} fails`);
        }
      });
    }
    this.agent = this.#makeAgent();
  }

  chance(probability: number): boolean {
    return this.trouble && this.random.float() < probability;
  }

  items(): AssignmentItem[] {
    const tasks = [...this.assigned.values()].map((task) => ({ kind: 'task', task }) as const);
    return [...tasks, { kind: 'network', network: overlay('n1') }];
  }

  async event(): Promise<void> {
    const kind = this.random.below(10);
    if (kind < 3) this.#add();
    else if (kind < 5) this.#raise();
    else if (kind === 5) this.#takeBack();
    else if (kind < 8) this.#crash();
    else if (kind === 8) this.manager.session.messages.end(new SwarmError('unavailable', 'cut'));
    else await this.restart();
  }

  async restart(): Promise<void> {
    const stopped = this.agent.stop();
    await this.clock.advance(100);
    await stopped;
    this.agent = this.#makeAgent();
    await this.agent.start([]);
  }

  #makeAgent(): Agent {
    return new Agent({
      clock: this.clock,
      random: this.random,
      ids: new Ids(this.random),
      log: silentLog,
      nodeId: 'node1',
      address: '10.99.0.11',
      port: 2377,
      describe: () => DESCRIPTION,
      tls: () => ({ issuer: '', trust: '' }),
      runtime: this.runtime,
      journal: this.journal,
      dial: this.#dial,
    });
  }

  #tell(update: readonly AssignmentItem[], remove: readonly string[]): void {
    this.#sequence += 1;
    // A gap now and then: the agent must notice and ask anew.
    if (this.chance(0.1)) this.#sequence += 1;
    if (this.manager.sessions.length === 0) return;
    this.manager.assign(change(this.#sequence, update, remove));
  }

  #put(task: Task): void {
    this.assigned.set(task.id, task);
    this.#tell([{ kind: 'task', task }], []);
  }

  #add(): void {
    this.#made += 1;
    const onOverlay = this.random.below(2) === 0;
    const networks = [{ networkId: 'n1', address: `10.0.1.${this.#made + 1}/24`, aliases: [] }];
    this.#put(
      makeTask(`t${this.#made}`, {
        spec: { networks: [{ target: onOverlay ? 'n1' : 'none', aliases: [], addresses: [] }] },
        task: {
          networks: onOverlay ? networks : [],
          desiredState: this.random.below(4) === 0 ? TaskState.READY : TaskState.RUNNING,
        },
      }),
    );
  }

  #any(): Task | undefined {
    const all = [...this.assigned.values()];
    return all[this.random.below(Math.max(1, all.length))];
  }

  #raise(): void {
    const task = this.#any();
    if (task === undefined || task.desiredState >= TaskState.SHUTDOWN) return;
    const paused = task.desiredState === TaskState.READY && this.random.below(2) === 0;
    const desiredState = paused ? TaskState.RUNNING : TaskState.SHUTDOWN;
    this.#put({ ...task, desiredState });
  }

  #takeBack(): void {
    const task = this.#any();
    if (task === undefined) return;
    this.assigned.delete(task.id);
    this.#tell([], [`task/${task.id}`]);
  }

  #crash(): void {
    const running = this.runtime.containers.list().filter((one) => one.state === 'running');
    running[this.random.below(Math.max(1, running.length))]?.end({ exitCode: 1 });
  }

  #saw(taskId: string, state: TaskState): void {
    const before = this.#seen.get(taskId) ?? 0;
    assert.ok(state >= before, `${taskId} went from ${before} to ${state}`);
    this.#seen.set(taskId, state);
  }

  checkOneEach(): void {
    const owners = this.runtime.containers
      .list()
      .map((one) => one.config.labels['com.docker.swarm.task.id']);
    assert.equal(new Set(owners).size, owners.length, `one container a task: ${owners}`);
  }

  checkEnd(): void {
    const statuses = new Map(this.agent.statuses().map((one) => [one.taskId, one.status]));
    assert.deepEqual([...statuses.keys()].sort(), [...this.assigned.keys()].sort());
    assert.equal(this.agent.unreported, 0);
    for (const task of this.assigned.values()) {
      const state = statuses.get(task.id)?.state ?? 0;
      assert.equal(this.#seen.get(task.id), state, 'the manager knows the last state');
      if (task.desiredState >= TaskState.SHUTDOWN) assert.ok(isTerminal(state), task.id);
      else assert.ok(state >= task.desiredState, `${task.id} is ${state}`);
      if (state === TaskState.RUNNING) {
        assert.equal(this.runtime.containers.of(task.id).state, 'running');
      }
    }
    const { containers, network, images } = this.runtime;
    for (const container of containers.list()) {
      const taskId = container.config.labels['com.docker.swarm.task.id'];
      assert.ok(this.assigned.has(taskId), `${taskId} is left over`);
      const state = statuses.get(taskId)?.state ?? 0;
      assert.ok(!isTerminal(state) || container.state !== 'running', `${taskId} still runs`);
    }
    const live = [...statuses].filter(([, status]) => !isTerminal(status.state)).length;
    assert.ok(network.attached.size <= live, 'networks of ended tasks are given back');
    assert.equal(images.held.size, containers.list().length);
    const tasks = [...this.journal.items.keys()].filter((key) => key.startsWith('task/'));
    assert.equal(tasks.length, this.assigned.size);
  }
}

test('whatever happens, a host ends up with exactly what is assigned to it', async () => {
  for (let seed = 1; seed <= SEEDS; seed += 1) {
    const history = new History(seed);
    try {
      await history.agent.start(['m:1']);
      await history.clock.advance(100);
      for (let event = 0; event < EVENTS; event += 1) {
        await history.event();
        await history.clock.advance(history.random.below(300));
        history.checkOneEach();
      }
      history.trouble = false;
      await history.restart();
      await history.clock.advance(120_000);
      history.checkOneEach();
      history.checkEnd();
      await history.agent.stop();
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
  }
});
