/**
 * Containers that are made, started, looked into, stopped and removed by several clients while the
 * daemon is killed at any moment, and what each client knows of its container: asked for, or
 * acknowledged. What is acknowledged must be true afterwards; what was only asked for may be.
 *
 * Each container's program leaves one byte in a file of its own each time it is executed, and so
 * does each exec's: what ran twice is seen, whatever the daemon says.
 */
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Random } from '../../base/random.ts';
import { askSocket } from './socketClient.ts';

export type Step = 'no' | 'asked' | 'yes';

export interface KnownContainer {
  readonly name: string;
  readonly network: string;
  created: Step;
  started: Step;
  /** By stop, kill or a forced removal. */
  ended: Step;
  removed: Step;
  /** As inspection told once it ran. */
  pid: number;
  startedAt: string;
  /** How many execs were asked for, and how many were acknowledged. */
  execs: number;
  execsDone: number;
}

export interface ContainerState {
  readonly Id: string;
  readonly Name: string;
  readonly RestartCount: number;
  readonly State: {
    readonly Status: string;
    readonly Pid: number;
    readonly StartedAt: string;
    readonly Error: string;
    readonly ExitCode: number;
  };
}

/** The daemon is gone, or was just killed: whoever asked does not know what became of it. */
export class DaemonGone extends Error {}

const NETWORKS = ['none', 'bridge', 'own'];
const API = '/v1.44';
const ENDS_BY_ITSELF_ONE_IN = 6;

export class KilledContainers {
  readonly known = new Map<string, KnownContainer>();
  readonly marks: string;
  readonly #socket: string;
  readonly #image: string;
  #made = 0;

  /** `marks`: a directory for the containers' bytes. */
  constructor(socket: string, image: string, marks: string) {
    this.#socket = socket;
    this.#image = image;
    this.marks = marks;
  }

  /** JSON in and out. DaemonGone when there is no whole answer; other statuses are the caller's. */
  async ask<T>(method: string, path: string, body?: object): Promise<{ status: number; value: T }> {
    const answer = await this.raw(method, path, body);
    const text = answer.body.toString();
    const value = text === '' ? undefined : JSON.parse(text);
    return { status: answer.status, value: value as T };
  }

