/**
 * What must hold once a fault is over: every service has what is wanted, each task's one process
 * is where its record says and nowhere else, managers hold the same, no acknowledged write is
 * lost, published ports answer with the client's address kept, names and addresses work from
 * containers on every host. A check throws with what it found; `settle` repeats them in a bound.
 */
import { call, clock } from '../bench/swarmClient.ts';
import {
  type ApiNode,
  type ApiService,
  type ApiTask,
  HOSTS,
  NETWORK,
  services,
  type World,
} from './killWorld.ts';
import { type LiveContainer, liveContainers, within } from './labProbe.ts';
import type { OutsideClient } from './outsideClient.ts';

const CLIENT_ADDRESS = '10.99.0.100';
const ASK_AGAIN_MS = 250;

const addressOf = (host: string): string => `10.99.0.${10 + Number(host.slice(1))}`;

function must(condition: boolean, ...words: unknown[]): asserts condition {
  if (condition) return;
  throw new Error(words.map((word) => (typeof word === 'string' ? word : show(word))).join(' '));
}

function show(value: unknown): string {
  return JSON.stringify(value);
}

interface Seen {
  readonly nodes: readonly ApiNode[];
  readonly live: readonly ApiTask[];
  readonly nameOf: ReadonlyMap<string, string>;
  readonly serviceOf: ReadonlyMap<string, string>;
}

/** Repeats `check` until it passes; throws its last complaint after `limitMs`. The time it took. */
export async function settle(
  what: string,
  limitMs: number,
  check: () => Promise<void>,
): Promise<number> {
  const started = clock.nowMs();
  for (;;) {
    try {
      await check();
      return clock.nowMs() - started;
    } catch (error) {
      if (clock.nowMs() - started > limitMs) {
        throw new Error(`${what}: not within ${limitMs} ms: ${String(error)}`);
      }
    }
    await clock.sleep(ASK_AGAIN_MS);
  }
}

/** Nodes and tasks are as wanted; with hosts lost, as far as those that remain go. */
export async function checkRecords(world: World): Promise<Seen> {
  const nodes = await world.nodes();
  const nameOf = new Map(nodes.map((node) => [node.ID, node.Description.Hostname]));
  for (const { Description, Status, ManagerStatus } of nodes) {
    const host = Description.Hostname;
    if (world.lost.has(host)) continue;
    must(Status.State === 'ready', host, 'is', Status.State);
    const manager = ManagerStatus !== undefined;
    must(manager === world.managers.has(host), host, manager ? 'is' : 'is not', 'a manager');
    must(ManagerStatus?.Reachability !== 'unreachable', host, 'is not reachable');
  }
  const all = await world.ask<ApiService[]>('GET', '/services');
  const serviceOf = new Map(all.map((service) => [service.ID, service.Spec.Name]));
  const tasks = await world.ask<ApiTask[]>('GET', '/tasks');
  const live: ApiTask[] = [];
  for (const { name, replicas } of services) {
    const own = tasks.filter((task) => serviceOf.get(task.ServiceID) === name);
    const wanted = own.filter((task) => task.DesiredState === 'running');
    const usable = HOSTS.filter((host) => !world.drained.has(host) && !world.lost.has(host));
    const told = wanted.map((task) => [
      task.Slot,
      nameOf.get(task.NodeID ?? ''),
      task.Status.State,
      task.Status.Err,
    ]);
    must(wanted.length === (replicas ?? usable.length), name, 'has', told);
    must(
      wanted.every((task) => task.Status.State === 'running'),
      name,
      told,
    );
    for (const task of wanted) {
      const host = nameOf.get(task.NodeID ?? '') ?? '';
      must(!world.lost.has(host), name, 'runs on', host, 'which is lost');
      must(!world.drained.has(host), name, 'runs on', host, 'which is drained');
    }
    live.push(...wanted);
  }
  return { nodes, live, nameOf, serviceOf };
}

/** Every task that should run has one process, on its node, and there is no other. */
function checkProcesses(seen: Seen): LiveContainer[] {
  const found = liveContainers(HOSTS);
  const wanted = new Map(seen.live.map((task) => [task.ID, seen.nameOf.get(task.NodeID ?? '')]));
  for (const { host, taskId } of found) {
    must(wanted.has(taskId), `a process of task ${taskId} on`, host, 'which should not run');
    must(wanted.get(taskId) === host, `task ${taskId} runs on`, host, 'not', wanted.get(taskId));
  }
  const ids = new Set(found.map(({ taskId }) => taskId));
  must(ids.size === found.length, 'a task runs twice', found);
  for (const [taskId, host] of wanted)
    must(ids.has(taskId), `no process of task ${taskId} on`, host);
  return found;
}

