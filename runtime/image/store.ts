/**
 * One host's images: joins the content store, the unpacked layers and the catalog. The order of
 * every arrival is blobs, then layers, then catalog, and of every removal catalog first; so at any
 * moment, also after kill -9, the catalog names only what is whole, and what it does not name is
 * swept. The daemon's lock on the data root keeps other processes out; this file relies on it.
 */
import path from 'node:path';
import type { Clock } from '../../base/clock.ts';
import { SwarmError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { Signal } from '../../base/queue.ts';
import { Arrivals, type Arrived } from './arrivals.ts';
import { BlobStore } from './blobs.ts';
import { Catalog, type ImageRecord } from './catalog.ts';
import { type Collected, Collector } from './collector.ts';
import { diskError, ensureDirectory } from './disk.ts';
import { Jobs } from './jobs.ts';
import { LayerStore } from './layers.ts';
import { Leases } from './leases.ts';
import { parseManifest } from './manifest.ts';
import { Puller } from './pull.ts';
import { pushImage } from './push.ts';
import {
  DEFAULT_TAG,
  familiarReference,
  formatReference,
  parseReference,
  type Reference,
  repositoryOf,
  withDefaultTag,
} from './reference.ts';
import { NO_SETTINGS, RegistryHosts, type RegistrySettings } from './registryHosts.ts';
import { RemoteImages } from './remote.ts';
import { applyRemoval, describeRemoval, noSuchImage, planRemoval } from './removal.ts';
import { saveArchive } from './save.ts';
import type {
  CommitOptions,
  Distribution,
  GarbagePolicy,
  Image,
  ImageEvent,
  ImagePruned,
  ImageRemoval,
  ImageStore,
  ImageUsage,
  ImportOptions,
  LayerUse,
  LoadedImage,
  PullOptions,
  PushedImage,
  RegistryAuth,
  ResolveOptions,
  Tell,
  TransferOptions,
} from './types.ts';
import { Unsynced } from './unsynced.ts';
import { imageUsage } from './usage.ts';

export interface ImageStoreOptions {
  /** The daemon's; images lie in its directory image/. */
  readonly dataRoot: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly registries?: RegistrySettings;
  /** Layers that are fetched, or sent, at once. */
  readonly parallelDownloads?: number;
  readonly parallelUploads?: number;
}

/** Docker's defaults. */
const PARALLEL_DOWNLOADS = 3;
const PARALLEL_UPLOADS = 5;

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
  const unsynced = new Unsynced(directory, catalog, jobs, options.log);
  await unsynced.dropLost();
  const store = new Store(directory, options, catalog, blobs, layers, jobs, unsynced);
  await store.sweep();
  return store;
}

class Store implements ImageStore {
  readonly #directory: string;
  readonly #options: ImageStoreOptions;
  readonly #log: Log;
  readonly #catalog: Catalog;
  readonly #blobs: BlobStore;
  readonly #layers: LayerStore;
  readonly #jobs: Jobs;
  readonly #arrivals: Arrivals;
  readonly #puller: Puller;
  readonly #remote: RemoteImages;
  readonly #leases = new Leases();
  readonly #events = new Signal<ImageEvent>();
  readonly #unsynced: Unsynced;
  readonly #collector: Collector;

  constructor(
    directory: string,
    options: ImageStoreOptions,
    catalog: Catalog,
    blobs: BlobStore,
    layers: LayerStore,
    jobs: Jobs,
    unsynced: Unsynced,
  ) {
    this.#unsynced = unsynced;
    this.#directory = directory;
    this.#options = options;
    this.#log = options.log;
    this.#catalog = catalog;
    this.#blobs = blobs;
    this.#layers = layers;
    this.#jobs = jobs;
    const { clock } = options;
    this.#collector = new Collector(catalog, layers, blobs, clock);
    this.#arrivals = new Arrivals({ directory, clock, catalog, blobs, layers, jobs });
    this.#remote = new RemoteImages(clock, new RegistryHosts(options.registries ?? NO_SETTINGS));
    this.#puller = new Puller({
      blobs,
      parallel: options.parallelDownloads || PARALLEL_DOWNLOADS,
      unpack: (diffId, digest, tell) => this.#arrivals.unpack(diffId, digest, tell, false),
      isReady: (diffId, digest) => this.#arrivals.isReady(diffId, digest),
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
      const { diffIds, layers } = record;
      await this.#leases.during(() =>
        this.#arrivals.unpackAll(diffIds, layers, () => {}, { durable: true }),
      );
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