  async raw(
    method: string,
    path: string,
    body?: object,
  ): Promise<{ status: number; body: Buffer }> {
    try {
      return await askSocket(this.#socket, method, `${API}${path}`, body);
    } catch (error) {
      throw new DaemonGone(`${method} ${path}`, { cause: error });
    }
  }

  /** As `ask`; fails on any status of 400 or more that is not `allowed`. */
  async must<T>(method: string, path: string, body?: object, ...allowed: number[]): Promise<T> {
    const { status, value } = await this.ask<T>(method, path, body);
    if (status >= 400 && !allowed.includes(status)) {
      throw new Error(`${method} ${path}: ${status} ${JSON.stringify(value)}`);
    }
    return value;
  }

  inspect(name: string): Promise<ContainerState> {
    return this.must<ContainerState>('GET', `/containers/${name}/json`);
  }

  marksOf(name: string): number {
    const file = join(this.marks, name);
    return existsSync(file) ? statSync(file).size : 0;
  }

  async create(
    name: string,
    network: string,
    args: readonly string[],
    host: object = {},
  ): Promise<KnownContainer> {
    const known: KnownContainer = {
      ...{ name, network, pid: 0, startedAt: '', execs: 0, execsDone: 0 },
      ...{ created: 'asked', started: 'no', ended: 'no', removed: 'no' },
    };
    this.known.set(name, known);
    await this.must('POST', `/containers/create?name=${name}`, {
      Image: this.#image,
      Cmd: ['mark', `/marks/${name}`, ...args],
      StopSignal: 'SIGKILL',
      HostConfig: { NetworkMode: network, Binds: [`${this.marks}:/marks`], ...host },
    });
    known.created = 'yes';
    return known;
  }

  async start(known: KnownContainer): Promise<void> {
    known.started = 'asked';
    await this.must('POST', `/containers/${known.name}/start`, undefined, 304);
    known.started = 'yes';
  }

  /** Learns who runs, so that later it can be told whether it still is the same. */
  async meet(known: KnownContainer): Promise<void> {
    const { State } = await this.inspect(known.name);
    if (State.Status !== 'running') return;
    known.pid = State.Pid;
    known.startedAt = State.StartedAt;
  }

  async exec(known: KnownContainer, isAttached: boolean): Promise<void> {
    known.execs += 1;
    const file = `${known.name}.exec-${known.execs}`;
    const { Id } = await this.must<{ Id: string }>('POST', `/containers/${known.name}/exec`, {
      Cmd: ['/bin/probe', 'mark', `/marks/${file}`, 'echo', 'said'],
      AttachStdout: isAttached,
    });
    const { status, body } = await this.raw('POST', `/exec/${Id}/start`, { Detach: !isAttached });
    if (status >= 400) throw new Error(`exec in ${known.name}: ${body.toString()}`);
    if (isAttached) {
      // Cut off without an error, as the connection's end is the output's: then nobody knows.
      if (!body.toString('latin1').includes('said\n')) throw new DaemonGone('exec: cut off');
      known.execsDone += 1;
    }
  }

  async logs(name: string, query: string): Promise<string[]> {
    const { status, body } = await this.raw('GET', `/containers/${name}/logs?stdout=1&${query}`);
    if (status !== 200) throw new Error(`logs of ${name}: ${body.toString()}`);
    let text = '';
    for (let at = 0; at + 8 <= body.length; at += 8 + body.readUInt32BE(at + 4)) {
      text += body.toString('utf8', at + 8, at + 8 + body.readUInt32BE(at + 4));
    }
    return text.split('\n').filter((line) => line !== '');
  }

  async end(known: KnownContainer, how: 'stop' | 'kill'): Promise<void> {
    known.ended = 'asked';
    const query = how === 'stop' ? '?t=1' : '';
    await this.must('POST', `/containers/${known.name}/${how}${query}`, undefined, 304, 409);
    known.ended = 'yes';
  }

  async remove(known: KnownContainer): Promise<void> {
    if (known.ended !== 'yes') known.ended = 'asked';
    known.removed = 'asked';
    await this.must('DELETE', `/containers/${known.name}?force=1&v=1`, undefined, 404);
    known.removed = 'yes';
  }

  /** One container's life after another until the daemon is gone. */
  async live(client: number, random: Random): Promise<void> {
    try {
      for (;;) await this.#oneLife(client, random);
    } catch (error) {
      if (!(error instanceof DaemonGone)) throw error;
    }
  }

  async #oneLife(client: number, random: Random): Promise<void> {
    this.#made += 1;
    const network = NETWORKS[random.below(NETWORKS.length)];
    const endsSoon = random.below(ENDS_BY_ITSELF_ONE_IN) === 0;
    const args = endsSoon ? ['exit', '7'] : ['ticks', '0'];
    const goes = endsSoon && random.below(2) === 0;
    const known = await this.create(`c${this.#made}-${client}`, network, args, {
      AutoRemove: goes,
    });
    if (random.below(10) > 0) {
      if (endsSoon) known.ended = 'asked';
      if (goes) known.removed = 'asked';
      await this.start(known);
      if (goes) return;
      await this.meet(known);
      for (let turns = random.below(3); turns > 0 && !endsSoon; turns -= 1) {
        await this.exec(known, random.below(2) === 0);
        await this.logs(known.name, 'tail=5');
      }
      if (random.below(3) > 0) await this.end(known, random.below(2) === 0 ? 'stop' : 'kill');
    }
    // Some stay, so that the next daemon finds them in every state.
    if (random.below(3) > 0) await this.remove(known);
  }
}
