/** An ImageStore of one made-up image that remembers what it was asked to do. */
import { SwarmError } from '../../base/errors.ts';
import type {
  CommitOptions,
  Distribution,
  Image,
  ImagePruned,
  ImageRemoval,
  ImageStore,
  ImageUsage,
  LayerUse,
  LoadedImage,
  PullOptions,
  PushedImage,
  RegistryAuth,
  ResolveOptions,
  TransferOptions,
} from '../../runtime/image/types.ts';

export function makeImage(name: string): Image {
  return {
    id: `sha256:${'a'.repeat(64)}`,
    tags: [`docker.io/library/${name}:latest`],
    digests: [`docker.io/library/${name}@sha256:${'b'.repeat(64)}`],
    config: {
      architecture: 'amd64',
      os: 'linux',
      createdAtMs: 1_700_000_000_000,
      entrypoint: ['/web'],
      cmd: [],
      env: ['PATH=/bin'],
      workingDir: '/',
      user: '',
      labels: { kind: 'test' },
      exposedPorts: ['80/tcp'],
      volumes: [],
      stopSignal: '',
    },
    sizeBytes: 123_456,
    diffIds: [`sha256:${'c'.repeat(64)}`],
    taggedAtMs: 0,
  };
}

export class ScriptedImages implements ImageStore {
  images: Image[] = [makeImage('web')];
  readonly loaded: number[] = [];
  /** What load throws after its first bytes. */
  refusal: SwarmError | undefined;
  readonly imported: { readonly reference: string; readonly changes: readonly string[] }[] = [];
  readonly tagged: string[] = [];

  list(): readonly Image[] {
    return this.images.map((image) => ({ ...image, loadedAs: image.tags }));
  }

  find(reference: string): Image | undefined {
    const [name] = reference.split('@');
    const full = name.includes(':') ? name : `${name}:latest`;
    return this.images.find(
      (image) =>
        image.tags.some((tag) => tag === full || tag === `docker.io/library/${full}`) ||
        image.id.startsWith(reference),
    );
  }

  async layers(): Promise<readonly string[]> {
    return [];
  }

  async load(tar: AsyncIterable<Uint8Array>): Promise<LoadedImage[]> {
    let size = 0;
    for await (const chunk of tar) {
      if (this.refusal !== undefined) throw this.refusal;
      size += chunk.length;
    }
    this.loaded.push(size);
    return this.images.map((image) => ({ ...image, loadedAs: image.tags }));
  }

  async import(
    tar: AsyncIterable<Uint8Array>,
    reference: string,
    changes: readonly string[] = [],
  ): Promise<Image> {
    await this.load(tar);
    this.imported.push({ reference, changes });
    return this.images[0];
  }

  async commit(
    _imageId: string,
    layer: AsyncIterable<Uint8Array>,
    reference: string,
    { changes }: CommitOptions,
  ): Promise<Image> {
    return this.import(layer, reference, changes);
  }

  async pull(reference: string, options: PullOptions = {}): Promise<Image> {
    if (reference.startsWith('absent')) {
      throw new SwarmError('not_found', `${reference}: no such image in its registry`);
    }
    for (const status of ['Pulling fs layer', 'Downloading', 'Pull complete']) {
      options.onProgress?.({ id: 'cccccccccccc', status, currentBytes: 1, totalBytes: 2 });
    }
    if (reference.startsWith('broken')) throw new SwarmError('unavailable', 'the registry hung up');
    options.onProgress?.({ id: '', status: `Digest: sha256:${'b'.repeat(64)}` });
    options.onProgress?.({ id: '', status: `Status: Image is up to date for ${reference}` });
    return this.images[0];
  }

  async collect(): Promise<ImagePruned> {
    return { removed: [], reclaimedBytes: 0 };
  }

  async remove(reference: string): Promise<ImageRemoval[]> {
    const image = this.find(reference);
    if (image === undefined) throw new SwarmError('not_found', `no such image: ${reference}`);
    this.images = this.images.filter((item) => item !== image);
    return [{ untagged: image.tags[0] }, { deleted: image.id }];
  }

  async tag(source: string, target: string): Promise<void> {
    if (this.find(source) === undefined) {
      throw new SwarmError('not_found', `no such image: ${source}`);
    }
    this.tagged.push(target);
  }

  async *save(references: readonly string[]): AsyncGenerator<Uint8Array> {
    yield Buffer.from(`archive of ${references.join(' ')}`);
  }

  async remoteTags(): Promise<readonly string[]> {
    return ['1', '2'];
  }

  /** What a registry is asked for; all registries are away. */
  readonly resolved: { readonly reference: string; readonly options: ResolveOptions }[] = [];

  async resolve(reference: string, options: ResolveOptions = {}): Promise<Distribution> {
    this.resolved.push({ reference, options });
    if (reference.startsWith('a/b')) throw new SwarmError('not_found', 'manifest unknown');
    throw new SwarmError('unavailable', 'cannot reach registry docker.io');
  }

  async local(reference: string): Promise<Distribution | undefined> {
    const image = this.find(reference);
    if (image === undefined) return undefined;
    return {
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      digest: image.digests[0].slice(image.digests[0].indexOf('@') + 1),
      sizeBytes: 500,
      platforms: [{ os: 'linux', architecture: 'amd64' }],
    };
  }

  readonly pushed: { readonly reference: string; readonly options: TransferOptions }[] = [];

  async push(reference: string, options: TransferOptions = {}): Promise<PushedImage> {
    this.pushed.push({ reference, options });
    options.onProgress?.({ id: 'cccccccccccc', status: 'Pushed' });
    return { tag: '1', digest: `sha256:${'b'.repeat(64)}`, sizeBytes: 500 };
  }

  async login(server: string, auth: RegistryAuth): Promise<void> {
    if (auth.password === 'pw') return;
    throw new SwarmError('unauthorized', `login attempt to https://${server}/v2/ failed`);
  }

  async configuration(): Promise<Readonly<Record<string, unknown>>> {
    return {
      architecture: 'amd64',
      os: 'linux',
      created: '2023-11-14T22:13:20Z',
      config: { Entrypoint: ['/web'], Env: ['PATH=/bin'], Labels: { kind: 'test' } },
      history: [
        { created: '2023-11-14T22:13:20Z', created_by: 'COPY web /' },
        { created: '2023-11-14T22:13:20Z', created_by: 'ENV PATH=/bin', empty_layer: true },
      ],
    };
  }

  layerUse(): readonly LayerUse[] {
    return [{ diffId: `sha256:${'c'.repeat(64)}`, sizeBytes: 123_456 }];
  }

  usage(): ImageUsage {
    return {
      layersBytes: 123_456,
      images: this.images.map(({ id }) => ({
        id,
        sharedBytes: 0,
        uniqueBytes: 123_456,
        containers: 0,
      })),
    };
  }

  async prune(unwanted: (image: Image) => boolean): Promise<ImagePruned> {
    const gone = this.images.filter(unwanted);
    this.images = this.images.filter((image) => !gone.includes(image));
    return { removed: gone.map(({ id }) => ({ deleted: id })), reclaimedBytes: 123_456 };
  }

  onEvent(): () => void {
    return () => {};
  }

  hold(): () => void {
    return () => {};
  }

  async close(): Promise<void> {}
}
