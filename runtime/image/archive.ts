/**
 * What an image archive holds: docker-archive (`docker save`, manifest.json) or an OCI image layout
 * (index.json), also both in one. Works on the files the archive was taken apart into, whose
 * digests are known; finds each image's manifest, configuration, layers and names. An archive
 * without a manifest gets one of fixed form, so that it has the same digest on every host. Stores
 * nothing.
 */
import { open, readFile } from 'node:fs/promises';
import { SwarmError } from '../../base/errors.ts';
import { checkDocumentSize, digestOf } from './blobs.ts';
import { detectCompression, MAGIC_BYTES } from './compression.ts';
import type { Ingested, IngestedFile } from './jobs.ts';
import {
  choosePlatform,
  type Descriptor,
  hostPlatform,
  OCI_LAYER,
  parseConfig,
  parseManifest,
  writeManifest,
} from './manifest.ts';
import { formatReference, hexOf, parseReference, withDefaultTag } from './reference.ts';

export interface ArchivedImage {
  /** Full references with tags. */
  readonly names: readonly string[];
  /** Digest the image is known by: its entry in index.json, or of the manifest made here. */
  readonly root: string;
  readonly manifest: { readonly digest: string; readonly bytes: Buffer };
  /** Digest of the configuration. */
  readonly id: string;
  /** Blobs to keep and the files that hold them; documents first, then layers, lowest first. */
  readonly blobs: readonly { readonly digest: string; readonly file: string }[];
  readonly layers: readonly { readonly digest: string; readonly sizeBytes: number }[];
}

const MAX_LINK_HOPS = 10;
const MAX_IMAGES = 1000;
const MAX_NESTING = 4;

interface DockerEntry {
  readonly config: string;
  readonly names: readonly string[];
  readonly layers: readonly string[];
}

/** The images of an archive. SwarmError invalid or corrupt when it is not whole. */
export async function readArchive(ingested: Ingested): Promise<ArchivedImage[]> {
  const files = new Files(ingested);
  const docker = files.find('manifest.json');
  const entries = docker === undefined ? [] : parseDocker(await document(docker));
  if (files.find('index.json') !== undefined) return readLayout(files, entries);
  if (docker === undefined) {
    throw new SwarmError(
      'invalid',
      'this is no image archive: it has neither manifest.json (docker save) nor index.json (OCI ' +
        'layout). A root file system is loaded with: tsswarm image import',
    );
  }
  const images: ArchivedImage[] = [];
  for (const entry of entries) images.push(await readDocker(files, entry));
  return images;
}

class Files {
  readonly #byName = new Map<string, IngestedFile>();
  readonly #links: ReadonlyMap<string, string>;

  constructor(ingested: Ingested) {
    for (const file of ingested.files) this.#byName.set(file.name, file);
    this.#links = new Map(ingested.links);
  }

  find(name: string): IngestedFile | undefined {
    let at = name
      .split('/')
      .filter((part) => part !== '' && part !== '.')
      .join('/');
    for (let hop = 0; hop < MAX_LINK_HOPS; hop += 1) {
      const file = this.#byName.get(at);
      if (file !== undefined) return file;
      const next = this.#links.get(at);
      if (next === undefined) return undefined;
      at = next;
    }
    return undefined;
  }

  need(name: string, what: string): IngestedFile {
    const file = this.find(name);
    if (file === undefined) {
      throw new SwarmError('invalid', `the archive is not whole: ${what} "${name}" is missing`);
    }
    return file;
  }

  /** A file of blobs/, whose name must be its digest. */
  blob(digest: string, what: string): IngestedFile {
    const file = this.need(`blobs/sha256/${hexOf(digest)}`, what);
    if (file.digest !== digest) {
      throw new SwarmError(
        'corrupt',
        `the archive is damaged: ${what} ${digest} has other content (${file.digest})`,
      );
    }
    return file;
  }
}

async function document(file: IngestedFile): Promise<Buffer> {
  checkDocumentSize(file.sizeBytes, `"${file.name}" in the archive`);
  return readFile(file.path);
}

function parseDocker(bytes: Buffer): DockerEntry[] {
  let list: unknown;
  try {
    list = JSON.parse(bytes.toString('utf8'));
  } catch (error) {
    throw new SwarmError('invalid', "the archive's manifest.json is not JSON", { cause: error });
  }
  const strings = (value: unknown): string[] =>
    Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
  if (!Array.isArray(list) || list.length > MAX_IMAGES) {
    throw new SwarmError('invalid', "the archive's manifest.json is no list of images");
  }
  return list.map((item: Record<string, unknown> | null) => {
    const config = item?.['Config'];
    if (typeof config !== 'string') {
      throw new SwarmError('invalid', "an image of the archive's manifest.json has no Config");
    }
    return { config, names: strings(item?.['RepoTags']), layers: strings(item?.['Layers']) };
  });
}

