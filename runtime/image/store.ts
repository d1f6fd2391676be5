/**
 * One host's images: joins the content store, the unpacked layers and the catalog. The order of
 * every arrival is blobs, then layers, then catalog, and of every removal catalog first; so at any
 * moment, also after kill -9, the catalog names only what is whole, and what it does not name is
 * swept. The daemon's lock on the data root keeps other processes out; this file relies on it.
 */
import { statfs } from 'node:fs/promises';
import path from 'node:path';
import type { Clock } from '../../base/clock.ts';
import { SwarmError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { readArchive } from './archive.ts';
import { BlobStore } from './blobs.ts';
import { Catalog, type ImageRecord, mergeRecord } from './catalog.ts';
import { importConfig } from './changes.ts';
import { diskError, ensureDirectory } from './disk.ts';
import { type Ingested, type IngestJob, Jobs } from './jobs.ts';
import { LayerStore } from './layers.ts';
import { Leases } from './leases.ts';
import { parseConfig, writeManifest } from './manifest.ts';
import { Puller, shortId } from './pull.ts';
import {
  DEFAULT_TAG,
  familiarReference,
  formatReference,
  parseReference,
  type Reference,
  repositoryOf,
  withDefaultTag,
} from './reference.ts';
import { applyRemoval, describeRemoval, noSuchImage, planRemoval } from './removal.ts';
import { saveArchive } from './save.ts';
import type { Image, ImageProgress, ImageRemoval, ImageStore, PullOptions } from './types.ts';

export interface ImageStoreOptions {
  /** The daemon's; images lie in its directory image/. */
  readonly dataRoot: string;
  readonly clock: Clock;
  readonly log: Log;
  /** 'host[:port]' of registries that may be spoken to without TLS, besides loopback. */
  readonly insecureRegistries?: readonly string[];
  /** Registry certificates: <caDir>/<host[:port]>/*.crt. */
  readonly caDir?: string;
}

/** An image whose blobs are in place. */
interface Arrived {
  readonly id: string;
  readonly manifest: string;
  readonly root: string;
  readonly layers: readonly { readonly digest: string; readonly sizeBytes: number }[];
  readonly blobs: readonly string[];
  readonly tags: readonly string[];
  readonly pulledAs: readonly string[];
}

type Tell = (progress: ImageProgress) => void;

/** Below this the daemon's own state would be next to suffer. */
const MIN_FREE_BYTES = 16 * 1024 * 1024;

/**
 * Opens (or makes) the store and clears away what a crash left. SwarmError corrupt, naming the
 * file, when its catalog cannot be read.
 */
export async function openImageStore(options: ImageStoreOptions): Promise<ImageStore> {
  const directory = path.join(path.resolve(options.dataRoot), 'image');
  await ensureDirectory(directory);
  const catalog = await Catalog.open(directory);
  const blobs = await BlobStore.open(directory);
  const jobs = new Jobs(options.clock);
  const layers = await LayerStore.open(directory, jobs, options.log);
  const store = new Store(directory, options, catalog, blobs, layers, jobs);
  await store.sweep();
  return store;
}

class Store implements ImageStore {
  readonly #directory: string;
  readonly #log: Log;
  readonly #catalog: Catalog;
  readonly #blobs: BlobStore;
  readonly #layers: LayerStore;
  readonly #jobs: Jobs;
  readonly #puller: Puller;
  readonly #leases = new Leases();
  /** Image id -> containers that use it. */
  readonly #holds = new Map<string, Set<string>>();

  constructor(
    directory: string,
    options: ImageStoreOptions,
    catalog: Catalog,
    blobs: BlobStore,
    layers: LayerStore,
    jobs: Jobs,
  ) {
    this.#directory = directory;
    this.#log = options.log;
    this.#catalog = catalog;
    this.#blobs = blobs;
    this.#layers = layers;
    this.#jobs = jobs;
    this.#puller = new Puller({
      blobs,
      clock: options.clock,
      insecureRegistries: options.insecureRegistries ?? [],
      caDir: options.caDir,
    });
  }

  list(): readonly Image[] {
    return [...this.#catalog.state.images.values()]
      .filter((record) => !record.doomed)
      .sort((left, right) => right.config.createdAtMs - left.config.createdAtMs)
      .map((record) => this.#catalog.toImage(record));
  }

  find(reference: string): Image | undefined {
    const record = this.#catalog.find(reference);
    return record === undefined ? undefined : this.#catalog.toImage(record);
  }

  async layers(imageId: string): Promise<readonly string[]> {
    const record = this.#record(imageId);
    if (record.diffIds.some((diffId) => this.#layers.facts(diffId) === undefined)) {
      await this.#leases.during(() => this.#unpackAll(record.diffIds, record.layers, () => {}));
    }
    const hiding = record.diffIds.findLastIndex(
      (diffId) => this.#layers.facts(diffId)?.opaqueRoot === true,
    );
    // overlayfs refuses one directory twice; of a repeated layer the topmost is all that shows.
    const shown = record.diffIds
      .slice(Math.max(hiding, 0))
      .filter((diffId, at, all) => all.lastIndexOf(diffId) === at);
    return shown.map((diffId) => this.#layers.path(diffId));
  }

  load(tar: AsyncIterable<Uint8Array>, onProgress: Tell = () => {}): Promise<Image[]> {
    return this.#arrive(async () => {
      await this.#checkSpace();
      return this.#ingested('archive', tar, async (ingested) => {
        const found = await readArchive(ingested);
        if (found.length === 0) {
          throw new SwarmError('invalid', 'the archive holds no image for this host');
        }
        const arrived: Arrived[] = [];
        for (const image of found) {
          for (const blob of image.blobs) await this.#blobs.adopt(blob.file, blob.digest);
          await this.#blobs.put(image.manifest.bytes);
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
        return this.#addAll(arrived, onProgress);
      });
    });
  }

  import(
    tar: AsyncIterable<Uint8Array>,
    reference: string,
    changes: readonly string[] = [],
  ): Promise<Image> {
    return this.#arrive(async () => {
      const tags = reference === '' ? [] : [fullTag(tagOnly(reference))];
      importConfig(`sha256:${'0'.repeat(64)}`, 0, changes); // refuses bad changes before the work
      await this.#checkSpace();
      return this.#ingested('raw', tar, async ({ files }) => {
        const [layer] = files;
        await this.#blobs.adopt(layer.path, layer.digest);
        // The newest file's time, not now: the same file system is the same image on every host.
        const facts = await this.#layers.ensure(layer.digest, this.#blobs.path(layer.digest));
        const config = importConfig(layer.digest, facts.newestMs, changes);
        const id = await this.#blobs.put(config);
        const manifest = await this.#blobs.put(
          writeManifest({ digest: id, sizeBytes: config.byteLength }, [{ ...layer, gzip: false }]),
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
        return (await this.#addAll([arrived], () => {}))[0];
      });
    });
  }

  async pull(text: string, options: PullOptions = {}): Promise<Image> {
    const reference = withDefaultTag(parseReference(text));
    const tell = options.onProgress ?? (() => {});
    const before = this.#catalog.findReference(reference);
    if (before !== undefined && reference.digest !== undefined && !before.doomed) {
      tell({ id: '', status: `Status: Image is up to date for ${familiarReference(reference)}` });
      return this.#catalog.toImage(before);
    }
    return this.#arrive(async () => {
      await this.#checkSpace();
      const pulled = await this.#puller.pull(reference, options);
      const name = `${repositoryOf(reference)}@${pulled.root}`;
      const [image] = await this.#addAll(
        [
          {
            ...pulled,
            tags: reference.digest === undefined ? [fullTag(reference)] : [],
            pulledAs: [name],
          },
        ],
        tell,
        options.signal,
      );
      const fresh = before?.id === image.id ? 'Image is up to date' : 'Downloaded newer image';
      tell({ id: '', status: `Digest: ${pulled.root}` });
      tell({ id: '', status: `Status: ${fresh} for ${familiarReference(reference)}` });
      return image;
    });
  }

  async remove(reference: string, options: { force: boolean }): Promise<ImageRemoval[]> {
    const plan = await this.#catalog.change((draft) => {
      const id = this.#catalog.find(reference)?.id ?? '';
      const users = [...(this.#holds.get(id) ?? [])];
      const decided = planRemoval(this.#catalog, reference, options.force, users);
      applyRemoval(draft, decided);
      return decided;
    });
    const removed = describeRemoval(plan, this.#neededLayers());
    await this.#sweepIfFree();
    return removed;
  }

  async tag(source: string, target: string): Promise<void> {
    const record = this.#catalog.find(source);
    if (record === undefined) throw noSuchImage(source);
    const tag = fullTag(tagOnly(target));
    await this.#catalog.change((draft) => {
      const current = draft.images.get(record.id);
      if (current === undefined) throw noSuchImage(source);
      draft.tags.set(tag, record.id);
      draft.images.set(record.id, { ...current, doomed: false });
    });
  }

  save(references: readonly string[]): AsyncIterable<Uint8Array> {
    const images = references.map((text) => {
      const record = this.#catalog.find(text);
      if (record === undefined) throw noSuchImage(text);
      const tag = this.#catalog.tagsOf(record.id).find((name) => isNamed(name, text));
      return { record, tags: tag === undefined ? [] : [tag] };
    });
    return saveArchive(this.#blobs, images);
  }

  hold(imageId: string, containerId: string): () => void {
    const users = this.#holds.get(imageId) ?? new Set<string>();
    this.#holds.set(imageId, users.add(containerId));
    return () => {
      if (!users.delete(containerId) || users.size > 0) return;
      if (this.#holds.get(imageId) === users) this.#holds.delete(imageId);
      if (this.#catalog.state.images.get(imageId)?.doomed === true) void this.#dropDoomed();
    };
  }

  close(): Promise<void> {
    return this.#jobs.close();
  }

  /** Removes what the catalog does not name, when nothing is arriving. */
  sweep(): Promise<void> {
    return this.#leases.sweep(async () => {
      try {
        await this.#layers.removeExcept(this.#neededLayers());
        const needed = new Set(
          [...this.#catalog.state.images.values()].flatMap((record) => record.blobs),
        );
        for (const digest of await this.#blobs.list()) {
          if (!needed.has(digest)) await this.#blobs.remove(digest);
        }
      } catch (error) {
        this.#log.warn('some unused image data could not be removed', { error });
      }
    });
  }

  /** Waits for the sweep unless something is arriving: it follows then, once that has ended. */
  async #sweepIfFree(): Promise<void> {
    const swept = this.sweep();
    if (!this.#leases.busy) await swept;
  }

  #neededLayers(): Set<string> {
    return new Set([...this.#catalog.state.images.values()].flatMap((record) => record.diffIds));
  }

  async #dropDoomed(): Promise<void> {
    try {
      await this.#catalog.change((draft) => {
        for (const record of this.#catalog.state.images.values()) {
          if (record.doomed && !this.#holds.has(record.id)) draft.images.delete(record.id);
        }
      });
      await this.sweep();
    } catch (error) {
      this.#log.warn('an image removed by force could not be deleted yet', { error });
    }
  }

  #record(imageId: string): ImageRecord {
    const record = this.#catalog.state.images.get(imageId);
    if (record === undefined) throw noSuchImage(imageId);
    return record;
  }

  /** Runs work that brings content in; what it leaves behind when it fails is swept. */
  async #arrive<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await this.#leases.during(work);
    } catch (error) {
      await this.#sweepIfFree();
      throw diskError(error, this.#directory);
    }
  }

  async #ingested<T>(
    as: IngestJob['as'],
    source: AsyncIterable<Uint8Array>,
    use: (ingested: Ingested) => Promise<T>,
  ): Promise<T> {
    const scratch = await this.#blobs.scratch();
    try {
      const job: IngestJob = { kind: 'ingest', as, directory: scratch.directory };
      return await use(await this.#jobs.ingest(job, source));
    } finally {
      await scratch.remove();
    }
  }

  /** Unpacks what is missing and names the images, all of them or none. */
  async #addAll(arrived: readonly Arrived[], tell: Tell, signal?: AbortSignal): Promise<Image[]> {
    const records: ImageRecord[] = [];
    for (const image of arrived) {
      const { config, diffIds } = parseConfig(await this.#blobs.readDocument(image.id));
      const layers = image.layers.map((layer) => layer.digest);
      await this.#unpackAll(diffIds, layers, tell, signal);
      const sizes = diffIds.map((diffId) => this.#layers.facts(diffId)?.sizeBytes ?? 0);
      records.push({
        id: image.id,
        manifest: image.manifest,
        roots: [image.root],
        pulledAs: image.pulledAs,
        config,
        sizeBytes: sizes.reduce((sum, bytes) => sum + bytes, 0),
        diffIds,
        layers,
        blobs: image.blobs,
        doomed: false,
      });
    }
    await this.#catalog.change((draft) => {
      records.forEach((record, at) => {
        draft.images.set(record.id, mergeRecord(draft.images.get(record.id), record));
        for (const tag of arrived[at].tags) draft.tags.set(tag, record.id);
      });
    });
    return records.map((record) => this.#catalog.toImage(this.#record(record.id)));
  }

  async #unpackAll(
    diffIds: readonly string[],
    blobs: readonly string[],
    tell: Tell,
    signal?: AbortSignal,
  ): Promise<void> {
    for (const [at, diffId] of diffIds.entries()) {
      if (signal?.aborted === true) throw new SwarmError('cancelled', 'the pull was cancelled');
      const id = shortId(blobs[at]);
      if (this.#layers.facts(diffId) === undefined) {
        const totalBytes = await this.#blobs.sizeBytes(blobs[at]);
        if (totalBytes === undefined) {
          throw new SwarmError(
            'corrupt',
            `${this.#blobs.path(blobs[at])} is missing: get the image again`,
          );
        }
        tell({ id, status: 'Extracting', currentBytes: 0, totalBytes });
        await this.#layers.ensure(diffId, this.#blobs.path(blobs[at]), (currentBytes) =>
          tell({ id, status: 'Extracting', currentBytes, totalBytes }),
        );
      }
      tell({ id, status: 'Pull complete' });
    }
  }

  async #checkSpace(): Promise<void> {
    const { bavail, bsize } = await statfs(this.#directory);
    if (bavail * bsize >= MIN_FREE_BYTES) return;
    throw new SwarmError(
      'exhausted',
      `less than 16 MiB are left on the disk of ${this.#directory}: free some (tsswarm image rm) ` +
        'and try again',
    );
  }
}

function tagOnly(text: string): Reference {
  const reference = withDefaultTag(parseReference(text));
  if (reference.digest === undefined) return reference;
  throw new SwarmError('invalid', `"${text}" has a digest; a name to give has a tag at most`);
}

function fullTag(reference: Reference): string {
  return formatReference({ ...reference, tag: reference.tag ?? DEFAULT_TAG, digest: undefined });
}

function isNamed(tag: string, text: string): boolean {
  try {
    return formatReference(withDefaultTag(parseReference(text))) === tag;
  } catch {
    return false; // an image id is no name; find has accepted it already
  }
}
