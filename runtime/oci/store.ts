/**
 * The containers of one `--root`: `<root>/<id>/state.json` each, written aside and renamed, so that
 * it is there whole or not at all. What a container's state is now is worked out from its process,
 * named by number and start time, its gate and its groups; nothing here changes a process.
 */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import { hasCode, SwarmError } from '../../base/errors.ts';
import { isAlive } from '../sys/process.ts';
import { OciCgroups } from './cgroups.ts';
import type { OciConfig } from './config.ts';
import { readConfig } from './configRead.ts';

const STATE_FILE = 'state.json';
const GATE_FILE = 'exec.fifo';
const FORMAT = 1;

/** What is kept on disk. */
interface Kept {
  readonly format: number;
  readonly id: string;
  readonly bundle: string;
  /** 0 until it is there. */
  readonly pid: number;
  /** Decimal: JSON's numbers are not exact. */
  readonly startTicks: string;
  readonly created: string;
  readonly cgroupPath: string;
  /** Those that were made for it. */
  readonly madeGroups: readonly string[];
  /** config.json as it was read, for exec, update and the hooks. */
  readonly config: unknown;
}

export type Status = 'creating' | 'created' | 'running' | 'paused' | 'stopped';

export class StoredContainer {
  readonly id: string;
  readonly dir: string;
  readonly config: OciConfig;
  readonly kept: Kept;
  readonly cgroups: OciCgroups;

  constructor(dir: string, kept: Kept, clock: Clock) {
    this.id = kept.id;
    this.dir = dir;
    this.kept = kept;
    this.config = readConfig(kept.config);
    this.cgroups = new OciCgroups(kept.cgroupPath, clock);
  }

  get pid(): number {
    return this.kept.pid;
  }

  get gate(): string {
    return join(this.dir, GATE_FILE);
  }

  get isAlive(): boolean {
    return this.pid > 0 && isAlive(this.pid, BigInt(this.kept.startTicks));
  }

  get status(): Status {
    if (this.pid === 0) return 'creating';
    if (!this.isAlive) return 'stopped';
    if (this.cgroups.isFrozen()) return 'paused';
    return existsSync(this.gate) ? 'created' : 'running';
  }
}

export class Store {
  readonly root: string;
  readonly #clock: Clock;

  constructor(root: string, clock: Clock) {
    this.root = root;
    this.#clock = clock;
  }

  dirOf(id: string): string {
    checkId(id);
    return join(this.root, id);
  }

  gateOf(id: string): string {
    return join(this.dirOf(id), GATE_FILE);
  }

  /** Takes the name. SwarmError conflict when it is taken. */
  reserve(id: string): string {
    const dir = this.dirOf(id);
    mkdirSync(this.root, { recursive: true, mode: 0o711 });
    try {
      mkdirSync(dir, { mode: 0o711 });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      throw new SwarmError('conflict', `container with id exists: ${id} (in ${this.root})`);
    }
    return dir;
  }

  write(kept: Omit<Kept, 'format'>): void {
    const dir = this.dirOf(kept.id);
    const aside = join(dir, `${STATE_FILE}.tmp`);
    writeFileSync(aside, `${JSON.stringify({ format: FORMAT, ...kept })}\n`, { mode: 0o600 });
    renameSync(aside, join(dir, STATE_FILE));
  }

  /** SwarmError not_found, or corrupt when its file cannot be read. */
  load(id: string): StoredContainer {
    const dir = this.dirOf(id);
    let text: string;
    try {
      text = readFileSync(join(dir, STATE_FILE), 'utf8');
    } catch (error) {
      throw new SwarmError('not_found', 'container does not exist', { cause: error });
    }
    let kept: Kept;
    try {
      kept = JSON.parse(text) as Kept;
    } catch (error) {
      throw new SwarmError('corrupt', `${join(dir, STATE_FILE)} is damaged`, { cause: error });
    }
    if (kept.format !== FORMAT) {
      throw new SwarmError('corrupt', `${join(dir, STATE_FILE)} has format ${kept.format}`);
    }
    return new StoredContainer(dir, kept, this.#clock);
  }

  /** All that can be read, by name. */
  list(): readonly StoredContainer[] {
    if (!existsSync(this.root)) return [];
    return readdirSync(this.root)
      .filter((name) => existsSync(join(this.root, name, STATE_FILE)))
      .toSorted()
      .flatMap((name) => this.#loadIfThere(name));
  }

  /** One may be deleted while others are looked at. */
  #loadIfThere(id: string): readonly StoredContainer[] {
    try {
      return [this.load(id)];
    } catch (error) {
      if (hasCode(error, 'not_found')) return [];
      throw error;
    }
  }

  remove(id: string): void {
    rmSync(this.dirOf(id), { recursive: true, force: true });
  }
}

/** Names become directories and control groups. */
export function checkId(id: string): void {
  if (!/^[\w+.-]+$/.test(id) || id === '.' || id === '..') {
    throw new SwarmError('invalid', `invalid id format: "${id}": letters, digits and _+-. only`);
  }
}
