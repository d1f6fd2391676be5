/**
 * Brings an image from a registry into the content store: manifest (through an index to the wanted
 * platform), configuration, then layers, three at a time, each handed on to be unpacked as soon as
 * it is whole. Blobs that are there are not fetched again and two pulls share one download. It
 * names nothing: the store adds the image when all is in place.
 */
import { SwarmError } from '../../base/errors.ts';
import { type BlobStore, checkDocumentSize } from './blobs.ts';
import {
  choosePlatform,
  type Descriptor,
  hostPlatform,
  type Manifest,
  parseConfig,
  parseManifest,
} from './manifest.ts';
import { DEFAULT_TAG, type Reference, shortDigest } from './reference.ts';
import type { FetchedManifest, Registry } from './registry.ts';
import type { Platform, PullOptions, Tell } from './types.ts';

const PROGRESS_BYTES = 512 * 1024;

export interface PulledImage {
  /** Digest the reference stands for: of the index, if there is one. */
  readonly root: string;
  readonly manifest: string;
  readonly id: string;
  readonly layers: readonly { readonly digest: string; readonly sizeBytes: number }[];
  readonly blobs: readonly string[];
}

export interface PullerOptions {
  readonly blobs: BlobStore;
  /** Layers under way at once. */
  readonly parallel: number;
  /** Makes a layer ready from its blob, which is in place. */
  readonly unpack: (diffId: string, digest: string, tell: Tell) => Promise<void>;
  /** Whether the layer needs neither its blob nor unpacking. */
  readonly isReady: (diffId: string, digest: string) => Promise<boolean>;
}

export class Puller {
  readonly #options: PullerOptions;
  readonly #underWay = new Map<string, Promise<void>>();

  constructor(options: PullerOptions) {
    this.#options = options;
  }

  /**
   * From the first of `sources` that has it. SwarmError not_found, unauthorized, unavailable,
   * corrupt, exhausted or cancelled.
   */
  async pull(
    sources: readonly Registry[],
    reference: Reference,
    options: PullOptions,
  ): Promise<PulledImage> {
    const tell = options.onProgress ?? (() => {});
    const wanted = reference.digest ?? reference.tag ?? DEFAULT_TAG;
    const { registry, top } = await firstManifest(sources, reference.path, wanted);
    tell({ id: wanted, status: `Pulling from ${reference.path}` });
    const platform = options.platform ?? hostPlatform();
    const resolved = await this.#resolve(registry, reference.path, top, platform);
    const { manifest, digest, documents } = resolved;
    checkDocumentSize(manifest.config.sizeBytes, 'the image configuration');
    await this.#fetch(registry, reference.path, manifest.config, () => {});
    const { diffIds, config } = parseConfig(
      await this.#options.blobs.readDocument(manifest.config.digest),
    );
    if (diffIds.length !== manifest.layers.length) {
      throw new SwarmError(
        'corrupt',
        `the image has ${manifest.layers.length} layers, but its configuration names ` +
          `${diffIds.length}`,
      );
    }
    if (options.platform !== undefined && config.architecture !== platform.architecture) {
      throw new SwarmError(
        'not_found',
        `the image is for ${config.os}/${config.architecture}, not for ` +
          `${platform.os}/${platform.architecture}`,
      );
    }
    for (const bytes of documents) await this.#options.blobs.put(bytes);
    await this.#fetchLayers(registry, reference.path, manifest.layers, diffIds, tell);
    return {
      root: top.digest,
      manifest: digest,
      id: manifest.config.digest,
      layers: manifest.layers,
      blobs: [
        ...new Set([
          top.digest,
          digest,
          manifest.config.digest,
          ...manifest.layers.map((layer) => layer.digest),
        ]),
      ],
    };
  }

