/** What the image store offers to the agent and the API: references, images, progress. */
import type { HealthCheck } from '../container/types.ts';

export interface ImageConfig {
  readonly architecture: string;
  readonly os: string;
  readonly createdAtMs: number;
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly env: readonly string[];
  readonly workingDir: string;
  readonly user: string;
  readonly labels: Readonly<Record<string, string>>;
  /** '80/tcp'. */
  readonly exposedPorts: readonly string[];
  readonly volumes: readonly string[];
  readonly stopSignal: string;
  readonly healthCheck?: HealthCheck;
}

export interface Image {
  /** 'sha256:<hex>' of the image's configuration, as Docker's image id. */
  readonly id: string;
  /** 'docker.io/library/web:latest' style full references. */
  readonly tags: readonly string[];
  /** 'name@sha256:<manifest digest>'; a loaded image has one too (of the manifest we keep). */
  readonly digests: readonly string[];
  readonly config: ImageConfig;
  readonly sizeBytes: number;
  /** 'sha256:...' of each uncompressed layer, lowest first. */
  readonly diffIds: readonly string[];
}

export interface ImageProgress {
  /** Short layer id or the reference. */
  readonly id: string;
  /** Docker's words: 'Pulling fs layer', 'Downloading', 'Extracting', 'Pull complete', ... */
  readonly status: string;
  readonly currentBytes?: number;
  readonly totalBytes?: number;
}

export interface RegistryAuth {
  readonly username?: string;
  readonly password?: string;
  readonly identityToken?: string;
}

export interface PullOptions {
  readonly auth?: RegistryAuth;
  readonly onProgress?: (progress: ImageProgress) => void;
  readonly signal?: AbortSignal;
}

/**
 * All references accept Docker's short forms ('web', 'web:1', 'host:5000/a/b@sha256:...', id or id
 * prefix). Bad ones: SwarmError 'invalid'. Unknown: 'not_found' "no such image: ...".
 */
export interface ImageStore {
  list(): readonly Image[];
  find(reference: string): Image | undefined;
  /**
   * Unpacked layer directories to mount, absolute, lowest first; unpacks what is not yet. No
   * directory comes twice, and none that a layer above hides wholly.
   */
  layers(imageId: string): Promise<readonly string[]>;
  /** docker-archive or OCI layout tar (may be gzip or zstd); returns what was loaded. */
  load(tar: AsyncIterable<Uint8Array>, onProgress?: (p: ImageProgress) => void): Promise<Image[]>;
  /** A root file system tar as a one-layer image. `changes` are Dockerfile lines (CMD, ...). */
  import(
    tar: AsyncIterable<Uint8Array>,
    reference: string,
    changes?: readonly string[],
  ): Promise<Image>;
  pull(reference: string, options?: PullOptions): Promise<Image>;
  /** Untags, or removes when it was the last tag; returns what happened, in Docker's words. */
  remove(reference: string, options: { force: boolean }): Promise<ImageRemoval[]>;
  tag(source: string, target: string): Promise<void>;
  /**
   * The images as one archive (docker-archive and OCI layout at once) that `load` here or anywhere
   * takes, digests kept; the same images give the same bytes. Errors come when it is read.
   */
  save(references: readonly string[]): AsyncIterable<Uint8Array>;
  /** Marks an image in use by a container, so that remove refuses it; returns the release. */
  hold(imageId: string, containerId: string): () => void;
  /** Ends the worker thread and waits for it; what runs fails as cancelled. */
  close(): Promise<void>;
}

export interface ImageRemoval {
  readonly untagged?: string;
  readonly deleted?: string;
}
