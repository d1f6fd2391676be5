/**
 * Unpacked layers, one directory per uncompressed digest, shared by all images and containers that
 * have the layer: layers/<hex>/fs is an overlay lower directory, layers/<hex>/layer.json its facts.
 * A layer is unpacked into layers/.new-<n> by the worker thread and renamed when it is whole;
 * whiteouts concern lower layers only, so a layer's directory is the same under any image. Who asks
 * says whether it must be on disk then, or sees to that later.
 */
import { readdir, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import type { Log } from '../../base/log.ts';
import { diskError, ensureDirectory, syncDirectory } from './disk.ts';
import type { Jobs, LayerFacts } from './jobs.ts';
import { hexOf, isDigest } from './reference.ts';

const HEX_PATTERN = /^[a-f0-9]{64}$/;

export class LayerStore {
  readonly #directory: string;
  readonly #jobs: Jobs;
  readonly #log: Log;
  readonly #facts = new Map<string, LayerFacts>();
  readonly #underWay = new Map<string, Promise<LayerFacts>>();
  #lastTemporary = 0;

  private constructor(directory: string, jobs: Jobs, log: Log) {
    this.#directory = path.join(directory, 'layers');
    this.#jobs = jobs;
    this.#log = log;
  }

  /** Finds the whole layers under `directory`/layers and removes leftovers. */
  static async open(directory: string, jobs: Jobs, log: Log): Promise<LayerStore> {
    const store = new LayerStore(directory, jobs, log);
    await ensureDirectory(store.#directory);
    for (const name of await readdir(store.#directory)) {
      const facts = HEX_PATTERN.test(name) ? await store.#readFacts(name) : undefined;
      if (facts !== undefined) store.#facts.set(facts.diffId, facts);
      else await rm(path.join(store.#directory, name), { recursive: true, force: true });
    }
    return store;
  }

  /** undefined when not unpacked. */
  facts(diffId: string): LayerFacts | undefined {
    return this.#facts.get(diffId);
  }

  /** The directory to mount; absolute. */
  path(diffId: string): string {
    return path.join(this.#directory, hexOf(diffId), 'fs');
  }

  /**
   * Unpacks the layer from its blob unless it is there; two callers share one unpacking. SwarmError
   * corrupt when the content is not `diffId`'s, invalid for a hostile layer, exhausted: disk full.
   */
  ensure(
    diffId: string,
    blobPath: string,
    durable: boolean,
    onProgress: (currentBytes: number) => void = () => {},
  ): Promise<LayerFacts> {
    const there = this.#facts.get(diffId);
    if (there !== undefined) return Promise.resolve(there);
    let running = this.#underWay.get(diffId);
    if (running === undefined) {
      running = this.#unpack(diffId, blobPath, durable, onProgress).finally(() =>
        this.#underWay.delete(diffId),
      );
      this.#underWay.set(diffId, running);
    }
    return running;
  }

  /** Removes all layers but `kept`; returns the diff ids removed. */
  async removeExcept(kept: ReadonlySet<string>): Promise<string[]> {
    const removed = [...this.#facts.keys()].filter((diffId) => !kept.has(diffId));
    for (const diffId of removed) {
      this.#facts.delete(diffId);
      const doomed = this.#temporary();
      await rename(path.join(this.#directory, hexOf(diffId)), doomed);
      await rm(doomed, { recursive: true, force: true });
    }
    return removed;
  }

  async #unpack(
    diffId: string,
    blobPath: string,
    durable: boolean,
    onProgress: (currentBytes: number) => void,
  ): Promise<LayerFacts> {
    const directory = this.#temporary();
    try {
      const facts = await this.#jobs.unpack(
        { kind: 'unpack', blobPath, diffId, directory, durable },
        onProgress,
      );
      await rename(directory, path.join(this.#directory, hexOf(diffId)));
      if (durable) await syncDirectory(this.#directory);
      this.#facts.set(diffId, facts);
      return facts;
    } catch (error) {
      await rm(directory, { recursive: true, force: true });
      throw diskError(error, this.#directory);
    }
  }

  #temporary(): string {
    this.#lastTemporary += 1;
    return path.join(this.#directory, `.new-${this.#lastTemporary}`);
  }

  async #readFacts(hex: string): Promise<LayerFacts | undefined> {
    const file = path.join(this.#directory, hex, 'layer.json');
    try {
      const facts = JSON.parse(await readFile(file, 'utf8')) as LayerFacts;
      if (isDigest(facts.diffId) && hexOf(facts.diffId) === hex) return facts;
      this.#log.warn('a layer describes another one; it will be unpacked again', { file });
    } catch (error) {
      this.#log.warn('a layer is damaged; it will be unpacked again', { file, error });
    }
    return undefined;
  }
}