  async #resolve(
    registry: Registry,
    repository: string,
    top: FetchedManifest,
    platform: Platform,
  ): Promise<{ manifest: Manifest; digest: string; documents: Buffer[] }> {
    const parsed = parseManifest(top.bytes);
    if (parsed.kind === 'manifest') {
      return { manifest: parsed, digest: top.digest, documents: [top.bytes] };
    }
    const entry = choosePlatform(parsed, platform);
    const inner = await registry.manifest(repository, entry.digest);
    const manifest = parseManifest(inner.bytes);
    if (manifest.kind !== 'manifest') {
      throw new SwarmError('unsupported', `the index ${top.digest} lists another index`);
    }
    return { manifest, digest: inner.digest, documents: [top.bytes, inner.bytes] };
  }

  async #fetchLayers(
    registry: Registry,
    repository: string,
    layers: readonly Descriptor[],
    diffIds: readonly string[],
    tell: Tell,
  ): Promise<void> {
    const all = layers.map((layer, at) => ({ layer, diffId: diffIds[at] }));
    const waiting = [...new Map(all.map((one) => [one.layer.digest, one])).values()];
    for (const { layer } of waiting)
      tell({ id: shortDigest(layer.digest), status: 'Pulling fs layer' });
    for (const { layer } of waiting.slice(this.#options.parallel)) {
      tell({ id: shortDigest(layer.digest), status: 'Waiting' });
    }
    let failure: { readonly error: unknown } | undefined;
    const unpacking: Promise<void>[] = [];
    const guarded = async (work: Promise<void>): Promise<void> => {
      try {
        await work;
      } catch (error) {
        failure ??= { error };
      }
    };
    const lane = async (): Promise<void> => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        if (failure !== undefined) return;
        const { layer, diffId } = next;
        if (await this.#options.isReady(diffId, layer.digest)) {
          tell({ id: shortDigest(layer.digest), status: 'Already exists' });
          continue;
        }
        await guarded(this.#fetch(registry, repository, layer, tell));
        if (failure !== undefined) return;
        // The lane goes on to fetch the next while this one is unpacked.
        unpacking.push(guarded(this.#options.unpack(diffId, layer.digest, tell)));
      }
    };
    await Promise.all(Array.from({ length: this.#options.parallel }, lane));
    await Promise.all(unpacking);
    if (failure !== undefined) throw failure.error;
  }

  async #fetch(
    registry: Registry,
    repository: string,
    blob: Descriptor,
    tell: Tell,
  ): Promise<void> {
    const id = shortDigest(blob.digest);
    for (;;) {
      const other = this.#underWay.get(blob.digest);
      if (other !== undefined) {
        await other.catch(() => {}); // told to whoever began it; this one then tries by itself
        continue;
      }
      const sizeBytes = await this.#options.blobs.sizeBytes(blob.digest);
      if (this.#underWay.has(blob.digest)) continue;
      if (sizeBytes !== undefined) return;
      const running = this.#download(registry, repository, blob, tell);
      this.#underWay.set(blob.digest, running);
      try {
        await running;
      } finally {
        this.#underWay.delete(blob.digest);
      }
      tell({ id, status: 'Download complete' });
      return;
    }
  }

  async #download(
    registry: Registry,
    repository: string,
    blob: Descriptor,
    tell: Tell,
  ): Promise<void> {
    const writer = await this.#options.blobs.write(blob);
    let toldBytes = 0;
    try {
      await registry.blob(repository, blob, writer, (currentBytes) => {
        if (currentBytes - toldBytes < PROGRESS_BYTES && currentBytes < blob.sizeBytes) return;
        toldBytes = currentBytes;
        const id = shortDigest(blob.digest);
        tell({ id, status: 'Downloading', currentBytes, totalBytes: blob.sizeBytes });
      });
      await writer.commit();
    } finally {
      await writer.abandon();
    }
  }
}

async function firstManifest(
  sources: readonly Registry[],
  repository: string,
  wanted: string,
): Promise<{ registry: Registry; top: FetchedManifest }> {
  for (const [at, registry] of sources.entries()) {
    try {
      return { registry, top: await registry.manifest(repository, wanted) };
    } catch (error) {
      // A mirror that fails in whatever way stands aside; the registry itself is the last.
      const cancelled = error instanceof SwarmError && error.code === 'cancelled';
      if (at === sources.length - 1 || cancelled) throw error;
    }
  }
  throw new SwarmError('internal', 'no registry to pull from');
}
