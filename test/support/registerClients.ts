/**
 * Concurrent clients that use configs as registers through the Docker API of every manager, and
 * the history of what they asked and were told. They know nothing of faults. What is not answered
 * stays open; an error that does not say that the outcome is not known means: nothing was changed.
 */
import { Agent, request } from 'node:http';
import { SystemClock } from '../../base/clock.ts';
import type { Random } from '../../base/random.ts';
import { socketOf } from '../bench/swarmClient.ts';
import { NEVER } from './linearizability.ts';
import type { RegisterInput, RegisterOperation, RegisterOutput, Shown } from './registerHistory.ts';

const clock = new SystemClock();
const API = '/v1.44/configs';
const PREFIX = 'register-';
/** Longer than a manager takes to say that it cannot know (a forwarded write). */
const PATIENT_MS = 20_000;
/** Sooner than that: what it asked stays open, and it goes on elsewhere. */
const IMPATIENT_MS = 2_500;
const PAUSE_MIN_MS = 4;
const PAUSE_MAX_MS = 40;

interface ApiConfig {
  readonly ID: string;
  readonly Version: { readonly Index: number };
  readonly Spec: { readonly Name: string; readonly Labels?: Readonly<Record<string, string>> };
}

interface Answer {
  /** 0: none came. */
  readonly status: number;
  readonly body: unknown;
  readonly said: string;
  /** Nobody was there to be asked. */
  readonly isUnsent: boolean;
}

export function registerNames(count: number): string[] {
  return Array.from({ length: count }, (_, at) => `${PREFIX}${at}`);
}

export class RegisterClients {
  readonly history: RegisterOperation[] = [];
  readonly #hosts: readonly string[];
  readonly #names: readonly string[];
  readonly #random: Random;
  readonly #agents = new Map<string, Agent>();
  /** What each object's id is, by the serial of the write that made it. */
  readonly #ids = new Map<string, string>();
  #moment = 0;
  #serials = 0;
  #clients = 0;
  #stopped = false;
  /** Requests that the kernel has taken, answered or not. */
  sent = 0;
  readonly #running: Promise<void>[] = [];

  constructor(hosts: readonly string[], names: readonly string[], random: Random) {
    this.#hosts = hosts;
    this.#names = names;
    this.#random = random;
    for (const host of hosts) this.#agents.set(host, new Agent({ keepAlive: true }));
  }

  /** So many clients of each manager, and as many that ask any, with less patience. */
  start(each: number): void {
    for (let at = 0; at < each; at += 1) {
      for (const host of this.#hosts) this.#running.push(this.#live([host], PATIENT_MS));
      this.#running.push(this.#live(this.#hosts, IMPATIENT_MS));
    }
  }

  /** Resolves when what is under way is answered or given up. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#running);
    for (const agent of this.#agents.values()) agent.destroy();
  }

  async #live(hosts: readonly string[], patienceMs: number): Promise<void> {
    const client = this.newClient();
    const random = this.#random;
    const known = new Map<string, Shown | undefined>();
    while (!this.#stopped) {
      const host = hosts[random.below(hosts.length)];
      const name = this.#names[random.below(this.#names.length)];
      const chance = random.float();
      if (chance < 0.05) {
        for (const [key, shown] of await this.list(client, host, patienceMs)) known.set(key, shown);
      } else if (chance < 0.5 || !known.has(name)) {
        const read = await this.read(client, host, name, patienceMs);
        if (read?.output?.kind === 'shown') known.set(name, read.output.shown);
      } else {
        const shown = known.get(name);
        const input = this.#write(shown);
        const made = await this.write(client, host, name, input, patienceMs);
        // Now and then it goes on with what it knew before: that must be refused.
        if (made.output?.kind !== 'done' || random.below(4) > 0) known.delete(name);
      }
      await clock.sleep(PAUSE_MIN_MS + random.below(PAUSE_MAX_MS - PAUSE_MIN_MS));
    }
  }

  newClient(): number {
    this.#clients += 1;
    return this.#clients;
  }

  #write(shown: Shown | undefined): RegisterInput {
    if (shown === undefined) return { kind: 'create', serial: this.newSerial() };
    const { born, serial: expected, version } = shown;
    if (this.#random.below(12) === 0) return { kind: 'remove', born };
    return { kind: 'set', born, expected, version, serial: this.newSerial() };
  }

  newSerial(): string {
    this.#serials += 1;
    return `s${this.#serials}`;
  }

  /** Undefined when it was not answered: nothing is learnt from that. */
  async read(
    client: number,
    host: string,
    name: string,
    patienceMs = PATIENT_MS,
  ): Promise<RegisterOperation | undefined> {
    const calledAt = this.#now();
    const answer = await this.#ask(host, 'GET', `/${name}`, undefined, patienceMs);
    if (answer.status !== 200 && answer.status !== 404) return undefined;
    const shown = answer.status === 200 ? this.#shown(answer.body as ApiConfig) : undefined;
    const output = { kind: 'shown', shown } as const;
    return this.#note(client, host, name, calledAt, { kind: 'read' }, output, '');
  }

  /** All registers in one answer: a read of each. Empty when it was not answered. */
  async list(
    client: number,
    host: string,
    patienceMs = PATIENT_MS,
  ): Promise<Map<string, Shown | undefined>> {
    const calledAt = this.#now();
    const filters = encodeURIComponent(JSON.stringify({ name: [PREFIX] }));
    const answer = await this.#ask(host, 'GET', `?filters=${filters}`, undefined, patienceMs);
    const found = new Map<string, Shown | undefined>();
    if (answer.status !== 200) return found;
    const configs = answer.body as readonly ApiConfig[];
    for (const name of this.#names) {
      const config = configs.find(({ Spec }) => Spec.Name === name);
      const shown = config === undefined ? undefined : this.#shown(config);
      const output = { kind: 'shown', shown } as const;
      this.#note(client, host, name, calledAt, { kind: 'read' }, output, '');
      found.set(name, shown);
    }
    return found;
  }

  async write(
    client: number,
    host: string,
    name: string,
    input: RegisterInput,
    patienceMs = PATIENT_MS,
  ): Promise<RegisterOperation> {
    const calledAt = this.#now();
    const [method, path, body] = this.#request(name, input);
    const answer = await this.#ask(host, method, path, body, patienceMs);
    const output = outcomeOf(answer);
    return this.#note(client, host, name, calledAt, input, output, answer.said);
  }

  #request(name: string, input: RegisterInput): [method: string, path: string, body?: object] {
    switch (input.kind) {
      case 'create': {
        const { serial } = input;
        const Labels = { born: serial, serial };
        return ['POST', '/create', { Name: name, Labels, Data: 'ZGF0YQ==' }];
      }
      case 'set': {
        const Labels = { born: input.born, serial: input.serial };
        const path = `/${this.#idOf(input.born)}/update?version=${input.version}`;
        return ['POST', path, { Name: name, Labels }];
      }
      case 'remove':
        return ['DELETE', `/${this.#idOf(input.born)}`];
      case 'read':
        throw new Error('a read is no write');
    }
  }

