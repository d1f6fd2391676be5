/**
 * Image manifests, indexes and configurations, Docker's schema 2 and OCI's: read and checked, the
 * right platform chosen, and written where an archive has none. Pure: bytes in, records out; what
 * does not fit is refused with SwarmError invalid. Schema 1 is refused as unsupported.
 */
import { SwarmError } from '../../base/errors.ts';
import type { HealthCheck } from '../container/types.ts';
import { isDigest } from './reference.ts';
import type { ImageConfig, Platform } from './types.ts';

export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
export const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';
export const OCI_CONFIG = 'application/vnd.oci.image.config.v1+json';
export const OCI_LAYER = 'application/vnd.oci.image.layer.v1.tar';
export const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json';
export const DOCKER_INDEX = 'application/vnd.docker.distribution.manifest.list.v2+json';
const NANOSECONDS_PER_MS = 1_000_000;
const DOCKER_SCHEMA_1 = 'application/vnd.docker.distribution.manifest.v1';

/** The kernel takes 500 lower directories in one overlay mount; Docker stops at 127. */
export const MAX_LAYERS = 400;
const MAX_INDEX_ENTRIES = 1000;

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly sizeBytes: number;
  readonly platform: Platform | undefined;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface Manifest {
  readonly kind: 'manifest';
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
}

export interface Index {
  readonly kind: 'index';
  readonly manifests: readonly Descriptor[];
}

type Json = Record<string, unknown>;

function broken(what: string): SwarmError {
  return new SwarmError('invalid', `not a usable image manifest: ${what}`);
}

function parseJson(bytes: Uint8Array, what: string): Json {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch (error) {
    throw new SwarmError('invalid', `${what} is not JSON`, { cause: error });
  }
  if (!isObject(value)) throw new SwarmError('invalid', `${what} is no JSON object`);
  return value;
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function textOr(value: unknown, otherwise: string): string {
  return typeof value === 'string' ? value : otherwise;
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
}

function textMap(value: unknown): Record<string, string> {
  if (!isObject(value)) return {};
  return Object.fromEntries(
    Object.entries(value).filter((pair): pair is [string, string] => typeof pair[1] === 'string'),
  );
}

function descriptorOf(value: unknown): Descriptor {
  if (!isObject(value)) throw broken('a descriptor is missing');
  const { digest, size, platform } = value;
  if (!isDigest(digest)) throw broken(`the digest ${JSON.stringify(digest)} is not sha256`);
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) {
    throw broken(`the size ${JSON.stringify(size)} of ${digest}`);
  }
  const described = isObject(platform) ? platform : undefined;
  const variant = described?.['variant'];
  return {
    mediaType: textOr(value['mediaType'], ''),
    digest,
    sizeBytes: size,
    platform:
      described === undefined
        ? undefined
        : {
            os: textOr(described['os'], ''),
            architecture: textOr(described['architecture'], ''),
            ...(typeof variant === 'string' ? { variant } : {}),
          },
    annotations: textMap(value['annotations']),
  };
}

/** A manifest or an index, whichever `bytes` are. */
export function parseManifest(bytes: Uint8Array): Manifest | Index {
  const json = parseJson(bytes, 'the manifest');
  const mediaType = textOr(json['mediaType'], '');
  if (json['schemaVersion'] === 1 || mediaType.startsWith(DOCKER_SCHEMA_1)) {
    throw new SwarmError(
      'unsupported',
      'the image has a schema 1 manifest, obsolete since 2017: push it again with a newer client',
    );
  }
  if (Array.isArray(json['manifests'])) {
    if ('layers' in json) throw broken('it has both layers and manifests');
    if (json['manifests'].length > MAX_INDEX_ENTRIES) {
      throw broken(`an index of more than ${MAX_INDEX_ENTRIES} entries`);
    }
    return { kind: 'index', manifests: json['manifests'].map(descriptorOf) };
  }
  if (!Array.isArray(json['layers'])) throw broken('it lists neither layers nor manifests');
  if (json['layers'].length > MAX_LAYERS) {
    throw broken(`it has ${json['layers'].length} layers; at most ${MAX_LAYERS} can be mounted`);
  }
  const layers = json['layers'].map(descriptorOf);
  if (layers.some((layer) => FOREIGN.test(layer.mediaType))) {
    throw new SwarmError(
      'unsupported',
      'the image has foreign (non-distributable) layers, which its registry does not hold: such ' +
        'images are for Windows hosts',
    );
  }
  const odd = layers.find((layer) => !isLayerType(layer.mediaType));
  if (odd !== undefined) {
    throw new SwarmError(
      'unsupported',
      `the image has a layer of type "${odd.mediaType}", which is no file system for containers`,
    );
  }
  return { kind: 'manifest', config: descriptorOf(json['config']), layers };
}

const FOREIGN = /\.image\.rootfs\.foreign\.|\.image\.layer\.nondistributable\./;

function isLayerType(mediaType: string): boolean {
  return /^application\/vnd\.(oci\.image\.layer\.v1\.tar|docker\.image\.rootfs\.diff\.tar)/.test(
    mediaType,
  );
}

const ARCHITECTURES: Readonly<Record<string, string>> = {
  x64: 'amd64',
  ia32: '386',
  arm64: 'arm64',
  arm: 'arm',
};

