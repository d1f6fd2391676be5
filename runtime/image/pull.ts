/**
 * Brings an image from a registry into the content store: manifest (through an index to this host's
 * platform), configuration, then layers, three at a time. Blobs that are there are not fetched
 * again and two pulls share one download. It names nothing: the store adds the image when all is in
 * place.
 */
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import type { Clock } from '../../base/clock.ts';
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
import { DEFAULT_TAG, hexOf, type Reference } from './reference.ts';
import { type FetchedManifest, Registry } from './registry.ts';
import type { ImageProgress, PullOptions } from './types.ts';

const PARALLEL_LAYERS = 3;
const SHORT_ID = 12;
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
  readonly clock: Clock;
  readonly insecureRegistries: readonly string[];
  readonly caDir: string | undefined;
}

export class Puller {
  readonly #options: PullerOptions;
  readonly #underWay = new Map<string, Promise<void>>();

  constructor(options: PullerOptions) {
    this.#options = options;
  }

  /** SwarmError not_found, unauthorized, unavailable, corrupt, exhausted or cancelled. */
  async pull(reference: Reference, options: PullOptions): Promise<PulledImage> {
    const tell = options.onProgress ?? (() => {});
    const registry = await this.#registry(reference.domain, options);
    const wanted = reference.digest ?? reference.tag ?? DEFAULT_TAG;
    tell({ id: wanted, status: `Pulling from ${reference.path}` });
    const top = await registry.manifest(reference.path, wanted);
    const { manifest, digest, documents } = await this.#resolve(registry, reference.path, top);
    checkDocumentSize(manifest.config.sizeBytes, 'the image configuration');
    await this.#fetch(registry, reference.path, manifest.config, () => {});
    const { diffIds } = parseConfig(await this.#options.blobs.readDocument(manifest.config.digest));
    if (diffIds.length !== manifest.layers.length) {
      throw new SwarmError(
        'corrupt',
        `the image has ${manifest.layers.length} layers, but its configuration names ` +
          `${diffIds.length}`,
      );
    }
    for (const bytes of documents) await this.#options.blobs.put(bytes);
    await this.#fetchLayers(registry, reference.path, manifest.layers, tell);
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

  async #registry(domain: string, options: PullOptions): Promise<Registry> {
    return new Registry(domain, {
      clock: this.#options.clock,
      insecureRegistries: this.#options.insecureRegistries,
      ca: await readAuthorities(this.#options.caDir, domain),
      auth: options.auth,
      signal: options.signal,
    });
  }

  async #resolve(
    registry: Registry,
    repository: string,
    top: FetchedManifest,
  ): Promise<{ manifest: Manifest; digest: string; documents: Buffer[] }> {
    const parsed = parseManifest(top.bytes);
    if (parsed.kind === 'manifest') {
      return { manifest: parsed, digest: top.digest, documents: [top.bytes] };
    }
    const entry = choosePlatform(parsed, hostPlatform());
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
    tell: (progress: ImageProgress) => void,
  ): Promise<void> {
    const waiting = [...new Map(layers.map((layer) => [layer.digest, layer])).values()];
    for (const layer of waiting) tell({ id: shortId(layer.digest), status: 'Pulling fs layer' });
    let failure: { readonly error: unknown } | undefined;
    const lane = async (): Promise<void> => {
      for (let layer = waiting.shift(); layer !== undefined; layer = waiting.shift()) {
        if (failure !== undefined) return;
        try {
          await this.#fetch(registry, repository, layer, tell);
        } catch (error) {
          failure ??= { error };
        }
      }
    };
    await Promise.all(Array.from({ length: PARALLEL_LAYERS }, lane));
    if (failure !== undefined) throw failure.error;
  }

  async #fetch(
    registry: Registry,
    repository: string,
    blob: Descriptor,
    tell: (progress: ImageProgress) => void,
  ): Promise<void> {
    const id = shortId(blob.digest);
    for (;;) {
      const other = this.#underWay.get(blob.digest);
      if (other !== undefined) {
        // Another pull brings it; if that fails, this one tries by itself.
        await other.catch(() => {});
        continue;
      }
      const sizeBytes = await this.#options.blobs.sizeBytes(blob.digest);
      if (this.#underWay.has(blob.digest)) continue;
      if (sizeBytes !== undefined) {
        tell({ id, status: 'Already exists' });
        return;
      }
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
    tell: (progress: ImageProgress) => void,
  ): Promise<void> {
    const writer = await this.#options.blobs.write(blob);
    let toldBytes = 0;
    try {
      await registry.blob(repository, blob, writer, (currentBytes) => {
        if (currentBytes - toldBytes < PROGRESS_BYTES && currentBytes < blob.sizeBytes) return;
        toldBytes = currentBytes;
        const id = shortId(blob.digest);
        tell({ id, status: 'Downloading', currentBytes, totalBytes: blob.sizeBytes });
      });
      await writer.commit();
    } finally {
      await writer.abandon();
    }
  }
}

export function shortId(digest: string): string {
  return hexOf(digest).slice(0, SHORT_ID);
}

/** `caDir`/<host:port>/*.crt, as Docker's certs.d. */
async function readAuthorities(caDir: string | undefined, domain: string): Promise<string[]> {
  if (caDir === undefined) return [];
  const directory = path.join(caDir, domain);
  let names: string[];
  try {
    names = await readdir(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  const files = names.filter((name) => name.endsWith('.crt')).sort();
  return Promise.all(files.map((name) => readFile(path.join(directory, name), 'utf8')));
}