function fullName(name: string): string {
  const reference = withDefaultTag(parseReference(name));
  return formatReference({ ...reference, digest: undefined, tag: reference.tag ?? 'latest' });
}

async function readDocker(files: Files, entry: DockerEntry): Promise<ArchivedImage> {
  const config = files.need(entry.config, 'the configuration');
  const { diffIds } = parseConfig(await document(config));
  const layers = entry.layers.map((name) => files.need(name, 'the layer'));
  if (layers.length !== diffIds.length) {
    throw new SwarmError(
      'invalid',
      `the archive is not whole: ${layers.length} layers for ${diffIds.length} diff ids`,
    );
  }
  const described = await Promise.all(
    layers.map(async (layer) => ({
      digest: layer.digest,
      sizeBytes: layer.sizeBytes,
      mediaType: (await isGzip(layer.path)) ? `${OCI_LAYER}+gzip` : OCI_LAYER,
    })),
  );
  const bytes = writeManifest(config, described);
  const digest = digestOf(bytes);
  return {
    names: entry.names.map(fullName),
    root: digest,
    manifest: { digest, bytes },
    id: config.digest,
    blobs: [config, ...layers].map((file) => ({ digest: file.digest, file: file.path })),
    layers: described,
  };
}

async function isGzip(path: string): Promise<boolean> {
  const handle = await open(path, 'r');
  try {
    const head = Buffer.alloc(MAGIC_BYTES);
    const { bytesRead } = await handle.read(head, 0, MAGIC_BYTES, 0);
    return detectCompression(head.subarray(0, bytesRead)) === 'gzip';
  } finally {
    await handle.close();
  }
}

async function readLayout(files: Files, docker: readonly DockerEntry[]): Promise<ArchivedImage[]> {
  const index = parseManifest(await document(files.need('index.json', 'the index')));
  if (index.kind !== 'index') {
    throw new SwarmError('invalid', "the archive's index.json lists no manifests");
  }
  const entries = index.manifests.filter(
    (entry) => entry.annotations['vnd.docker.reference.type'] === undefined,
  );
  const host = hostPlatform();
  const usable = entries.filter(
    ({ platform }) =>
      platform === undefined ||
      (platform.os === host.os && platform.architecture === host.architecture),
  );
  if (usable.length === 0) choosePlatform({ ...index, manifests: entries }, host); // says which
  const dockerNames = new Map<string, readonly string[]>();
  for (const entry of docker) {
    const config = files.find(entry.config);
    if (config !== undefined) dockerNames.set(config.digest, entry.names);
  }
  const images = new Map<string, ArchivedImage>();
  for (const entry of usable) {
    const image = await readEntry(files, entry);
    const names = [...layoutNames(entry), ...(dockerNames.get(image.id) ?? [])].map(fullName);
    const before = images.get(image.root);
    images.set(image.root, {
      ...image,
      names: [...new Set([...(before?.names ?? []), ...names])],
    });
  }
  return [...images.values()];
}

/** containerd writes the whole name; skopeo and buildah what stood after the archive's path. */
function layoutNames(entry: Descriptor): string[] {
  const whole = entry.annotations['io.containerd.image.name'];
  if (whole !== undefined) return [whole];
  const name = entry.annotations['org.opencontainers.image.ref.name'];
  // A bare word is a tag without a repository: not a name.
  return name !== undefined && /[:/]/.test(name) ? [name] : [];
}

async function readEntry(files: Files, entry: Descriptor): Promise<ArchivedImage> {
  const documents: { digest: string; file: string }[] = [];
  let at = entry;
  for (let depth = 0; depth < MAX_NESTING; depth += 1) {
    const file = files.blob(at.digest, 'the manifest');
    const bytes = await document(file);
    documents.push({ digest: file.digest, file: file.path });
    const parsed = parseManifest(bytes);
    if (parsed.kind === 'index') {
      at = choosePlatform(parsed, hostPlatform());
      continue;
    }
    const config = files.blob(parsed.config.digest, 'the configuration');
    const { diffIds } = parseConfig(await document(config));
    const layers = parsed.layers.map((layer) => files.blob(layer.digest, 'the layer'));
    if (layers.length !== diffIds.length) {
      throw new SwarmError(
        'invalid',
        `the archive is not whole: ${layers.length} layers for ${diffIds.length} diff ids`,
      );
    }
    documents.push(...[config, ...layers].map((one) => ({ digest: one.digest, file: one.path })));
    return {
      names: [],
      root: entry.digest,
      manifest: { digest: at.digest, bytes },
      id: config.digest,
      blobs: documents,
      layers: layers.map(({ digest, sizeBytes }) => ({ digest, sizeBytes })),
    };
  }
  throw new SwarmError('invalid', `the archive nests more than ${MAX_NESTING} indexes`);
}
