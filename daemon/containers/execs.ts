/**
 * Programs run in containers beside the first one (docker exec): made, started once, asked about
 * afterwards. One is kept until its container is removed, or a bound of finished ones pushes it
 * out.
 */
import { messageOf, SwarmError } from '../../base/errors.ts';
import type { Ids } from '../../base/id.ts';
import type { Container, Exec, ExecConfig } from '../../runtime/container/types.ts';
import type { LocalEvents } from './events.ts';

/** Finished ones that can still be asked for their exit code. */
const FINISHED_MAX = 512;
/** Made and not started. */
const WAITING_MAX = 512;
/** As Docker's when the program could not be run for another reason than not being found. */
const CANNOT_RUN = 126;

export interface ExecRecord {
  readonly id: string;
  readonly container: Container;
  readonly config: ExecConfig;
  readonly detachKeys: string;
  readonly openStdout: boolean;
  readonly openStderr: boolean;
  readonly state: 'created' | 'running' | 'ended';
  readonly exitCode: number | undefined;
  readonly pid: number;
  readonly exec: Exec | undefined;
}

export type ExecRequest = Pick<ExecRecord, 'config' | 'detachKeys' | 'openStdout' | 'openStderr'>;

export class Execs {
  readonly #ids: Ids;
  readonly #events: LocalEvents;
  readonly #records = new Map<string, ExecRecord>();

  constructor(ids: Ids, events: LocalEvents) {
    this.#ids = ids;
    this.#events = events;
  }

  /** SwarmError conflict unless its container runs. */
  create(container: Container, request: ExecRequest): string {
    mustRun(container);
    this.#drop('created', WAITING_MAX);
    const id = this.#ids.container();
    this.#records.set(id, {
      id,
      container,
      state: 'created',
      exitCode: undefined,
      pid: 0,
      exec: undefined,
      ...request,
    });
    this.#emit(id, `exec_create: ${request.config.args.join(' ')}`);
    return id;
  }

  get(id: string): ExecRecord {
    const record = this.#records.get(id);
    if (record === undefined) throw new SwarmError('not_found', `No such exec instance: ${id}`);
    return record;
  }

  /** SwarmError conflict when it was started before or its container does not run. */
  async start(id: string, consoleSize: readonly [number, number]): Promise<Exec> {
    const record = this.get(id);
    if (record.state !== 'created') {
      throw new SwarmError('conflict', `exec ${id} has already been started`);
    }
    mustRun(record.container);
    this.#change(id, { state: 'running' });
    let exec: Exec;
    try {
      exec = await record.container.exec({ ...record.config, terminalSize: consoleSize });
    } catch (error) {
      const code = error instanceof SwarmError ? error.detail['exitCode'] : undefined;
      this.#end(id, code === undefined ? CANNOT_RUN : Number(code));
      throw error;
    }
    this.#change(id, { exec, pid: exec.pid });
    this.#emit(id, `exec_start: ${record.config.args.join(' ')}`);
    exec.wait().then(
      (exitCode) => this.#end(id, exitCode),
      (error: unknown) => {
        // Its container went away under it.
        this.#end(id, CANNOT_RUN);
        this.#emit(id, 'exec_die', { error: messageOf(error) });
      },
    );
    return exec;
  }

  #end(id: string, exitCode: number): void {
    if (!this.#records.has(id)) return;
    this.#change(id, { state: 'ended', exitCode, exec: undefined });
    this.#emit(id, 'exec_die', { exitCode: String(exitCode) });
    this.#drop('ended', FINISHED_MAX);
  }

  #change(id: string, changes: Partial<ExecRecord>): void {
    const record = this.#records.get(id);
    if (record !== undefined) this.#records.set(id, { ...record, ...changes });
  }

  /** The oldest go first. */
  #drop(state: ExecRecord['state'], limit: number): void {
    const all = [...this.#records.values()].filter((record) => record.state === state);
    for (const { id } of all.slice(0, Math.max(0, all.length - limit))) this.#records.delete(id);
  }

  #emit(id: string, action: string, more: Readonly<Record<string, string>> = {}): void {
    const container = this.#records.get(id)?.container.config;
    if (container === undefined) return;
    this.#events.emit('container', action, container.id, {
      ...container.labels,
      image: container.image.reference,
      name: container.name,
      execID: id,
      ...more,
    });
  }

  /** Those of a container that can still be asked about and have not ended. */
  of(containerId: string): readonly string[] {
    const all = [...this.#records.values()];
    return all
      .filter(({ container, state }) => container.config.id === containerId && state !== 'ended')
      .map(({ id }) => id);
  }

  /** Its container is gone: nobody can ask for it, and what has ended must not stay in memory. */
  forgetRemoved(containerId: string): void {
    for (const { id, container, state } of [...this.#records.values()]) {
      if (container.config.id === containerId && state !== 'running') this.#records.delete(id);
    }
  }

  /** Its container has ended: what was not started never will be. */
  forget(containerId: string): void {
    for (const { id, container, state } of [...this.#records.values()]) {
      if (container.config.id === containerId && state === 'created') this.#records.delete(id);
    }
  }
}

function mustRun(container: Container): void {
  const { id } = container.config;
  if (container.state !== 'running') {
    throw new SwarmError('conflict', `container ${id} is not running`);
  }
  if (container.paused) {
    throw new SwarmError(
      'conflict',
      `Container ${id} is paused, unpause the container before exec`,
    );
  }
}
