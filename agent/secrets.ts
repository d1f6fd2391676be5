/**
 * The secrets and configs that tasks of this node need: held in memory from the assignment that
 * brings them to the one that takes them back, and given to a container as files on a tmpfs of its
 * own. Never written to a disk, a log or the journal; so after a restart of the daemon a task that
 * must be made anew waits until a manager has sent them again.
 */
import { join } from 'node:path/posix';
import type { Clock } from '../base/clock.ts';
import { SwarmError } from '../base/errors.ts';
import { Signal } from '../base/queue.ts';
import type { AssignmentItem, DataAssignment } from '../model/assignment.ts';
import { SECRETS_DIRECTORY, targetPath } from '../model/data.ts';
import type { ContainerSpec, DataTable, FileReference } from '../model/types.ts';
import type { MemoryFile, MemoryFiles } from '../runtime/container/memoryFiles.ts';
import type { ContainerMount } from '../runtime/container/types.ts';
import { expand, expandPayload, type TemplateContext } from './template.ts';

/** Once a manager has said what is assigned, what is missing comes within this or not at all. */
export const DATA_READY_MS = 10_000;
/** While no manager has: looked at again this often, besides at every change. */
const LOOK_MS = 1000;

const SECRETS = 'secrets';
const FILES = 'files';

export interface SecretsOptions {
  readonly clock: Clock;
  readonly memoryFiles: MemoryFiles;
}

interface Needed {
  readonly table: DataTable;
  readonly reference: FileReference;
}

function neededBy(spec: ContainerSpec): readonly Needed[] {
  const of = (table: DataTable, references: readonly FileReference[]): readonly Needed[] =>
    references.map((reference) => ({ table, reference }));
  return [...of('secret', spec.secrets), ...of('config', spec.configs)];
}

export class Secrets {
  readonly #clock: Clock;
  readonly #memoryFiles: MemoryFiles;
  readonly #held = new Map<string, DataAssignment>();
  readonly #changed = new Signal();
  #isComplete = false;

  constructor(options: SecretsOptions) {
    this.#clock = options.clock;
    this.#memoryFiles = options.memoryFiles;
  }

  apply(item: Extract<AssignmentItem, { kind: DataTable }>): void {
    this.#held.set(`${item.kind}/${item.data.id}`, item.data);
    this.#changed.emit();
  }

  /** By the item's key. */
  forget(key: string): void {
    this.#held.delete(key);
  }

  /** A manager has told everything that is assigned. */
  complete(): void {
    this.#isComplete = true;
    this.#changed.emit();
  }

  /**
   * The mounts that give a container its files; none when it needs none. Waits for what has not
   * come yet. SwarmError not_found when it is known not to come, cancelled, invalid (a template).
   */
  async mounts(
    containerId: string,
    spec: ContainerSpec,
    context: TemplateContext,
    signal: AbortSignal,
  ): Promise<readonly ContainerMount[]> {
    const needed = neededBy(spec);
    if (needed.length === 0) return [];
    await this.#arrived(needed, signal);
    const files = needed.map((item, at) => this.#file(item, at, spec, context));
    const directory = this.#memoryFiles.make(containerId, files);
    const mounts = new Map<string, ContainerMount>();
    for (const [at, { table, reference }] of needed.entries()) {
      const { path } = files[at];
      const inSecrets = path.startsWith(`${SECRETS}/`);
      const target = inSecrets ? SECRETS_DIRECTORY : targetPath(table, reference.target);
      const source = join(directory, inSecrets ? SECRETS : path);
      const shown = { readOnly: true, idMapped: true, copyable: true };
      mounts.set(target, { type: 'bind', source, target, ...shown });
    }
    return [...mounts.values()];
  }

  /** False for a container whose files went with a boot. */
  hasFiles(containerId: string, spec: ContainerSpec): boolean {
    return neededBy(spec).length === 0 || this.#memoryFiles.has(containerId);
  }

  /** The container has ended, or is gone. */
  release(containerId: string): void {
    this.#memoryFiles.drop(containerId);
  }

  /** What an earlier process left for containers that are not among `containerIds`. */
  sweep(containerIds: readonly string[]): void {
    const kept = new Set(containerIds);
    for (const id of this.#memoryFiles.ids()) if (!kept.has(id)) this.#memoryFiles.drop(id);
  }

  async #arrived(needed: readonly Needed[], signal: AbortSignal): Promise<void> {
    const wake = (): void => this.#changed.emit();
    signal.addEventListener('abort', wake, { once: true });
    try {
      let untilMs: number | undefined;
      for (;;) {
        const missing = needed.find((item) => this.#data(item) === undefined);
        if (missing === undefined) return;
        if (signal.aborted) throw new SwarmError('cancelled', 'stopped while it was prepared');
        const nowMs = this.#clock.nowMs();
        if (this.#isComplete) untilMs ??= nowMs + DATA_READY_MS;
        if (untilMs !== undefined && nowMs >= untilMs) {
          const { table, reference } = missing;
          throw new SwarmError(
            'not_found',
            `${table} not found: ${reference.name}: was it removed?`,
          );
        }
        const waitMs = untilMs === undefined ? LOOK_MS : untilMs - nowMs;
        await this.#changed.next(this.#clock, waitMs).catch(() => {
          // Nothing came meanwhile: the loop looks whether it may wait on.
        });
      }
    } finally {
      signal.removeEventListener('abort', wake);
    }
  }

  #data({ table, reference }: Needed): DataAssignment | undefined {
    return this.#held.get(`${table}/${reference.id}`);
  }

  #file(item: Needed, at: number, spec: ContainerSpec, context: TemplateContext): MemoryFile {
    const { table, reference } = item;
    const target = targetPath(table, reference.target);
    const below = `${SECRETS_DIRECTORY}/`;
    return {
      path: target.startsWith(below)
        ? join(SECRETS, target.slice(below.length))
        : join(FILES, String(at)),
      data: this.#content(item, spec, context),
      uid: Number(reference.uid),
      gid: Number(reference.gid),
      mode: reference.mode,
    };
  }

  #content(item: Needed, spec: ContainerSpec, context: TemplateContext): Uint8Array {
    const held = this.#data(item);
    if (held === undefined) throw new SwarmError('not_found', `${item.reference.name} was removed`);
    if (held.templating === '') return held.data;
    const named = (table: DataTable, target: string): Uint8Array | undefined => {
      const found = neededBy(spec).find(
        (each) => each.table === table && each.reference.target === target,
      );
      return found === undefined ? undefined : this.#data(found)?.data;
    };
    return expandPayload(held.data, `${item.table} ${held.name}`, context, {
      env: spec.env.map((entry) => expand(entry, 'env', context)),
      data: named,
    });
  }
}
