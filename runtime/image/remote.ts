/**
 * The registries as the image store sees them: which of them to ask for a reference (mirrors before
 * Docker Hub), with which credentials and time-outs. A registry that could not be reached is
 * remembered for a moment, so that one which is away holds up one question and not each. Keeps no
 * images.
 */
import type { Clock } from '../../base/clock.ts';
import { hasCode, SwarmError } from '../../base/errors.ts';
import { choosePlatform, hostPlatform, parseConfig, parseManifest } from './manifest.ts';
import { DEFAULT_DOMAIN, DEFAULT_TAG, type Reference } from './reference.ts';
import { type FetchedManifest, Registry } from './registry.ts';
import type { RegistryHosts } from './registryHosts.ts';
import type { SessionOptions } from './registrySession.ts';
import type { Distribution, Platform, RegistryAuth, ResolveOptions } from './types.ts';

/** How long a registry that could not be reached is not asked again by `resolve`. */
const AWAY_MS = 15_000;
const MAX_AWAY = 1000;

export class RemoteImages {
  readonly #clock: Clock;
  readonly #hosts: RegistryHosts;
  readonly #away = new Map<string, { readonly untilMs: number; readonly error: SwarmError }>();

  constructor(clock: Clock, hosts: RegistryHosts) {
    this.#clock = clock;
    this.#hosts = hosts;
  }

  session(options: ResolveOptions): SessionOptions {
    return {
      clock: this.#clock,
      hosts: this.#hosts,
      auth: options.auth,
      signal: options.signal,
      connectMs: options.connectMs,
    };
  }

  /** Where to look for an image of `domain`, in this order; the registry itself is the last. */
  sources(domain: string, options: ResolveOptions): Registry[] {
    const session = this.session(options);
    const mirrors = domain === DEFAULT_DOMAIN ? this.#hosts.mirrors : [];
    return [
      ...mirrors.map((mirror) => new Registry(domain, { ...session, mirror })),
      new Registry(domain, session),
    ];
  }

  /** What the registry has under the name. SwarmError not_found, unauthorized, unavailable. */
  async resolve(reference: Reference, options: ResolveOptions): Promise<Distribution> {
    const away = this.#away.get(reference.domain);
    if (away !== undefined && away.untilMs > this.#clock.nowMs()) throw away.error;
    this.#away.delete(reference.domain);
    const sources = this.sources(reference.domain, options);
    for (const [at, registry] of sources.entries()) {
      try {
        return await describe(registry, reference);
      } catch (error) {
        if (at < sources.length - 1 && !hasCode(error, 'cancelled')) continue;
        this.#noteAway(reference.domain, error);
        throw error;
      }
    }
    throw new SwarmError('internal', 'no registry to ask');
  }

  /** Of the first source that has any; its own registry has the last word. */
  async tags(
    domain: string,
    repository: string,
    options: ResolveOptions,
  ): Promise<readonly string[]> {
    const sources = this.sources(domain, options);
    const [registry] = sources.slice(-1);
    for (const mirror of sources.slice(0, -1)) {
      try {
        return await mirror.tags(repository);
      } catch (error) {
        if (hasCode(error, 'cancelled')) throw error;
      }
    }
    return registry.tags(repository);
  }

  #noteAway(domain: string, error: unknown): void {
    if (!hasCode(error, 'unavailable') || error.detail['transport'] === undefined) return;
    if (this.#away.size >= MAX_AWAY) this.#away.clear();
    this.#away.set(domain, { untilMs: this.#clock.nowMs() + AWAY_MS, error });
  }

  async login(server: string, auth: RegistryAuth): Promise<void> {
    await new Registry(server, this.session({ auth })).checkLogin();
  }
}

async function describe(registry: Registry, reference: Reference): Promise<Distribution> {
  const top = await registry.manifest(
    reference.path,
    reference.digest ?? reference.tag ?? DEFAULT_TAG,
  );
  const parsed = parseManifest(top.bytes);
  if (parsed.kind === 'manifest') {
    const platform = await platformOf(registry, reference.path, parsed.config.digest);
    return distributionOf(top, platform === undefined ? [] : [platform]);
  }
  const platforms = parsed.manifests.flatMap(({ platform }) => platform ?? []);
  const known = platforms.filter((platform) => platform.os !== 'unknown');
  if (known.length === 0) choosePlatform(parsed, hostPlatform());
  return distributionOf(top, known);
}

async function platformOf(
  registry: Registry,
  repository: string,
  digest: string,
): Promise<Platform | undefined> {
  const { config } = parseConfig(await registry.document(repository, digest));
  return config.architecture === ''
    ? undefined
    : { os: config.os, architecture: config.architecture };
}

function distributionOf(top: FetchedManifest, platforms: readonly Platform[]): Distribution {
  return {
    mediaType: top.mediaType,
    digest: top.digest,
    sizeBytes: top.bytes.byteLength,
    platforms,
  };
}
