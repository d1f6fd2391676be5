/** An ImageStore of one made-up image that remembers what it was asked to do. */
import { SwarmError } from '../../base/errors.ts';
import type { Image, ImageRemoval, ImageStore, PullOptions } from '../../runtime/image/types.ts';

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
    return this.images;
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

  async load(tar: AsyncIterable<Uint8Array>): Promise<Image[]> {
    let size = 0;
    for await (const chunk of tar) {
      if (this.refusal !== undefined) throw this.refusal;
      size += chunk.length;
    }
    this.loaded.push(size);
    return this.images;
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

  async pull(reference: string, options: PullOptions = {}): Promise<Image> {
    if (reference.startsWith('absent')) {
      throw new SwarmError('not_found', `${reference}: no such image in its registry`);
    }
    for (const status of ['Pulling fs layer', 'Downloading', 'Pull complete']) {
      options.onProgress?.({ id: 'cccccccccccc', status, currentBytes: 1, totalBytes: 2 });
    }
    if (reference.startsWith('broken')) throw new SwarmError('unavailable', 'the registry hung up');
    return this.images[0];
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

  hold(): () => void {
    return () => {};
  }

  async close(): Promise<void> {}
}
