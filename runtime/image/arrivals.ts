/**
 * How images come into the store: content is taken apart or fetched, layers are unpacked, and the
 * catalog names the images last, all of them or none. What a failed arrival leaves behind is swept
 * by the store, which lends its lease for each arrival.
 */
import { statfs } from 'node:fs/promises';
import type { Clock } from '../../base/clock.ts';
import { SwarmError } from '../../base/errors.ts';
import { readArchive } from './archive.ts';
import type { BlobStore } from './blobs.ts';
import { type Catalog, type ImageRecord, mergeRecord } from './catalog.ts';
import { committedConfig, importConfig } from './changes.ts';
import type { Ingested, IngestJob, Jobs } from './jobs.ts';
import type { LayerStore } from './layers.ts';
import { OCI_LAYER, parseConfig, parseManifest, writeManifest } from './manifest.ts';
import { shortDigest } from './reference.ts';
import type { CommitOptions, Image, ImportOptions, LoadedImage, Tell } from './types.ts';

/** An image whose blobs are in place. */
export interface Arrived {
  readonly id: string;
  readonly manifest: string;
  readonly root: string;
  readonly layers: readonly { readonly digest: string; readonly sizeBytes: number }[];
  readonly blobs: readonly string[];
  readonly tags: readonly string[];
  readonly pulledAs: readonly string[];
}

/** Below this the daemon's own state would be next to suffer. */
const MIN_FREE_BYTES = 16 * 1024 * 1024;

/** A tar of no entries: what a container that wrote nothing has for a layer. */
const EMPTY_TAR = 'sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef';

export interface ArrivalParts {
  readonly directory: string;
  readonly clock: Clock;
  readonly catalog: Catalog;
  readonly blobs: BlobStore;
  readonly layers: LayerStore;
  readonly jobs: Jobs;
}

export class Arrivals {
  readonly #parts: ArrivalParts;

  constructor(parts: ArrivalParts) {
    this.#parts = parts;
  }

