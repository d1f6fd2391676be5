/**
 * Builds image archives for tests: layers from a list of tar entries, docker-archives and OCI
 * layouts around them, stores in a directory that goes away with the test. Only for tests.
 */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { type Clock, SystemClock } from '../../base/clock.ts';
import { silentLog } from '../../base/log.ts';
import { NO_SETTINGS, type RegistrySettings } from '../../runtime/image/registryHosts.ts';
import { openImageStore } from '../../runtime/image/store.ts';
import { type TarInput, writeTar } from '../../runtime/image/tar.ts';
import type { ImageStore } from '../../runtime/image/types.ts';

export function sha256(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

export function hex(digest: string): string {
  return digest.slice('sha256:'.length);
}

export async function collect(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source) chunks.push(chunk);
  return Buffer.concat(chunks);
}

export async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** Uneven pieces, so that nothing relies on where a chunk ends. */
export async function* inPieces(bytes: Uint8Array, size = 1000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += size) yield bytes.subarray(at, at + size);
}

export function tar(entries: readonly TarInput[]): Promise<Buffer> {
  return collect(writeTar(entries));
}

export function file(name: string, text: string, more: Partial<TarInput> = {}): TarInput {
  return { name, body: Buffer.from(text), ...more };
}

export function directory(name: string, more: Partial<TarInput> = {}): TarInput {
  return { name, type: 'directory', ...more };
}

export interface BuiltImage {
  readonly config: Buffer;
  /** As stored (maybe compressed), lowest first. */
  readonly layers: readonly Buffer[];
}

/** `layers` uncompressed; `pack` makes of each what the image stores. */
export function buildImage(
  layers: readonly Buffer[],
  pack: (layer: Buffer) => Buffer = (layer) => layer,
  config: object = { Cmd: ['/x'] },
): BuiltImage {
  return {
    config: Buffer.from(
      JSON.stringify({
        architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
        os: 'linux',
        created: '2025-06-01T00:00:00Z',
        config,
        rootfs: { type: 'layers', diff_ids: layers.map(sha256) },
      }),
    ),
    layers: layers.map(pack),
  };
}

export function dockerArchive(image: BuiltImage, names: readonly string[]): Promise<Buffer> {
  const layerNames = image.layers.map((layer) => `${hex(sha256(layer))}/layer.tar`);
  const configName = `${hex(sha256(image.config))}.json`;
  const manifest = [{ Config: configName, RepoTags: names, Layers: layerNames }];
  return tar([
    { name: configName, body: image.config },
    ...image.layers.map((body, at) => ({ name: layerNames[at], body })),
    file('manifest.json', JSON.stringify(manifest)),
  ]);
}

/** An image's manifest as OCI writes it. */
export function manifestOf(image: BuiltImage, suffix = '+gzip'): Buffer {
  const describe = (mediaType: string, bytes: Buffer): object => ({
    mediaType,
    digest: sha256(bytes),
    size: bytes.byteLength,
  });
  return Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: describe('application/vnd.oci.image.config.v1+json', image.config),
      layers: image.layers.map((layer) =>
        describe(`application/vnd.oci.image.layer.v1.tar${suffix}`, layer),
      ),
    }),
  );
}

export function ociArchive(
  image: BuiltImage,
  name: string,
  damage: (blobs: Map<string, Buffer>) => void = () => {},
): Promise<Buffer> {
  const manifest = manifestOf(image);
  const blobs = new Map(
    [manifest, image.config, ...image.layers].map((bytes) => [hex(sha256(bytes)), bytes]),
  );
  damage(blobs);
  const index = {
    schemaVersion: 2,
    manifests: [
      {
        mediaType: 'application/vnd.oci.image.manifest.v1+json',
        digest: sha256(manifest),
        size: manifest.byteLength,
        annotations: { 'org.opencontainers.image.ref.name': name },
      },
    ],
  };
  return tar([
    file('oci-layout', '{"imageLayoutVersion":"1.0.0"}'),
    ...[...blobs].map(([digest, body]) => ({ name: `blobs/sha256/${digest}`, body })),
    file('index.json', JSON.stringify(index)),
  ]);
}

const opened = new WeakMap<TestContext, ImageStore[]>();

/** A directory that is removed when the test ends, after the stores in it are closed. */
export function scratchDirectory(test: TestContext): string {
  const made = mkdtempSync(path.join(tmpdir(), 'image-test-'));
  const stores: ImageStore[] = opened.get(test) ?? [];
  opened.set(test, stores);
  test.after(async () => {
    for (const store of stores) await store.close();
    rmSync(made, { recursive: true, force: true });
  });
  return made;
}

/** A store in `dataRoot`, closed when the test ends. */
export async function openStore(
  test: TestContext,
  dataRoot: string,
  registries: Partial<RegistrySettings> = {},
  clock: Clock = new SystemClock(),
): Promise<ImageStore> {
  const store = await openImageStore({
    dataRoot,
    clock,
    log: silentLog,
    registries: { ...NO_SETTINGS, ...registries },
  });
  const stores = opened.get(test);
  if (stores === undefined) test.after(() => store.close());
  else stores.push(store);
  return store;
}
