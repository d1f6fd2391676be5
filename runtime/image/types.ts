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
  /** When it last got a name on this host; 0 when that is not known. */
  readonly taggedAtMs: number;
}

/** A manifest in a registry, or here: what a service pins. */
export interface Distribution {
  readonly mediaType: string;
  readonly digest: string;
  readonly sizeBytes: number;
  readonly platforms: readonly Platform[];
}

export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
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
  /** A bearer token, sent as it is. */
  readonly registryToken?: string;
}

export interface TransferOptions {
  readonly auth?: RegistryAuth;
  readonly onProgress?: (progress: ImageProgress) => void;
  readonly signal?: AbortSignal;
}

export interface PullOptions extends TransferOptions {
  /** Instead of this host's own. */
  readonly platform?: Platform;
  /** How long a connection may take to open. */
  readonly connectMs?: number;
}

export interface ResolveOptions {
  readonly auth?: RegistryAuth;
  readonly signal?: AbortSignal;
  /** How long a connection may take to open. */
  readonly connectMs?: number;
}

export interface PushedImage {
  readonly tag: string;
  readonly digest: string;
  readonly sizeBytes: number;
}

export interface LayerUse {
  readonly diffId: string;
  readonly sizeBytes: number;
}

/** What images take on this host's disk. */
export interface ImageUsage {
  /** Unpacked layers, each once. */
  readonly layersBytes: number;
  readonly images: readonly {
    readonly id: string;
    /** Of its unpacked layers, those that other images have too. */
    readonly sharedBytes: number;
    readonly uniqueBytes: number;
    /** Containers of this host that use it. */
    readonly containers: number;
  }[];
}

export interface ImagePruned {
  readonly removed: readonly ImageRemoval[];
  /** Freed on the disk: layers and what they were unpacked from. */
  readonly reclaimedBytes: number;
}

/** When unused images go; without either bound none does. */
export interface GarbagePolicy {
  /** What all images may take on the disk. */
  readonly maxBytes?: number;
  /** How long one may be unused. */
  readonly maxUnusedMs?: number;
  /** How long one stays after its last use whatever else; default 10 min. */
  readonly restMs?: number;
}

export interface ImageEvent {
  readonly action: 'pull' | 'push' | 'load' | 'import' | 'save' | 'tag' | 'untag' | 'delete';
  /** The image's id, or for pull and push the name as people write it. */
  readonly id: string;
  readonly name: string;
}

export type Tell = (progress: ImageProgress) => void;

export interface LoadedImage extends Image {
  /** The full references that the archive had for it. */
  readonly loadedAs: readonly string[];
}

/**
 * All references accept Docker's short forms ('web', 'web:1', 'host:5000/a/b@sha256:...', id or id
 * prefix). Bad ones: SwarmError 'invalid'. Unknown: 'not_found' "No such image: ...".
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
  load(
    tar: AsyncIterable<Uint8Array>,
    onProgress?: (p: ImageProgress) => void,
  ): Promise<LoadedImage[]>;
  /** A root file system tar as a one-layer image. `changes` are Dockerfile lines (CMD, ...). */
  import(
    tar: AsyncIterable<Uint8Array>,
    reference: string,
    changes?: readonly string[],
    options?: ImportOptions,
  ): Promise<Image>;
  /** An image of what `imageId` is and one layer more, an uncompressed tar with whiteouts. */
  commit(
    imageId: string,
    layer: AsyncIterable<Uint8Array>,
    reference: string,
    options: CommitOptions,
  ): Promise<Image>;
  pull(reference: string, options?: PullOptions): Promise<Image>;
  /** Tags of a repository in its registry. */
  remoteTags(repository: string, options?: ResolveOptions): Promise<readonly string[]>;
  /** What the registry has under the name now. SwarmError as pull. */
  resolve(reference: string, options?: ResolveOptions): Promise<Distribution>;
  /** As `resolve`, from what is here; undefined when the image is not. */
  local(reference: string): Promise<Distribution | undefined>;
  /** Sends the image to the registry its name says: 'host/name:tag' has to be a tag of it. */
  push(reference: string, options?: TransferOptions): Promise<PushedImage>;
  /** Whether `server` ('host[:port]', '' = Docker Hub) lets this user in: else unauthorized. */
  login(server: string, auth: RegistryAuth): Promise<void>;
  /** The image's configuration as its maker wrote it. */
  configuration(imageId: string): Promise<Readonly<Record<string, unknown>>>;
  /** Its layers with their unpacked sizes, lowest first. */
  layerUse(imageId: string): readonly LayerUse[];
  usage(): ImageUsage;
  /** Removes images that no container uses and that `unwanted` says so of. */
  prune(unwanted: (image: Image) => boolean): Promise<ImagePruned>;
  /** Removes images that no container uses, as far as the policy says. */
  collect(policy: GarbagePolicy): Promise<ImagePruned>;
  /** Calls `listener` after each change; returns how to end that. */
  onEvent(listener: (event: ImageEvent) => void): () => void;
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

/** What an imported image says of itself. */
export interface ImportOptions {
  readonly comment?: string;
  /** This host's unless given. */
  readonly platform?: Platform;
}

/** What an image made of a container says of itself. */
export interface CommitOptions {
  readonly author: string;
  readonly comment: string;
  /** For its history. */
  readonly createdBy: string;
  /** What containers of it are to be, as image configurations have it ('config'). */
  readonly config: Readonly<Record<string, unknown>>;
  /** Dockerfile lines (CMD, ...) applied to that. */
  readonly changes: readonly string[];
}

export interface ImageRemoval {
  readonly untagged?: string;
  readonly deleted?: string;
}