  async load(tar: AsyncIterable<Uint8Array>, tell: Tell): Promise<LoadedImage[]> {
    const { blobs } = this.#parts;
    return this.#ingested('archive', tar, async (ingested) => {
      const found = await readArchive(ingested);
      if (found.length === 0) {
        throw new SwarmError('invalid', 'the archive holds no image for this host');
      }
      const arrived: Arrived[] = [];
      for (const image of found) {
        for (const blob of image.blobs) await blobs.adopt(blob.file, blob.digest);
        await blobs.put(image.manifest.bytes);
        arrived.push({
          id: image.id,
          manifest: image.manifest.digest,
          root: image.root,
          layers: image.layers,
          blobs: [...new Set([image.manifest.digest, ...image.blobs.map((blob) => blob.digest)])],
          tags: image.names,
          pulledAs: [],
        });
      }
      const images = await this.addAll(arrived, tell);
      return images.map((image, at) => ({ ...image, loadedAs: arrived[at].tags }));
    });
  }

  /** `tags`: full references. */
  async import(
    tar: AsyncIterable<Uint8Array>,
    tags: readonly string[],
    changes: readonly string[],
    options: ImportOptions,
  ): Promise<Image> {
    const { blobs, layers } = this.#parts;
    importConfig(`sha256:${'0'.repeat(64)}`, 0, changes); // refuses bad changes before the work
    return this.#ingested('raw', tar, async ({ files }) => {
      const [layer] = files;
      await blobs.adopt(layer.path, layer.digest);
      // The newest file's time, not now: the same file system is the same image on every host.
      const facts = await layers.ensure(layer.digest, blobs.path(layer.digest), false);
      const config = importConfig(layer.digest, facts.newestMs, changes, options);
      const id = await blobs.put(config);
      const manifest = await blobs.put(
        writeManifest({ digest: id, sizeBytes: config.byteLength }, [
          { ...layer, mediaType: OCI_LAYER },
        ]),
      );
      const arrived: Arrived = {
        id,
        manifest,
        root: manifest,
        layers: [layer],
        blobs: [manifest, id, layer.digest],
        tags,
        pulledAs: [],
      };
      return (await this.addAll([arrived], () => {}))[0];
    });
  }

  /** What `base` is and one layer more; a layer of nothing is only told of. `tags`: as import. */
  async commit(
    base: ImageRecord,
    tar: AsyncIterable<Uint8Array>,
    tags: readonly string[],
    options: CommitOptions,
  ): Promise<Image> {
    const { blobs, clock } = this.#parts;
    const configuration = await blobs.readDocument(base.id);
    const nowMs = clock.wallMs();
    // Refuses bad changes before the work.
    committedConfig(configuration, undefined, nowMs, options);
    return this.#ingested('raw', tar, async ({ files }) => {
      const [layer] = files;
      const isEmpty = layer.digest === EMPTY_TAR;
      if (!isEmpty) await blobs.adopt(layer.path, layer.digest);
      const diffId = isEmpty ? undefined : layer.digest;
      const config = committedConfig(configuration, diffId, nowMs, options);
      const id = await blobs.put(config);
      const below = parseManifest(await blobs.readDocument(base.manifest));
      if (below.kind !== 'manifest') {
        throw new SwarmError('corrupt', `image ${base.id} has no manifest of its own`);
      }
      const layers = [...below.layers, ...(isEmpty ? [] : [{ ...layer, mediaType: OCI_LAYER }])];
      const manifest = await blobs.put(
        writeManifest({ digest: id, sizeBytes: config.byteLength }, layers),
      );
      const arrived: Arrived = {
        id,
        manifest,
        root: manifest,
        layers,
        blobs: [...new Set([manifest, id, ...layers.map(({ digest }) => digest)])],
        tags,
        pulledAs: [],
      };
      return (await this.addAll([arrived], () => {}))[0];
    });
  }

  async #ingested<T>(
    as: IngestJob['as'],
    source: AsyncIterable<Uint8Array>,
    use: (ingested: Ingested) => Promise<T>,
  ): Promise<T> {
    const { blobs, jobs } = this.#parts;
    const scratch = await blobs.scratch();
    try {
      const job: IngestJob = { kind: 'ingest', as, directory: scratch.directory };
      return await use(await jobs.ingest(job, source));
    } finally {
      await scratch.remove();
    }
  }

  /**
   * Unpacks what is missing and names the images, all of them or none. With `unsyncedBoot` they are
   * noted as not on disk yet, unless one was here before: what is added to that is waited for, so
   * that it is not lost with what is added. Without, all are on disk.
   */
  async addAll(
    arrived: readonly Arrived[],
    tell: Tell,
    more: { readonly signal?: AbortSignal | undefined; readonly unsyncedBoot?: string } = {},
  ): Promise<Image[]> {
    const { blobs, layers, catalog, clock, jobs, directory } = this.#parts;
    const records: ImageRecord[] = [];
    for (const image of arrived) {
      const { config, diffIds } = parseConfig(await blobs.readDocument(image.id));
      const layerBlobs = image.layers.map((layer) => layer.digest);
      await this.unpackAll(diffIds, layerBlobs, tell, { signal: more.signal, durable: false });
      const sizes = diffIds.map((diffId) => layers.facts(diffId)?.sizeBytes ?? 0);
      records.push({
        id: image.id,
        manifest: image.manifest,
        roots: [image.root],
        pulledAs: image.pulledAs,
        config,
        sizeBytes: sizes.reduce((sum, bytes) => sum + bytes, 0),
        diffIds,
        layers: layerBlobs,
        blobs: image.blobs,
        doomed: false,
      });
    }
    const isAddition = (record: ImageRecord): boolean => {
      const known = catalog.state.images.get(record.id);
      return known !== undefined && known.unsyncedBoot === undefined && !isOnDisk(known, record);
    };
    const mayWait = more.unsyncedBoot !== undefined && !records.some(isAddition);
    if (!mayWait) await jobs.sync(directory);
    await catalog.change((draft) => {
      records.forEach((record, at) => {
        const { tags } = arrived[at];
        const before = draft.images.get(record.id);
        const isSynced = !mayWait || isOnDisk(before, record);
        const isNamed = tags.some((tag) => draft.tags.get(tag) !== record.id);
        const { unsyncedBoot: _, ...merged } = mergeRecord(before, record);
        const taggedAtMs = isNamed ? clock.wallMs() : merged.taggedAtMs;
        draft.images.set(record.id, {
          ...merged,
          ...(taggedAtMs === undefined ? {} : { taggedAtMs }),
          ...(isSynced ? {} : { unsyncedBoot: more.unsyncedBoot }),
        });
        for (const tag of tags) draft.tags.set(tag, record.id);
      });
    });
    return records.map((record) => catalog.toImage(catalog.state.images.get(record.id) ?? record));
  }

  async unpackAll(
    diffIds: readonly string[],
    blobs: readonly string[],
    tell: Tell,
    more: { readonly signal?: AbortSignal | undefined; readonly durable: boolean },
  ): Promise<void> {
    const missing = diffIds
      .map((diffId, at) => ({ diffId, digest: blobs[at] }))
      .filter(({ diffId }) => this.#parts.layers.facts(diffId) === undefined);
    const outcomes = await Promise.allSettled(
      missing.map(async ({ diffId, digest }) => {
        if (more.signal?.aborted === true) throw new SwarmError('cancelled', 'it was cancelled');
        await this.unpack(diffId, digest, tell, more.durable);
      }),
    );
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
  }

  /** Whether the layer is here, unpacked and as it was packed. */
  async isReady(diffId: string, digest: string): Promise<boolean> {
    const { blobs, layers } = this.#parts;
    return layers.facts(diffId) !== undefined && (await blobs.has(digest));
  }

  async unpack(diffId: string, digest: string, tell: Tell, durable: boolean): Promise<void> {
    const { blobs, layers } = this.#parts;
    const id = shortDigest(digest);
    if (layers.facts(diffId) === undefined) {
      const totalBytes = await blobs.sizeBytes(digest);
      if (totalBytes === undefined) {
        throw new SwarmError('corrupt', `${blobs.path(digest)} is missing: get the image again`);
      }
      tell({ id, status: 'Extracting', currentBytes: 0, totalBytes });
      await layers.ensure(diffId, blobs.path(digest), durable, (currentBytes) =>
        tell({ id, status: 'Extracting', currentBytes, totalBytes }),
      );
    }
    tell({ id, status: 'Pull complete' });
  }

  async checkSpace(): Promise<void> {
    const { directory } = this.#parts;
    const { bavail, bsize } = await statfs(directory);
    if (bavail * bsize >= MIN_FREE_BYTES) return;
    throw new SwarmError(
      'exhausted',
      `less than 16 MiB are left on the disk of ${directory}: free some (tsswarm image rm) ` +
        'and try again',
    );
  }
}

/** All that `fresh` needs was here before, and has been synchronised. */
function isOnDisk(known: ImageRecord | undefined, fresh: ImageRecord): boolean {
  if (known === undefined || known.unsyncedBoot !== undefined) return false;
  return fresh.blobs.every((digest) => known.blobs.includes(digest));
}
