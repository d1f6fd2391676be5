/**
 * What the agent must know when it starts again, perhaps without a manager: the assignments it was
 * given and each task's last status. JSON lines appended in batches with one fdatasync each, the
 * latest per key only; nobody waits for it. It is written anew, and renamed, when mostly stale.
 *
 * A write that is lost with the host loses little: containers carry their task's id, and a manager
 * that comes sends the assignments again. A torn last line is dropped; any other damage is refused.
 */
import { type FileHandle, mkdir, open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { MIB } from '../base/bytes.ts';
import type { Clock, Timer } from '../base/clock.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { type AssignmentItem, assignmentKey } from '../model/assignment.ts';
import type { TaskStatus } from '../model/types.ts';
import { decodeItem, decodeObject, encodeItem, encodeObject } from '../proto/convert.ts';

/** Where the agent's host stands in the cluster. */
export interface JournalSelf {
  readonly hostIndex: number;
  readonly address: string;
  /** Absent in journals of versions that did not note it. */
  readonly vxlanPort?: number;
}

export interface JournalState {
  readonly self: JournalSelf | undefined;
  readonly items: readonly AssignmentItem[];
  /** By task id. */
  readonly statuses: ReadonlyMap<string, TaskStatus>;
  /** As the last session told them, leader first. */
  readonly managers: readonly string[];
}

/** Edge: the simulator brings its own. No call waits for the disk but `load`, `flush`, `close`. */
export interface Journal {
  load(): Promise<JournalState>;
  setSelf(self: JournalSelf): void;
  setManagers(managers: readonly string[]): void;
  put(item: AssignmentItem): void;
  setStatus(taskId: string, status: TaskStatus): void;
  /** Forgets an item by its key, and a task's status with it. */
  remove(key: string): void;
  flush(): Promise<void>;
  close(): Promise<void>;
}

/** One line of the file: the latest value of a key; null forgets it. */
type Line = readonly [key: string, value: unknown];

/** Gathers what happens together into one write. */
const WRITE_DELAY_MS = 5;
const RETRY_MS = 1000;
/** Rewritten when what was appended outgrows this and what the last rewrite left. */
const APPENDED_BYTES = 4 * MIB;
const FILE_MODE = 0o600;

export interface FileJournalOptions {
  readonly directory: string;
  readonly clock: Clock;
  readonly log: Log;
}

export class FileJournal implements Journal {
  readonly #directory: string;
  readonly #path: string;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #live = new Map<string, unknown>();
  readonly #pending = new Map<string, unknown>();
  #file: FileHandle | undefined;
  /** Characters in the file after the last rewrite, and appended since. */
  #written = 0;
  #appended = 0;
  #timer: Timer | undefined;
  #writing: Promise<void> | undefined;
  #closed = false;

  constructor(options: FileJournalOptions) {
    this.#directory = options.directory;
    this.#path = join(options.directory, 'journal.jsonl');
    this.#clock = options.clock;
    this.#log = options.log;
  }

  /** SwarmError corrupt names the file and the line. */
  async load(): Promise<JournalState> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    for (const [key, value] of parseJournal(await readIfThere(this.#path), this.#path)) {
      if (value === null) this.#live.delete(key);
      else this.#live.set(key, value);
    }
    await this.#rewrite();
    return stateOf(this.#live);
  }

  setSelf(self: JournalSelf): void {
    this.#set('self', self);
  }

  setManagers(managers: readonly string[]): void {
    this.#set('managers', managers);
  }

  put(item: AssignmentItem): void {
    this.#set(assignmentKey(item), storedItem(item));
  }

  setStatus(taskId: string, status: TaskStatus): void {
    this.#set(`status/${taskId}`, status);
  }

  remove(key: string): void {
    this.#set(key, null);
    if (key.startsWith('task/')) this.#set(key.replace('task/', 'status/'), null);
  }

  async flush(): Promise<void> {
    this.#timer?.cancel();
    this.#timer = undefined;
    await this.#writing;
    if (this.#pending.size > 0) await this.#write();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    await this.flush();
    this.#closed = true;
    await this.#file?.close();
  }

  #set(key: string, value: unknown): void {
    if (this.#closed) return;
    if (value === null) {
      if (!this.#live.delete(key)) return;
    } else {
      this.#live.set(key, value);
    }
    this.#pending.set(key, value);
    this.#writeLater(WRITE_DELAY_MS);
  }

  #writeLater(delayMs: number): void {
    if (this.#timer !== undefined || this.#writing !== undefined || this.#closed) return;
    this.#timer = this.#clock.afterIdle(delayMs, () => {
      this.#timer = undefined;
      this.#write().catch((error: unknown) => {
        this.#log.error('agent journal cannot be written', {
          file: this.#path,
          error: messageOf(error),
        });
        this.#writeLater(RETRY_MS);
      });
    });
  }

  #write(): Promise<void> {
    const batch = [...this.#pending];
    this.#pending.clear();
    this.#writing = this.#append(batch).then(
      () => {
        this.#writing = undefined;
        if (this.#pending.size > 0) this.#writeLater(WRITE_DELAY_MS);
      },
      (error: unknown) => {
        this.#writing = undefined;
        for (const [key, value] of batch) {
          if (!this.#pending.has(key)) this.#pending.set(key, value);
        }
        throw error; // when it is tried again is the caller's to say
      },
    );
    return this.#writing;
  }

  async #append(batch: readonly Line[]): Promise<void> {
    if (this.#file === undefined || this.#appended > Math.max(APPENDED_BYTES, this.#written)) {
      await this.#rewrite();
      return;
    }
    const text = batch.map(encodeLine).join('');
    try {
      await this.#file.appendFile(text);
      await this.#file.datasync();
      this.#appended += text.length;
    } catch (error) {
      // How much of the batch arrived is unknown: the next write makes the file anew.
      const broken = this.#file;
      this.#file = undefined;
      await broken.close();
      throw error;
    }
  }

  async #rewrite(): Promise<void> {
    const text = [...this.#live].map(encodeLine).join('');
    const temporary = `${this.#path}.new`;
    const file = await open(temporary, 'w', FILE_MODE);
    try {
      await file.writeFile(text);
      await file.datasync();
      await rename(temporary, this.#path);
      await syncDirectory(this.#directory);
    } catch (error) {
      await file.close();
      throw error;
    }
    await this.#file?.close();
    this.#file = file;
    this.#written = text.length;
    this.#appended = 0;
  }
}

/** As the wire has it, so that what an older version wrote gets defaults when it is read. */
interface StoredItem {
  readonly kind: AssignmentItem['kind'];
  readonly encoded: string;
}

/** Without what opens a registry: that is for the managers' sealed disks only. */
function storedItem(item: AssignmentItem): StoredItem {
  const { kind } = item;
  if (kind !== 'task') return { kind, encoded: base64(encodeItem(item)) };
  const { task } = item;
  const container = { ...task.spec.container, registryAuth: '' };
  const bare = { ...task, spec: { ...task.spec, container } };
  return { kind, encoded: base64(encodeObject('task', bare)) };
}

/** undefined = in a form that is not read any more: the manager sends it again. */
function loadedItem(stored: AssignmentItem | StoredItem): AssignmentItem | undefined {
  if (!('encoded' in stored)) {
    // The first version wrote JSON: what networks and ports have got since then has a default.
    if (stored.kind === 'task') return undefined;
    return decodeItem(encodeItem(stored));
  }
  const bytes = Buffer.from(stored.encoded, 'base64');
  if (stored.kind !== 'task') return decodeItem(bytes);
  const decoded = decodeObject(bytes);
  return decoded.table === 'task' ? { kind: 'task', task: decoded.object } : undefined;
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}

function encodeLine(line: Line): string {
  return `${JSON.stringify(line)}\n`;
}

async function readIfThere(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return '';
    throw error;
  }
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** The lines of a journal's text; what follows the last newline was torn and is left out. */
export function parseJournal(text: string, path: string): readonly Line[] {
  const lines = text.split('\n').slice(0, -1);
  return lines.map((line, at) => {
    try {
      const parsed: unknown = JSON.parse(line);
      if (Array.isArray(parsed) && parsed.length === 2 && typeof parsed[0] === 'string') {
        return [parsed[0], parsed[1]] as const;
      }
    } catch {
      // Falls through to the refusal, which names file and line.
    }
    throw new SwarmError(
      'corrupt',
      `${path} line ${at + 1} is damaged: restore the file, or remove it and rejoin this node`,
    );
  });
}

function stateOf(live: ReadonlyMap<string, unknown>): JournalState {
  const items: AssignmentItem[] = [];
  const statuses = new Map<string, TaskStatus>();
  for (const [key, value] of live) {
    if (key.startsWith('status/')) statuses.set(key.slice('status/'.length), value as TaskStatus);
    else if (key !== 'self' && key !== 'managers') {
      const item = loadedItem(value as AssignmentItem | StoredItem);
      if (item !== undefined) items.push(item);
    }
  }
  return {
    self: live.get('self') as JournalSelf | undefined,
    managers: (live.get('managers') as readonly string[] | undefined) ?? [],
    items,
    statuses,
  };
}