  #idOf(born: string): string {
    const id = this.#ids.get(born);
    if (id === undefined) throw new Error(`nobody was shown ${born}`);
    return id;
  }

  #shown({ ID, Version, Spec }: ApiConfig): Shown {
    const { born, serial } = Spec.Labels ?? {};
    const known = this.#ids.get(born) ?? ID;
    if (known !== ID) throw new Error(`${born} has ids ${known} and ${ID}: made twice`);
    this.#ids.set(born, ID);
    return { born, serial, version: Version.Index };
  }

  #now(): number {
    this.#moment += 1;
    return this.#moment;
  }

  #note(
    client: number,
    at: string,
    key: string,
    calledAt: number,
    input: RegisterInput,
    output: RegisterOutput | undefined,
    said: string,
  ): RegisterOperation {
    const returnedAt = output === undefined ? NEVER : this.#now();
    const operation = { client, at, key, calledAt, returnedAt, input, output, said };
    this.history.push(operation);
    return operation;
  }

  #ask(
    host: string,
    method: string,
    path: string,
    body: object | undefined,
    patienceMs: number,
  ): Promise<Answer> {
    return new Promise((resolve) => {
      const failed = (error: Error & { code?: string }): void => {
        const isUnsent = ['ECONNREFUSED', 'ENOENT'].includes(error.code ?? '');
        resolve({ status: 0, body: undefined, said: error.message, isUnsent });
      };
      const asked = request(
        {
          socketPath: socketOf(host),
          agent: this.#agents.get(host),
          method,
          path: `${API}${path}`,
          headers: { 'content-type': 'application/json' },
          signal: AbortSignal.timeout(patienceMs),
        },
        (answer) => {
          const parts: Buffer[] = [];
          answer.on('error', failed);
          answer.on('data', (part: Buffer) => parts.push(part));
          answer.on('end', () => {
            const text = Buffer.concat(parts).toString();
            const status = answer.statusCode ?? 0;
            resolve({
              status,
              said: status >= 400 ? text : '',
              isUnsent: false,
              body: parsed(text),
            });
          });
        },
      );
      asked.on('error', failed);
      asked.on('finish', () => {
        this.sent += 1;
      });
      asked.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  /** In one line: how many of what came of it. */
  counts(): string {
    const counts = new Map<string, number>();
    for (const { input, output } of this.history) {
      const nothing = output?.kind === 'shown' && output.shown === undefined;
      const how = nothing ? 'nothing' : (output?.kind ?? 'unknown');
      const what = `${input.kind} ${how}`;
      counts.set(what, (counts.get(what) ?? 0) + 1);
    }
    const told = [...counts].sort().map(([what, count]) => `${what} ${count}`);
    return `${this.history.length} operations: ${told.join(', ')}`;
  }
}

function parsed(text: string): unknown {
  return text === '' ? undefined : JSON.parse(text);
}

/** Of a write. Undefined: not known. */
function outcomeOf({ status, said, isUnsent }: Answer): RegisterOutput | undefined {
  if (isUnsent) return { kind: 'refused' };
  if (status === 0 || /not known|the change was made, but/.test(said)) return undefined;
  if (status < 300) return { kind: 'done' };
  if (status === 404) return { kind: 'absent' };
  if (status === 409) return { kind: 'taken' };
  return /update out of sequence/.test(said) ? { kind: 'stale' } : { kind: 'refused' };
}