/** Every manager tells the same of everything, and holds what was acknowledged. */
async function checkManagers(world: World): Promise<void> {
  const views = await Promise.all(
    world.reachable().map(async (host) => {
      const parts: string[] = [];
      for (const path of ['/services', '/tasks', '/nodes', '/networks', '/swarm']) {
        const list = await call<{ readonly Scope?: string }[]>(host, 'GET', path);
        const rows = (Array.isArray(list) ? list : [list])
          .filter((row) => row.Scope !== 'local')
          .map((row) => show({ ...row, ManagerStatus: undefined }));
        parts.push(...rows.sort());
      }
      return { host, parts };
    }),
  );
  const [first, ...others] = views;
  for (const other of others) {
    const at = first.parts.findIndex((row, index) => row !== other.parts[index]);
    must(at < 0, first.host, 'and', other.host, 'differ:', first.parts[at], '/', other.parts[at]);
    must(first.parts.length === other.parts.length, first.host, other.host, 'differ in length');
  }
  for (const host of world.reachable()) {
    const ledger = await call<ApiService>(host, 'GET', '/services/ledger');
    for (const [name, value] of world.ledger) {
      must(ledger.Spec.Labels?.[name] === value, `acknowledged write ${name} is lost on`, host);
    }
  }
}

/** From the outside, through each host: an answer with the client's own address. */
async function checkPorts(client: OutsideClient, world: World): Promise<void> {
  const asked: Promise<void>[] = [];
  for (const { port } of services) {
    if (port === 0) continue;
    for (const host of HOSTS) {
      if (world.lost.has(host)) continue;
      for (let turn = 0; turn < 2; turn += 1) {
        asked.push(
          client.get(`http://${addressOf(host)}:${port}/`).then((body) => {
            must(body.includes(`client=${CLIENT_ADDRESS}`), host, port, 'told', body);
          }),
        );
      }
    }
  }
  await Promise.all(asked);
}

const plain = (address: string): string => address.split('/')[0];

function addresses(tasks: readonly ApiTask[]): string[] {
  return tasks
    .map((task) => {
      const found = task.NetworksAttachments?.find((each) => each.Network.Spec.Name === NETWORK);
      return plain(found?.Addresses[0] ?? '');
    })
    .sort();
}

/** From one container on each host: names mean the tasks that run, and each of them answers. */
function checkNames(seen: Seen, containers: readonly LiveContainer[]): void {
  const onNetwork = services.filter((service) => service.onNetwork).map(({ name }) => name);
  const tasksOf = (name: string): ApiTask[] =>
    seen.live.filter((task) => seen.serviceOf.get(task.ServiceID) === name);
  for (const host of HOSTS) {
    const probe = containers.find(({ host: on, taskId }) => {
      const task = seen.live.find((each) => each.ID === taskId);
      return on === host && onNetwork.includes(seen.serviceOf.get(task?.ServiceID ?? '') ?? '');
    });
    if (probe === undefined) continue;
    for (const name of onNetwork) {
      const told = within(probe.pid, 'mn', '/web', 'dns', `tasks.${name}`);
      const wanted = addresses(tasksOf(name)).join(' ');
      must(told.text.split('\n').sort().join(' ') === wanted, host, name, told.text, '/', wanted);
      for (const address of addresses(tasksOf(name))) {
        const one = ['get', `http://${address}/`, '--timeout', '2000'];
        const answer = within(probe.pid, 'mn', '/web', ...one);
        must(answer.ok, `from ${host}`, name, address, answer.text);
      }
      const turns = ['get', `http://${name}/`, '4', '--timeout', '2000'];
      const byName = within(probe.pid, 'mn', '/web', ...turns);
      must(byName.ok, `from ${host}`, name, byName.text);
    }
  }
}

/** Everything above, at one moment. */
export async function checkAll(world: World, client: OutsideClient): Promise<void> {
  const seen = await checkRecords(world);
  const containers = checkProcesses(seen);
  await checkManagers(world);
  await checkPorts(client, world);
  checkNames(seen, containers);
}
