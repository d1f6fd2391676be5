/**
 * Named volumes of this host: directories that outlive containers. A volume may be a mount of
 * something else (options type, o, device), which is made when the first container uses it.
 */
export interface Volume {
  readonly name: string;
  readonly driver: 'local';
  readonly labels: Readonly<Record<string, string>>;
  readonly options: Readonly<Record<string, string>>;
  readonly createdAtMs: number;
  /** Absolute host path of its contents. */
  readonly mountpoint: string;
  /** Made for one container without being named. */
  readonly anonymous: boolean;
}

export interface VolumeRequest {
  /** '' = a new one with a name of 64 hex digits. */
  readonly name: string;
  /** '' or 'local'. */
  readonly driver: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly options: Readonly<Record<string, string>>;
}

/** What a new volume is filled with when a container first uses it. */
export interface CopyUp {
  /** Unpacked layer directories, lowest first. */
  readonly layers: readonly string[];
  /** Absolute path in the image. */
  readonly path: string;
}

export interface VolumeStore {
  /**
   * A volume of this name that is there is returned as it is; SwarmError conflict when it was made
   * with other options. SwarmError invalid: bad name or options; unsupported: another driver.
   */
  create(request: VolumeRequest): Promise<Volume>;
  get(name: string): Volume | undefined;
  list(): readonly Volume[];
  /** SwarmError conflict naming the users, not_found. */
  remove(name: string): Promise<void>;
  /** Marks it in use by a container (created, running or not); idempotent. */
  hold(name: string, containerId: string): void;
  release(name: string, containerId: string): void;
  /** Container ids that hold it. */
  users(name: string): readonly string[];
  /** Makes its mount when it has one; before a container that uses it starts. */
  mount(name: string): Promise<void>;
  /** Copies what the image has at the path into a volume that is empty. */
  fill(name: string, from: CopyUp): Promise<void>;
  /** Bytes of its files; -1 when it is a mount of something else. */
  sizeBytes(name: string): Promise<number>;
}
