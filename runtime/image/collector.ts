/**
 * Takes images away that nobody uses: those a user says so of (prune), or a policy (garbage.ts).
 * Knows who uses an image (containers hold it) and when it was last used; the latter is noted in
 * the catalog now and then. Removes names and records; what they needed is the store's sweep's.
 */
import type { Clock } from '../../base/clock.ts';
import { HOUR_MS } from '../../base/duration.ts';
import type { BlobStore } from './blobs.ts';
import type { Catalog, CatalogDraft, ImageRecord } from './catalog.ts';
import { garbage } from './garbage.ts';
import type { LayerStore } from './layers.ts';
import { familiarReference } from './reference.ts';
import type { GarbagePolicy, Image, ImagePruned, ImageRemoval } from './types.ts';
import { freedBy } from './usage.ts';

/** How old the catalog's note of a use may be. */
const NOTE_MS = HOUR_MS;

export class Collector {
  readonly #catalog: Catalog;
  readonly #layers: LayerStore;
  readonly #blobs: BlobStore;
  readonly #clock: Clock;
  readonly #openedAtMs: number;
  readonly #usedAtMs = new Map<string, number>();
  /** Image id -> containers that use it. */
  readonly #holds = new Map<string, Set<string>>();

  constructor(catalog: Catalog, layers: LayerStore, blobs: BlobStore, clock: Clock) {
    this.#catalog = catalog;
    this.#layers = layers;
    this.#blobs = blobs;
    this.#clock = clock;
    this.#openedAtMs = clock.wallMs();
  }

  /** Containers that use it. */
  users(imageId: string): readonly string[] {
    return [...(this.#holds.get(imageId) ?? [])];
  }

  isHeld(imageId: string): boolean {
    return this.#holds.has(imageId);
  }

  used(imageId: string): void {
    this.#usedAtMs.set(imageId, this.#clock.wallMs());
  }

  /** Returns the release, which tells `released` when nobody else uses it. */
  hold(imageId: string, containerId: string, released: () => void): () => void {
    const users = this.#holds.get(imageId) ?? new Set<string>();
    this.#holds.set(imageId, users.add(containerId));
    return () => {
      if (!users.delete(containerId) || users.size > 0) return;
      if (this.#holds.get(imageId) === users) this.#holds.delete(imageId);
      this.used(imageId);
      released();
    };
  }

  prune(unwanted: (image: Image) => boolean): Promise<Collected> {
    return this.#remove((record) => unwanted(this.#catalog.toImage(record)));
  }

  async collect(policy: GarbagePolicy): Promise<Collected> {
    const records = [...this.#catalog.state.images.values()];
    const sizes = new Map<string, number>();
    for (const digest of new Set(records.flatMap(({ blobs }) => blobs))) {
      sizes.set(digest, (await this.#blobs.sizeBytes(digest)) ?? 0);
    }
    const facts = {
      isHeld: (id: string) => this.isHeld(id),
      isNamed: (id: string) => this.#catalog.tagsOf(id).length > 0,
      usedAtMs: (record: ImageRecord) => this.#lastUse(record),
      layerBytes: (diffId: string) => this.#layers.facts(diffId)?.sizeBytes ?? 0,
      blobBytes: (digest: string) => sizes.get(digest) ?? 0,
    };
    const chosen = garbage(records, policy, facts, this.#clock.wallMs());
    const doomed = new Map(chosen.map((record) => [record.id, this.#lastUse(record)]));
    const stale = records.some((record) => this.#noteIsOld(record) && !doomed.has(record.id));
    if (doomed.size === 0 && !stale) return NOTHING;
    // One that was used since then stays.
    return this.#remove((record) => doomed.get(record.id) === this.#lastUse(record));
  }

  /** Where nothing was noted: since this process began. */
  #lastUse({ id, usedAtMs = this.#openedAtMs, taggedAtMs = 0 }: ImageRecord): number {
    return Math.max(this.#usedAtMs.get(id) ?? 0, usedAtMs, taggedAtMs);
  }

  #noteIsOld(record: ImageRecord): boolean {
    const used = this.isHeld(record.id) ? this.#clock.wallMs() : this.#lastUse(record);
    return used - (record.usedAtMs ?? 0) >= NOTE_MS;
  }

  async #remove(isWanted: (record: ImageRecord) => boolean): Promise<Collected> {
    const removed: ImageRemoval[] = [];
    const gone = await this.#catalog.change((draft) => {
      const doomed = [...draft.images.values()].filter(
        (record) => !record.doomed && !this.isHeld(record.id) && isWanted(record),
      );
      for (const record of doomed) this.#drop(draft, record, removed);
      for (const record of draft.images.values()) {
        if (!this.#noteIsOld(record)) continue;
        const usedAtMs = this.isHeld(record.id) ? this.#clock.wallMs() : this.#lastUse(record);
        draft.images.set(record.id, { ...record, usedAtMs });
      }
      return doomed;
    });
    for (const { id } of gone) this.#usedAtMs.delete(id);
    const freed = freedBy(gone, [...this.#catalog.state.images.values()]);
    for (const diffId of freed.diffIds) removed.push({ deleted: diffId });
    let reclaimedBytes = 0;
    for (const diffId of freed.diffIds) {
      reclaimedBytes += this.#layers.facts(diffId)?.sizeBytes ?? 0;
    }
    for (const digest of freed.blobs) reclaimedBytes += (await this.#blobs.sizeBytes(digest)) ?? 0;
    return { ids: gone.map(({ id }) => id), pruned: { removed, reclaimedBytes } };
  }

  #drop(draft: CatalogDraft, record: ImageRecord, removed: ImageRemoval[]): void {
    for (const tag of this.#catalog.tagsOf(record.id)) {
      draft.tags.delete(tag);
      removed.push({ untagged: familiarReference(tag) });
    }
    for (const name of record.pulledAs) removed.push({ untagged: familiarReference(name) });
    draft.images.delete(record.id);
    removed.push({ deleted: record.id });
  }
}

export interface Collected {
  readonly ids: readonly string[];
  readonly pruned: ImagePruned;
}

const NOTHING: Collected = { ids: [], pruned: { removed: [], reclaimedBytes: 0 } };
