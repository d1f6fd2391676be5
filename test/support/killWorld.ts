/**
 * The services that are tortured, what is wanted of them at any moment, and the ledger of writes
 * that were acknowledged. Talks to whichever manager answers; changes nothing on its own.
 */
import { call, clock } from '../bench/swarmClient.ts';
import { swarm, WEB_IMAGE } from './lab.ts';

export const HOSTS = ['h1', 'h2', 'h3', 'h4', 'h5'];
export const NETWORK = 'demo';
const LEDGER = 'ledger';

export interface ApiService {
  readonly ID: string;
  readonly Version: { readonly Index: number };
  readonly Spec: {
    readonly Name: string;
    readonly Labels?: Record<string, string>;
    readonly Mode: { readonly Replicated?: { readonly Replicas: number } };
    readonly TaskTemplate: { readonly ForceUpdate?: number };
  };
}

export interface ApiNode {
  readonly ID: string;
  readonly Spec: { readonly Role: string; readonly Availability: string };
  readonly Description: { readonly Hostname: string };
  readonly Status: { readonly State: string };
  readonly ManagerStatus?: { readonly Leader?: boolean; readonly Reachability?: string };
}

export interface ApiTask {
  readonly ID: string;
  readonly ServiceID: string;
  readonly NodeID?: string;
  readonly Slot?: number;
  readonly DesiredState: string;
  readonly Status: { readonly State: string; readonly Err?: string };
  readonly NetworksAttachments?: readonly {
    readonly Network: { readonly Spec: { readonly Name: string } };
    readonly Addresses: readonly string[];
  }[];
}

export interface Wanted {
  readonly name: string;
  /** Undefined: one on each usable node. */
  replicas: number | undefined;
  /** Zero: none published. */
  readonly port: number;
  readonly onNetwork: boolean;
}

export const services: readonly Wanted[] = [
  { name: 'web', replicas: 5, port: 8080, onNetwork: true },
  { name: 'rolling', replicas: 4, port: 8081, onNetwork: true },
  { name: 'each', replicas: undefined, port: 0, onNetwork: true },
  { name: 'plain', replicas: 3, port: 0, onNetwork: false },
];

const FLAGS: Readonly<Record<string, readonly string[]>> = {
  web: ['--restart-delay', '0s', '--update-order', 'start-first', '--update-parallelism', '0'],
  rolling: ['--restart-delay', '1s', '--update-parallelism', '2', '--update-monitor', '500ms'],
  each: ['--mode', 'global', '--restart-delay', '500ms'],
  plain: ['--restart-delay', '0s'],
};

export async function createServices(): Promise<void> {
  await swarm('h1', 'network', 'create', '--driver', 'overlay', NETWORK);
  for (const { name, replicas, port, onNetwork } of services) {
    await swarm(
      'h1',
      ...['service', 'create', '--name', name, ...FLAGS[name]],
      ...(replicas === undefined ? [] : ['--replicas', String(replicas)]),
      ...(port === 0 ? [] : ['--publish', `${port}:80`]),
      ...(onNetwork ? ['--network', NETWORK] : []),
      ...['--env', 'TASK_ID={{.Task.ID}}', '--env', 'TASK_NAME={{.Task.Name}}'],
      ...['--env', 'NODE_HOSTNAME={{.Node.Hostname}}', '--stop-grace-period', '2s'],
      ...['--detach', WEB_IMAGE],
    );
  }
  await swarm(
    'h1',
    'service',
    'create',
    '--name',
    LEDGER,
    '--replicas',
    '0',
    '--detach',
    WEB_IMAGE,
  );
}

export async function removeServices(host: string): Promise<void> {
  await swarm(host, 'service', 'rm', ...services.map(({ name }) => name), LEDGER);
}

/** What the test has done to the hosts; checks follow it. */
export class World {
  readonly managers = new Set(['h1', 'h2', 'h3']);
  readonly drained = new Set<string>();
  /** Cut, off, or without a daemon just now. */
  readonly lost = new Set<string>();
  /** Labels whose write was acknowledged. */
  readonly ledger = new Map<string, string>();
  #writes = 0;

  /** Managers that should answer. */
  reachable(): string[] {
    return HOSTS.filter((host) => this.managers.has(host) && !this.lost.has(host));
  }

  /** Asks the reachable managers one after another until one answers, for at most `limitMs`. */
  async ask<T>(method: string, path: string, body?: unknown, limitMs = 30_000): Promise<T> {
    const end = clock.nowMs() + limitMs;
    for (let turn = 0; ; turn += 1) {
      const managers = this.reachable();
      const host = managers[turn % managers.length];
      try {
        return await call<T>(host, method, path, body, 10_000);
      } catch (error) {
        if (clock.nowMs() > end) throw error;
        await clock.sleep(100);
      }
    }
  }

  nodes(): Promise<ApiNode[]> {
    return this.ask('GET', '/nodes');
  }

  async leader(): Promise<string> {
    const end = clock.nowMs() + 30_000;
    for (;;) {
      const nodes = await this.nodes();
      const found = nodes.find((node) => node.ManagerStatus?.Leader === true)?.Description.Hostname;
      if (found !== undefined && !this.lost.has(found)) return found;
      if (clock.nowMs() > end) throw new Error('nobody leads');
      await clock.sleep(100);
    }
  }

  /**
   * One label on the ledger through any reachable manager. Acknowledged or an error: then nobody
   * knows, and the label is not in the ledger.
   */
  async write(): Promise<void> {
    this.#writes += 1;
    const [name, value] = [`w${this.#writes}`, String(this.#writes)];
    await this.update(LEDGER, (spec) => ({ ...spec, Labels: { ...spec.Labels, [name]: value } }));
    this.ledger.set(name, value);
  }

  /** Reads, changes and writes a service, again when another write came between. */
  async update(
    name: string,
    change: (spec: ApiService['Spec']) => ApiService['Spec'],
  ): Promise<void> {
    const end = clock.nowMs() + 30_000;
    for (let turn = 0; ; turn += 1) {
      try {
        const service = await this.ask<ApiService>('GET', `/services/${name}`);
        const path = `/services/${service.ID}/update?version=${service.Version.Index}`;
        const managers = this.reachable();
        const host = managers[(this.#writes + turn) % managers.length];
        await call(host, 'POST', path, change(service.Spec), 15_000);
        return;
      } catch (error) {
        if (clock.nowMs() > end) throw error;
        await clock.sleep(100);
      }
    }
  }

  async changeNode(
    host: string,
    change: (spec: ApiNode['Spec']) => Partial<ApiNode['Spec']>,
  ): Promise<void> {
    const end = clock.nowMs() + 30_000;
    for (;;) {
      try {
        const node = (await this.nodes()).find((each) => each.Description.Hostname === host);
        if (node === undefined) throw new Error(`no node ${host}`);
        const { Index } = (node as unknown as ApiService).Version;
        const body = { ...node.Spec, ...change(node.Spec) };
        const managers = this.reachable().filter((each) => each !== host);
        const path = `/nodes/${node.ID}/update?version=${Index}`;
        await call(managers[0], 'POST', path, body, 15_000);
        return;
      } catch (error) {
        if (clock.nowMs() > end) throw error;
        await clock.sleep(100);
      }
    }
  }
}
