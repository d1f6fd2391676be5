/**
 * A swarm of real nodes in one process: real certificates, gRPC on loopback, Raft on disk, agents
 * over fake runtimes. Each node has a directory, a port and a runtime of its own.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SystemClock } from '../../base/clock.ts';
import { hasCode } from '../../base/errors.ts';
import { Ids } from '../../base/id.ts';
import { createLog, type Log, silentLog } from '../../base/log.ts';
import { Meter } from '../../base/meter.ts';
import { SystemRandom } from '../../base/random.ts';
import { foundCluster } from '../../daemon/bootstrap.ts';
import type { Environment } from '../../daemon/environment.ts';
import { Identity } from '../../daemon/identity.ts';
import { SwarmNode, type SwarmNodeOptions } from '../../daemon/swarmNode.ts';
import { requestCertificate } from '../../manager/ca/client.ts';
import type { Control } from '../../manager/control/types.ts';
import type { NodeDescription } from '../../model/types.ts';
import { type FakeRuntime, fakeRuntime } from './fakeRuntime.ts';
import { freePort } from './freePort.ts';
import { until as untilAnswer } from './until.ts';

const HOST = '127.0.0.1';

/** The system's time; a test may set all hosts' wall clocks forward or back. */
class SwarmClock extends SystemClock {
  steppedMs = 0;

  override wallMs(): number {
    return super.wallMs() + this.steppedMs;
  }
}

export const clock = new SwarmClock();
const log: Log = process.env['SWARM_LOG'] === undefined ? silentLog : createLog('debug');

function environment(name: string, meter = new Meter()): Environment {
  const random = new SystemRandom();
  return {
    clock,
    random,
    ids: new Ids(random),
    log: log.with({ node: name }),
    meter,
    fatal: (error) => {
      throw error;
    },
  };
}

/** Polls until `look` gives something; fails with `what` in the end. */
export function until<T>(
  what: string,
  look: () => T | undefined | false | Promise<T | undefined | false>,
  timeoutMs = 0,
): Promise<T> {
  return untilAnswer(what, timeoutMs, look);
}

export class TestNode {
  readonly name: string;
  readonly meter = new Meter();
  readonly runtime: FakeRuntime = fakeRuntime();
  readonly machineId: string;
  readonly directory: string;
  readonly identity: Identity;
  node: SwarmNode | undefined;
  removed = '';

  constructor(name: string, directory: string) {
    this.name = name;
    this.runtime.images.add('web:1');
    this.machineId = `machine-${name}`;
    this.directory = directory;
    this.identity = new Identity(directory, new SystemRandom());
  }

  description(): NodeDescription {
    return {
      hostname: this.name,
      os: 'linux',
      architecture: 'x86_64',
      kernel: '6.1',
      nanoCpus: 2e9,
      memoryBytes: 4e9,
      engineVersion: 'test',
      engineLabels: {},
      machineId: this.machineId,
      genericResources: [],
    };
  }

  get swarmNode(): SwarmNode {
    if (this.node === undefined) throw new Error(`${this.name} does not run`);
    return this.node;
  }

  get id(): string {
    return this.identity.membership()?.nodeId ?? '';
  }

  get address(): string {
    const membership = this.identity.membership();
    return `${membership?.advertiseHost}:${membership?.port}`;
  }

  get control(): Control {
    const manager = this.swarmNode.manager;
    if (manager === undefined) throw new Error(`${this.name} is no manager`);
    return manager.control;
  }

  async start(more: Partial<Pick<SwarmNodeOptions, 'founding' | 'joining' | 'alone'>> = {}) {
    const membership = this.identity.membership();
    if (membership === undefined) throw new Error(`${this.name} is in no swarm`);
    this.node = await SwarmNode.start({
      environment: environment(this.name, this.meter),
      identity: this.identity,
      membership,
      credentials: this.identity.credentials(),
      runtime: this.runtime,
      journalDirectory: join(this.directory, 'agent'),
      describe: () => this.description(),
      onRemoved: (reason) => {
        this.removed = reason;
      },
      ...more,
    });
  }

  async stop(): Promise<void> {
    await this.node?.stop();
    this.node = undefined;
  }
}

export class TestSwarm {
  readonly nodes: TestNode[] = [];
  readonly #directory = mkdtempSync(join(tmpdir(), 'tsswarm-swarm-'));

  #make(name: string): TestNode {
    const node = new TestNode(name, join(this.#directory, name));
    this.nodes.push(node);
    return node;
  }

  async init(name: string): Promise<TestNode> {
    const node = this.#make(name);
    const address = { host: HOST, port: await freePort() };
    const founded = await foundCluster({
      environment: environment(name),
      request: {
        advertiseAddress: '',
        listenAddress: '',
        dataPathAddress: '',
        availability: 'active',
        addressPools: [],
        subnetSize: 24,
        vxlanPort: 4789,
        forceNewCluster: false,
      },
      description: node.description(),
      advertised: address,
      listen: address,
    });
    node.identity.saveCredentials(founded.credentials);
    node.identity.save(founded.membership);
    await node.start({ founding: founded.changes });
    // As after a boot: what it was founded with does not come back when its role changes.
    await node.stop();
    await node.start();
    return node;
  }

  async join(
    name: string,
    token: string,
    remote: string,
    more: { previousNodeId?: string; directory?: TestNode } = {},
  ): Promise<TestNode> {
    const node = more.directory ?? this.#make(name);
    const port = await freePort();
    const ask = {
      clock,
      log,
      remoteAddresses: [remote],
      token,
      availability: 'active' as const,
      description: node.description(),
      advertiseAddress: HOST,
      port,
      previousNodeId: more.previousNodeId ?? '',
    };
    // Where connections break only for how busy the machine is, one asks again.
    const issued = await until('a certificate', () =>
      requestCertificate(ask).catch((error: unknown) => {
        if (hasCode(error, 'unavailable')) return undefined;
        throw error;
      }),
    );
    node.identity.saveCredentials(issued.credentials);
    node.identity.save({
      nodeId: issued.nodeId,
      role: issued.role,
      hostIndex: issued.hostIndex,
      advertiseHost: HOST,
      port,
      listenHost: HOST,
      vxlanPort: issued.vxlanPort,
      managers: [remote],
      raftId: 0,
    });
    await node.start({ joining: true });
    return node;
  }

  /** The node whose manager leads. */
  async leader(): Promise<TestNode> {
    return until('a leader', () => {
      for (const node of this.nodes) {
        const status = node.node?.manager?.control.raftStatus();
        if (status !== undefined && status.leaderNodeId === node.id) return node;
      }
      return undefined;
    });
  }

  async close(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.stop()));
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
