/**
 * Writes images as one archive that is a docker-archive and an OCI image layout at once, so that
 * any Docker, Podman or tsswarm loads it, with the digests kept. The same images give the same
 * bytes. Reads the content store only.
 */
import { createReadStream } from 'node:fs';
import { SwarmError } from '../../base/errors.ts';
import type { BlobStore } from './blobs.ts';
import type { ImageRecord } from './catalog.ts';
import { OCI_INDEX, parseManifest } from './manifest.ts';
import { familiarReference, hexOf, parseReference } from './reference.ts';
import { type TarInput, writeTar } from './tar.ts';

export interface SavedImage {
  readonly record: ImageRecord;
  /** Full references; none for an image asked for by id or digest. */
  readonly tags: readonly string[];
}

export function saveArchive(
  blobs: BlobStore,
  images: readonly SavedImage[],
): AsyncGenerator<Uint8Array> {
  return writeTar(entries(blobs, images));
}

async function* entries(blobs: BlobStore, images: readonly SavedImage[]): AsyncGenerator<TarInput> {
  const digests = new Set(images.flatMap(({ record }) => record.blobs));
  yield { name: 'blobs', type: 'directory' };
  yield { name: 'blobs/sha256', type: 'directory' };
  for (const digest of [...digests].sort()) {
    const sizeBytes = await blobs.sizeBytes(digest);
    if (sizeBytes === undefined) {
      throw new SwarmError('corrupt', `${blobs.path(digest)} is missing: get the image again`);
    }
    yield { name: blobName(digest), body: { sizeBytes, chunks: bytesOf(blobs.path(digest)) } };
  }
  yield json('index.json', {
    schemaVersion: 2,
    mediaType: OCI_INDEX,
    manifests: await describe(blobs, images),
  });
  yield json(
    'manifest.json',
    images.map(({ record, tags }) => ({
      Config: blobName(record.id),
      RepoTags: tags.map(familiarReference),
      Layers: record.layers.map(blobName),
    })),
  );
  yield json('oci-layout', { imageLayoutVersion: '1.0.0' });
}

/** Opened when its first byte is asked for: an archive that nobody reads on leaves no file open. */
async function* bytesOf(path: string): AsyncGenerator<Uint8Array> {
  yield* createReadStream(path) as AsyncIterable<Uint8Array>;
}

async function describe(blobs: BlobStore, images: readonly SavedImage[]): Promise<object[]> {
  const described: object[] = [];
  for (const { record, tags } of images) {
    const digest = record.roots[0];
    const bytes = await blobs.readDocument(digest);
    const parsed = parseManifest(bytes);
    const stated = (JSON.parse(bytes.toString('utf8')) as { mediaType?: string }).mediaType;
    const otherwise =
      parsed.kind === 'index' ? OCI_INDEX : 'application/vnd.oci.image.manifest.v1+json';
    const base = { mediaType: stated ?? otherwise, digest, size: bytes.byteLength };
    if (tags.length === 0) described.push(base);
    for (const tag of tags) {
      described.push({
        ...base,
        annotations: {
          'io.containerd.image.name': tag,
          'org.opencontainers.image.ref.name': parseReference(tag).tag,
        },
      });
    }
  }
  return described;
}

function blobName(digest: string): string {
  return `blobs/sha256/${hexOf(digest)}`;
}

function json(name: string, value: unknown): TarInput {
  return { name, body: Buffer.from(JSON.stringify(value)) };
}