  async load(tar: AsyncIterable<Uint8Array>, onProgress: Tell = () => {}): Promise<LoadedImage[]> {
    const images = await this.#arrive(() => this.#arrivals.load(tar, onProgress));
    for (const image of images) this.#tell('load', image.id, image.tags[0] ?? image.id);
    return images;
  }

  async import(
    tar: AsyncIterable<Uint8Array>,
    reference: string,
    changes: readonly string[] = [],
    options: ImportOptions = {},
  ): Promise<Image> {
    const image = await this.#arrive(async () => {
      const tags = reference === '' ? [] : [fullTag(tagOnly(reference))];
      return this.#arrivals.import(tar, tags, changes, options);
    });
    this.#tell('import', image.id, image.tags[0] ?? image.id);
    return image;
  }

  async commit(
    imageId: string,
    layer: AsyncIterable<Uint8Array>,
    reference: string,
    options: CommitOptions,
  ): Promise<Image> {
    const tags = reference === '' ? [] : [fullTag(tagOnly(reference))];
    const image = await this.#arrive(() =>
      this.#arrivals.commit(this.#record(imageId), layer, tags, options),
    );
    for (const tag of tags) this.#tell('tag', image.id, tag);
    return image;
  }

  async pull(text: string, options: PullOptions = {}): Promise<Image> {
    const reference = withDefaultTag(parseReference(text));
    const tell = options.onProgress ?? (() => {});
    const before = this.#catalog.findReference(reference);
    const { platform } = options;
    const wanted = platform === undefined || before?.config.architecture === platform.architecture;
    const end = (digest: string, fresh: boolean): void => {
      const words = fresh ? 'Downloaded newer image' : 'Image is up to date';
      tell({ id: '', status: `Digest: ${digest}` });
      tell({ id: '', status: `Status: ${words} for ${familiarReference(reference)}` });
    };
    if (before !== undefined && reference.digest !== undefined && !before.doomed && wanted) {
      tell({ id: reference.digest, status: `Pulling from ${reference.path}` });
      end(reference.digest, false);
      this.#collector.used(before.id);
      return this.#catalog.toImage(before);
    }
    const image = await this.#arrive(async () => {
      const sources = this.#remote.sources(reference.domain, options);
      const pulled = await this.#puller.pull(sources, reference, options);
      const arrived: Arrived = {
        ...pulled,
        tags: reference.digest === undefined ? [fullTag(reference)] : [],
        pulledAs: [`${repositoryOf(reference)}@${pulled.root}`],
      };
      const [added] = await this.#arrivals.addAll([arrived], () => {}, {
        signal: options.signal,
        unsyncedBoot: this.#unsynced.boot,
      });
      this.#unsynced.syncSoon();
      end(pulled.root, before?.id !== added.id);
      this.#collector.used(added.id);
      return added;
    });
    const name = familiarReference(reference);
    this.#tell('pull', name, name);
    return image;
  }

  async remoteTags(text: string, options: ResolveOptions = {}): Promise<readonly string[]> {
    const { domain, path: repository } = parseReference(text);
    return this.#remote.tags(domain, repository, options);
  }

  resolve(text: string, options: ResolveOptions = {}): Promise<Distribution> {
    return this.#remote.resolve(withDefaultTag(parseReference(text)), options);
  }

  async local(text: string): Promise<Distribution | undefined> {
    const record = this.#catalog.find(text);
    if (record === undefined) return undefined;
    const { digest: asked } = parseReference(text);
    const digest = asked ?? this.#digestFor(record, text);
    const bytes = await this.#blobs.readDocument(digest);
    const stated = (JSON.parse(bytes.toString('utf8')) as { mediaType?: string }).mediaType;
    const { os, architecture } = record.config;
    const parsed = parseManifest(bytes);
    const otherwise = `application/vnd.oci.image.${parsed.kind}.v1+json`;
    return {
      mediaType: stated ?? otherwise,
      digest,
      sizeBytes: bytes.byteLength,
      platforms: architecture === '' ? [] : [{ os, architecture }],
    };
  }

  /** The digest that the name `text` of the image was last pulled as, else that of what is kept. */
  #digestFor(record: ImageRecord, text: string): string {
    const repository = repositoryOf(parseReference(text));
    const pulled = record.pulledAs.filter((name) => name.startsWith(`${repository}@`)).at(-1);
    return pulled === undefined ? record.roots[0] : pulled.slice(repository.length + 1);
  }

  async push(text: string, options: TransferOptions = {}): Promise<PushedImage> {
    const reference = tagOnly(text);
    const record = this.#catalog.findReference(reference);
    const name = familiarReference(reference);
    if (record === undefined || record.doomed) {
      throw new SwarmError('not_found', `An image does not exist locally with the tag: ${name}`);
    }
    const pushed = await this.#leases.during(() =>
      pushImage(
        { record, others: [...this.#catalog.state.images.values()], blobs: this.#blobs },
        reference,
        {
          ...this.#remote.session(options),
          parallel: this.#options.parallelUploads || PARALLEL_UPLOADS,
        },
        options.onProgress ?? (() => {}),
      ),
    );
    const pulledAs = `${repositoryOf(reference)}@${pushed.digest}`;
    await this.#catalog.change((draft) => {
      const current = draft.images.get(record.id);
      if (current === undefined || current.pulledAs.includes(pulledAs)) return;
      draft.images.set(record.id, { ...current, pulledAs: [...current.pulledAs, pulledAs] });
    });
    this.#tell('push', name, name);
    return pushed;
  }

  login(server: string, auth: RegistryAuth): Promise<void> {
    return this.#remote.login(server, auth);
  }

  async configuration(imageId: string): Promise<Readonly<Record<string, unknown>>> {
    const bytes = await this.#blobs.readDocument(this.#record(imageId).id);
    return JSON.parse(bytes.toString('utf8')) as Record<string, unknown>;
  }

  layerUse(imageId: string): readonly LayerUse[] {
    return this.#record(imageId).diffIds.map((diffId) => ({
      diffId,
      sizeBytes: this.#layers.facts(diffId)?.sizeBytes ?? 0,
    }));
  }

  usage(): ImageUsage {
    return imageUsage(
      [...this.#catalog.state.images.values()],
      (diffId) => this.#layers.facts(diffId)?.sizeBytes ?? 0,
      (id) => this.#collector.users(id).length,
    );
  }

  async prune(unwanted: (image: Image) => boolean): Promise<ImagePruned> {
    return this.#swept(await this.#collector.prune(unwanted));
  }

  async collect(policy: GarbagePolicy): Promise<ImagePruned> {
    return this.#swept(await this.#collector.collect(policy));
  }

  async #swept({ ids, pruned }: Collected): Promise<ImagePruned> {
    if (ids.length > 0) await this.#sweepIfFree();
    for (const id of ids) this.#tell('delete', id, id);
    return pruned;
  }

  onEvent(listener: (event: ImageEvent) => void): () => void {
    return this.#events.listen(listener);
  }

  #tell(action: ImageEvent['action'], id: string, name: string): void {
    this.#events.emit({ action, id, name: familiarReference(name) });
  }

  async remove(reference: string, options: { force: boolean }): Promise<ImageRemoval[]> {
    const plan = await this.#catalog.change((draft) => {
      const id = this.#catalog.find(reference)?.id ?? '';
      const users = this.#collector.users(id);
      const decided = planRemoval(this.#catalog, reference, options.force, users);
      applyRemoval(draft, decided);
      return decided;
    });
    const removed = describeRemoval(plan, this.#neededLayers());
    await this.#sweepIfFree();
    const { id } = plan.record;
    for (const { untagged } of removed) {
      if (untagged !== undefined) this.#tell('untag', id, untagged);
    }
    if (plan.image === 'deleted') this.#tell('delete', id, id);
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
      const taggedAtMs = this.#options.clock.wallMs();
      draft.images.set(record.id, { ...current, doomed: false, taggedAtMs });
    });
    this.#tell('tag', record.id, tag);
  }

  save(references: readonly string[]): AsyncIterable<Uint8Array> {
    const images = references.map((text) => {
      const record = this.#catalog.find(text);
      if (record === undefined) throw noSuchImage(text);
      const tag = this.#catalog.tagsOf(record.id).find((name) => isNamed(name, text));
      return { record, tags: tag === undefined ? [] : [tag] };
    });
    for (const [at, { record }] of images.entries()) this.#tell('save', record.id, references[at]);
    return saveArchive(this.#blobs, images);
  }

  hold(imageId: string, containerId: string): () => void {
    return this.#collector.hold(imageId, containerId, () => {
      if (this.#catalog.state.images.get(imageId)?.doomed === true) void this.#dropDoomed();
    });
  }

  async close(): Promise<void> {
    await this.#jobs.close();
    await this.#unsynced.ended();
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
          if (record.doomed && !this.#collector.isHeld(record.id)) draft.images.delete(record.id);
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
      return await this.#leases.during(async () => {
        await this.#arrivals.checkSpace();
        return work();
      });
    } catch (error) {
      await this.#sweepIfFree();
      throw diskError(error, this.#directory);
    }
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