/** 'linux/arm64/v8', 'arm64' -> its parts. SwarmError invalid, with Docker's words. */
export function parsePlatform(text: string): Platform {
  const parts = text.toLowerCase().split('/');
  const wrong = (why: string): SwarmError =>
    new SwarmError('invalid', `"${text}" is an invalid component of "${text}": ${why}`);
  if (parts.length > 3 || !parts.every((part) => /^[a-z0-9_.-]+$/.test(part))) {
    throw wrong('write a platform as os/architecture, like linux/amd64');
  }
  const alone = parts.length === 1 && parts[0] !== 'linux';
  const [os, raw = hostPlatform().architecture, variant] = alone ? ['linux', parts[0]] : parts;
  const architecture = ALIASES[raw] ?? raw;
  return { os, architecture, ...(variant === undefined ? {} : { variant }) };
}

const ALIASES: Readonly<Record<string, string>> = {
  x86_64: 'amd64',
  'x86-64': 'amd64',
  aarch64: 'arm64',
  i386: '386',
};

/** This host's, in the names of the image specification. */
export function hostPlatform(): Platform {
  return { os: 'linux', architecture: ARCHITECTURES[process.arch] ?? process.arch };
}

/**
 * The entry of `index` for `platform`. SwarmError not_found in Docker's words when there is none.
 */
export function choosePlatform(index: Index, platform: Platform): Descriptor {
  const fits = index.manifests.filter(
    (entry) =>
      entry.platform === undefined ||
      (entry.platform.os === platform.os && entry.platform.architecture === platform.architecture),
  );
  const order = (entry: Descriptor): number => {
    if (entry.platform === undefined) return 2;
    const { variant } = entry.platform;
    if (platform.variant !== undefined) return variant === platform.variant ? 0 : 1;
    return variant === undefined || variant === 'v8' ? 0 : 1;
  };
  const best = fits.toSorted((left, right) => order(left) - order(right))[0];
  if (best === undefined) {
    const offered = [
      ...new Set(
        index.manifests
          .map((entry) => `${entry.platform?.os ?? '?'}/${entry.platform?.architecture ?? '?'}`)
          .filter((name) => !name.startsWith('unknown/')),
      ),
    ];
    throw new SwarmError(
      'not_found',
      `no matching manifest for ${platform.os}/${platform.architecture} in the manifest list ` +
        `entries (there are: ${offered.join(', ') || 'none'})`,
    );
  }
  return best;
}

export interface ParsedConfig {
  readonly config: ImageConfig;
  readonly diffIds: readonly string[];
}

/** An image configuration (OCI image-spec config.md; Docker's has the same fields). */
export function parseConfig(bytes: Uint8Array): ParsedConfig {
  const json = parseJson(bytes, 'the image configuration');
  const rootfs = isObject(json['rootfs']) ? json['rootfs'] : {};
  const diffIds = texts(rootfs['diff_ids']);
  if (!diffIds.every(isDigest)) throw broken('its configuration has a diff id that is not sha256');
  if (diffIds.length > MAX_LAYERS) {
    throw broken(`it has ${diffIds.length} layers; at most ${MAX_LAYERS} can be mounted`);
  }
  const os = textOr(json['os'], '');
  if (os !== '' && os !== 'linux') {
    throw new SwarmError('unsupported', `the image is made for ${os}; only linux images can run`);
  }
  const inner = isObject(json['config']) ? json['config'] : {};
  const createdAtMs = Date.parse(textOr(json['created'], ''));
  const keys = (value: unknown): string[] => (isObject(value) ? Object.keys(value).sort() : []);
  return {
    diffIds,
    config: {
      architecture: textOr(json['architecture'], ''),
      os: os === '' ? 'linux' : os,
      createdAtMs: Number.isFinite(createdAtMs) ? createdAtMs : 0,
      entrypoint: texts(inner['Entrypoint']),
      cmd: texts(inner['Cmd']),
      env: texts(inner['Env']),
      workingDir: textOr(inner['WorkingDir'], ''),
      user: textOr(inner['User'], ''),
      labels: textMap(inner['Labels']),
      exposedPorts: keys(inner['ExposedPorts']),
      volumes: keys(inner['Volumes']),
      stopSignal: textOr(inner['StopSignal'], ''),
      ...healthCheckOf(inner['Healthcheck']),
    },
  };
}

/** A Dockerfile's HEALTHCHECK; its durations are nanoseconds. */
function healthCheckOf(value: unknown): { healthCheck?: HealthCheck } {
  if (!isObject(value)) return {};
  const test = texts(value['Test']);
  if (test.length === 0) return {};
  const ms = (name: string): number => numberOr(value[name], 0) / NANOSECONDS_PER_MS;
  return {
    healthCheck: {
      test,
      intervalMs: ms('Interval'),
      timeoutMs: ms('Timeout'),
      retries: numberOr(value['Retries'], 0),
      startPeriodMs: ms('StartPeriod'),
      startIntervalMs: ms('StartInterval'),
    },
  };
}

function numberOr(value: unknown, fallback: number): number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : fallback;
}

/**
 * The manifest of an image that came without one (docker-archive, import, commit). Fixed form and
 * order of fields: the same image gives the same digest on every host.
 */
export function writeManifest(
  config: { digest: string; sizeBytes: number },
  layers: readonly { digest: string; sizeBytes: number; mediaType: string }[],
): Buffer {
  return Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      config: { mediaType: OCI_CONFIG, digest: config.digest, size: config.sizeBytes },
      layers: layers.map((layer) => ({
        mediaType: layer.mediaType,
        digest: layer.digest,
        size: layer.sizeBytes,
      })),
    }),
  );
}
