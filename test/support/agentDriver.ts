/**
 * A process that is one host's agent for tests: the real runtime in the namespaces it was started
 * in, an Agent on it, and a scripted manager behind its link. It does what the test asks over the
 * IPC channel; kill -9 of it is kill -9 of a daemon.
 */
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import { Agent } from '../../agent/agent.ts';
import { describeHost } from '../../agent/describe.ts';
import { FileJournal } from '../../agent/journal.ts';
import { SystemClock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import { Ids } from '../../base/id.ts';
import { createLog } from '../../base/log.ts';
import { Signal } from '../../base/queue.ts';
import { SystemRandom } from '../../base/random.ts';
import type { AssignmentMessage } from '../../model/assignment.ts';
import type { TaskState } from '../../model/taskState.ts';
import type { TaskStatus } from '../../model/types.ts';
import { TmpfsFiles } from '../../runtime/container/memoryFiles.ts';
import { openContainerTable } from '../../runtime/container/table.ts';
import type { ContainerTable } from '../../runtime/container/types.ts';
import { openImageStore } from '../../runtime/image/store.ts';
import type { ImageStore } from '../../runtime/image/types.ts';
import { openHostNetwork } from '../../runtime/net/hostNetwork.ts';
import { openVolumeStore } from '../../runtime/volume/store.ts';
import { ScriptedManager } from './scriptedManager.ts';
import { until } from './until.ts';

const SESSION_LIMIT_MS = 10_000;

export interface DriverRoots {
  readonly dataRoot: string;
  readonly execRoot: string;
  readonly cgroupParent: string;
}

export interface FoundContainer {
  readonly id: string;
  readonly taskId: string;
  readonly state: string;
  readonly pid: number;
}

const clock = new SystemClock();
const random = new SystemRandom();
const log = createLog('warn');
const manager = new ScriptedManager('m:1', () => ['m:1']);
const reported = new Signal<{ taskId: string; status: TaskStatus }>();
/** When the manager heard of each state, by monotonic time. */
let assignedAtMs = 0;
let containers: ContainerTable;
let images: ImageStore;
let agent: Agent;
let journal: FileJournal;

manager.onStatus = async (updates) => {
  // After the manager has taken them down.
  queueMicrotask(() => {
    for (const update of updates) reported.emit(update);
  });
};

const methods = {
  async open(roots: DriverRoots): Promise<void> {
    containers = await openContainerTable({ ...roots, clock, random, log });
    images = await openImageStore({ dataRoot: roots.dataRoot, clock, log });
    const network = await openHostNetwork({
      ...roots,
      clock,
      random,
      log,
      self: undefined,
      vxlanPort: 4789,
    });
    journal = new FileJournal({ directory: join(roots.dataRoot, 'agent'), clock, log });
    agent = new Agent({
      clock,
      random,
      log,
      ids: new Ids(random),
      nodeId: 'node1',
      address: '10.99.0.11',
      port: 2377,
      describe: () => describeHost({ engineVersion: 'test' }),
      tls: () => ({ issuer: '', trust: '' }),
      runtime: {
        containers,
        images,
        network,
        volumes: openVolumeStore({ dataRoot: roots.dataRoot, clock, ids: new Ids(random), log }),
        memoryFiles: new TmpfsFiles(roots.execRoot),
      },
      journal,
      dial: () => manager.link(),
    });
  },

  async start(): Promise<void> {
    await agent.start(['m:1']);
  },

  async load(path: string): Promise<string[]> {
    const loaded = await images.load(createReadStream(path));
    return loaded.flatMap((image) => image.tags);
  },

  async behave(behaviour: ScriptedManager['behaviour']): Promise<void> {
    manager.behaviour = behaviour;
  },

  async assign(message: AssignmentMessage): Promise<void> {
    await until('the agent has a session', SESSION_LIMIT_MS, () => manager.sessions.length > 0);
    assignedAtMs = clock.nowMs();
    manager.assign(message);
  },

  /** The status in which a task has reached `state`, and when after the last assignment. */
  async until(want: { taskId: string; state: TaskState; timeoutMs: number }) {
    const known = manager.reported.get(want.taskId);
    const reached = (status: TaskStatus): boolean => status.state >= want.state;
    const status =
      known !== undefined && reached(known)
        ? known
        : (
            await reported.next(
              clock,
              want.timeoutMs,
              (update) => update.taskId === want.taskId && reached(update.status),
            )
          ).status;
    return { status, afterMs: clock.nowMs() - assignedAtMs };
  },

  /** The journal is on disk. */
  async flush(): Promise<void> {
    await journal.flush();
  },

  async statuses() {
    return agent.statuses();
  },

  async containers(): Promise<FoundContainer[]> {
    return containers.list().map((one) => ({
      id: one.config.id,
      taskId: one.config.labels['com.docker.swarm.task.id'] ?? '',
      state: one.state,
      pid: one.pid,
    }));
  },

  async logs(taskId: string): Promise<string> {
    const query = { follow: false, sinceNs: 0n, tail: -1, stdout: true, stderr: true };
    const parts: Uint8Array[] = [];
    for await (const record of agent.taskLogs(taskId, query, new AbortController().signal)) {
      parts.push(record.data);
    }
    return Buffer.concat(parts).toString();
  },

  async stop(): Promise<void> {
    await agent.stop();
    await containers.close();
  },
};

export type DriverMethods = typeof methods;

process.on('message', (call: { id: number; method: keyof DriverMethods; argument: unknown }) => {
  const run = methods[call.method] as (argument: unknown) => Promise<unknown>;
  run(call.argument).then(
    (result) => process.send?.({ id: call.id, result }),
    (error: unknown) => process.send?.({ id: call.id, error: messageOf(error) }),
  );
});
process.on('disconnect', () => process.exit(0));
