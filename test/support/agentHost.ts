/**
 * One host for tests of the agent: network and mount namespaces kept by a process, directories and
 * a cgroup subtree of its own, and the driver process in it, which can be killed and started again.
 * Everything goes with `close`.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { removeCgroups } from '../../deploy/hosts/system.ts';
import type { DriverMethods, DriverRoots } from './agentDriver.ts';

const DRIVER = fileURLToPath(new URL('./agentDriver.js', import.meta.url));
const WEB_IMAGE = fileURLToPath(new URL('../../images/web.tar', import.meta.url));
const CALL_TIMEOUT_MS = 120_000;

type Argument<M extends keyof DriverMethods> = Parameters<DriverMethods[M]>[0];
type Result<M extends keyof DriverMethods> = Awaited<ReturnType<DriverMethods[M]>>;

export class AgentHost {
  readonly directory = mkdtempSync(join(tmpdir(), 'agent-host-'));
  readonly roots: DriverRoots;
  readonly #holder: ChildProcess;
  #driver: ChildProcess | undefined;
  #calls = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>();
  #nextId = 1;

  /** A host with the web image loaded and its agent started. */
  static async create(): Promise<AgentHost> {
    const script =
      'ip link set lo up && ip link add under0 type veth peer name under1 && ' +
      'ip addr add 10.99.0.11/24 dev under0 && ip link set under0 up && ' +
      'ip link set under1 up && echo ready && exec sleep infinity';
    const holder = spawn('unshare', ['--net', '--mount', 'sh', '-c', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(holder.stdout as NodeJS.ReadableStream, 'data');
    const host = new AgentHost(holder);
    try {
      await host.boot();
      await host.call('load', WEB_IMAGE);
      await host.call('start', undefined);
      return host;
    } catch (error) {
      await host.close();
      throw error;
    }
  }

  private constructor(holder: ChildProcess) {
    this.#holder = holder;
    this.roots = {
      dataRoot: join(this.directory, 'data'),
      execRoot: join(this.directory, 'run'),
      cgroupParent: `tsswarm-test-agent-${holder.pid}`,
    };
  }

  /** The driver with its runtime opened; what it held before is found again. */
  async boot(): Promise<void> {
    const enter = ['-t', String(this.#holder.pid), '-n', '-m', process.execPath, DRIVER];
    const driver = spawn('nsenter', enter, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    driver.on('message', (answer: { id: number; result?: never; error?: string }) => {
      const call = this.#calls.get(answer.id);
      this.#calls.delete(answer.id);
      if (answer.error === undefined) call?.resolve(answer.result as never);
      else call?.reject(new Error(answer.error));
    });
    driver.on('exit', () => {
      for (const call of this.#calls.values()) call.reject(new Error('the driver has ended'));
      this.#calls.clear();
    });
    this.#driver = driver;
    await this.call('open', this.roots);
  }

  call<M extends keyof DriverMethods>(method: M, argument: Argument<M>): Promise<Result<M>> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${method}: no answer`)), CALL_TIMEOUT_MS);
      this.#calls.set(id, {
        resolve: (value) => {
          clearTimeout(timer);
          resolve(value);
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      });
      this.#driver?.send({ id, method, argument });
    });
  }

  /** kill -9 of the agent's process; containers and their shims are not touched. */
  async killDriver(): Promise<void> {
    const driver = this.#driver;
    if (driver === undefined || driver.exitCode !== null) return;
    driver.kill('SIGKILL');
    await once(driver, 'exit');
    this.#driver = undefined;
  }

  /** As a boot leaves it: every process of this host's containers gone, its exec root empty. */
  async loseProcesses(): Promise<void> {
    await this.killDriver();
    await removeCgroups(this.roots.cgroupParent);
    rmSync(this.roots.execRoot, { recursive: true, force: true });
  }

  async close(): Promise<void> {
    await this.killDriver();
    await removeCgroups(this.roots.cgroupParent);
    this.#holder.kill('SIGKILL');
    rmSync(this.directory, { recursive: true, force: true });
  }
}
