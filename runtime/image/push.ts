/**
 * Sends an image of the content store to a registry with the very bytes it is kept as, so that its
 * digest is the same there: blobs first, three at a time (what is there already is not sent, what
 * another repository of the registry has is taken over), the manifest last. Changes nothing here.
 */
import { createReadStream } from 'node:fs';
import { SwarmError } from '../../base/errors.ts';
import type { BlobStore } from './blobs.ts';
import type { ImageRecord } from './catalog.ts';
import { DOCKER_MANIFEST, OCI_MANIFEST, parseManifest } from './manifest.ts';
import { parseReference, type Reference, repositoryOf, shortDigest } from './reference.ts';
import type { SessionOptions } from './registrySession.ts';
import { RegistryUpload } from './registryUpload.ts';
import type { PushedImage, Tell } from './types.ts';

const PROGRESS_BYTES = 512 * 1024;
const READ_BYTES = 256 * 1024;
/** More places to take a blob from are not tried: an upload is then as fast. */
const MAX_MOUNT_TRIES = 3;

export interface PushSource {
  readonly record: ImageRecord;
  /** All images here: where else the registry may have a blob. */
  readonly others: readonly ImageRecord[];
  readonly blobs: BlobStore;
}

/** `reference` has a tag. SwarmError unauthorized, unavailable, cancelled. */
export async function pushImage(
  source: PushSource,
  reference: Reference,
  options: SessionOptions & { readonly parallel: number },
  tell: Tell,
): Promise<PushedImage> {
  const { record, blobs } = source;
  const tag = reference.tag ?? '';
  const upload = new RegistryUpload(reference.domain, reference.path, options);
  const bytes = await blobs.readDocument(record.manifest);
  const manifest = parseManifest(bytes);
  if (manifest.kind !== 'manifest') {
    throw new SwarmError('internal', `the manifest ${record.manifest} of an image is an index`);
  }
  const waiting = [...new Map(manifest.layers.map((layer) => [layer.digest, layer])).values()];
  for (const layer of waiting) tell({ id: shortDigest(layer.digest), status: 'Preparing' });
  let failure: { readonly error: unknown } | undefined;
  const lane = async (): Promise<void> => {
    for (let layer = waiting.shift(); layer !== undefined; layer = waiting.shift()) {
      if (failure !== undefined) return;
      try {
        await pushBlob(source, upload, reference, layer, tell);
      } catch (error) {
        failure ??= { error };
      }
    }
  };
  await Promise.all(Array.from({ length: options.parallel }, lane));
  if (failure !== undefined) throw failure.error;
  await pushBlob(source, upload, reference, manifest.config, () => {});
  const stated = (JSON.parse(bytes.toString('utf8')) as { mediaType?: string }).mediaType;
  const docker = manifest.config.mediaType.startsWith('application/vnd.docker.');
  await upload.putManifest(tag, stated ?? (docker ? DOCKER_MANIFEST : OCI_MANIFEST), bytes);
  return { tag, digest: record.manifest, sizeBytes: bytes.byteLength };
}

async function pushBlob(
  source: PushSource,
  upload: RegistryUpload,
  reference: Reference,
  blob: { readonly digest: string; readonly sizeBytes: number },
  tell: Tell,
): Promise<void> {
  const { blobs } = source;
  const id = shortDigest(blob.digest);
  if (await upload.hasBlob(blob.digest)) {
    tell({ id, status: 'Layer already exists' });
    return;
  }
  for (const repository of mountSources(source, reference, blob.digest)) {
    if (!(await upload.mount(blob.digest, repository))) continue;
    tell({ id, status: `Mounted from ${repository}` });
    return;
  }
  if ((await blobs.sizeBytes(blob.digest)) !== blob.sizeBytes) {
    throw new SwarmError(
      'corrupt',
      `${blobs.path(blob.digest)} is missing or damaged: get the image again`,
    );
  }
  let toldBytes = 0;
  const totalBytes = blob.sizeBytes;
  await upload.uploadBlob(
    blob,
    () => createReadStream(blobs.path(blob.digest), { highWaterMark: READ_BYTES }),
    (currentBytes) => {
      if (currentBytes >= toldBytes && currentBytes - toldBytes < PROGRESS_BYTES) return;
      toldBytes = currentBytes;
      tell({ id, status: 'Pushing', currentBytes, totalBytes });
    },
  );
  tell({ id, status: 'Pushed' });
}

/** Other repositories of the same registry that had the blob when it was pulled or pushed. */
function mountSources(source: PushSource, reference: Reference, digest: string): string[] {
  const own = repositoryOf(reference);
  const found = new Set<string>();
  for (const record of source.others) {
    if (!record.blobs.includes(digest)) continue;
    for (const name of record.pulledAs) {
      const other = parseReference(name);
      if (other.domain === reference.domain && repositoryOf(other) !== own) found.add(other.path);
    }
  }
  return [...found].slice(0, MAX_MOUNT_TRIES);
}
