/**
 * Docker's image reference grammar (distribution/reference): `[domain/]path[:tag][@digest]`, the
 * familiar short forms that people write and the full ones that are stored. Pure text: it neither
 * looks anything up nor knows what exists.
 */
import { SwarmError } from '../../base/errors.ts';
import { shortId } from '../../base/id.ts';

export interface Reference {
  /** 'docker.io', 'localhost:5000'. */
  readonly domain: string;
  /** 'library/web'. */
  readonly path: string;
  readonly tag: string | undefined;
  /** 'sha256:<64 hex>'. */
  readonly digest: string | undefined;
}

export const DEFAULT_DOMAIN = 'docker.io';
const LEGACY_DOMAIN = 'index.docker.io';
const OFFICIAL = 'library/';
export const DEFAULT_TAG = 'latest';
/** The grammar's own bound on domain and path together. */
const MAX_NAME_LENGTH = 255;

const LABEL = '(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])';
const DOMAIN = `(?:${LABEL}(?:\\.${LABEL})*|\\[(?:[a-fA-F0-9:]+)\\])(?::[0-9]+)?`;
const COMPONENT = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*';
const DOMAIN_PATTERN = new RegExp(`^${DOMAIN}$`);
const PATH_PATTERN = new RegExp(`^${COMPONENT}(?:/${COMPONENT})*$`);
const TAG_PATTERN = /^\w[\w.-]{0,127}$/;
const DIGEST_PATTERN = /^sha256:[a-f0-9]{64}$/;
const DIGEST_SHAPE = /^[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}$/;
const ID_PATTERN = /^[a-f0-9]{64}$/;

function invalid(text: string, why: string): SwarmError {
  return new SwarmError('invalid', `invalid reference format: "${text}": ${why}`);
}

/**
 * 'web', 'web:1', 'host:5000/a/b@sha256:...' -> its parts, domain and 'library/' filled in, the tag
 * left undefined when none is written. Throws SwarmError invalid 'invalid reference format: ...'.
 */
export function parseReference(text: string): Reference {
  if (text === '') throw invalid(text, 'an image name is needed, like web or web:1');
  if (ID_PATTERN.test(text)) {
    throw invalid(text, 'a name cannot be 64 hexadecimal digits, as an image id is');
  }
  let rest = text;
  let digest: string | undefined;
  const at = rest.indexOf('@');
  if (at >= 0) {
    digest = rest.slice(at + 1);
    rest = rest.slice(0, at);
    if (!DIGEST_SHAPE.test(digest)) {
      throw invalid(text, 'after @ a digest is needed: sha256: and 64 hexadecimal digits');
    }
    if (!DIGEST_PATTERN.test(digest)) {
      throw invalid(text, 'a digest is sha256: and 64 lower-case hexadecimal digits');
    }
  }
  let tag: string | undefined;
  const colon = rest.lastIndexOf(':');
  if (colon > rest.lastIndexOf('/') && !(colon >= 0 && rest.slice(colon).includes(']'))) {
    tag = rest.slice(colon + 1);
    rest = rest.slice(0, colon);
    if (!TAG_PATTERN.test(tag)) {
      throw invalid(text, 'a tag is up to 128 letters, digits, ".", "_" and "-"');
    }
  }
  const { domain, path } = splitDomain(rest);
  if (!DOMAIN_PATTERN.test(domain)) throw invalid(text, `"${domain}" is no registry address`);
  if (/[A-Z]/.test(path)) {
    throw new SwarmError(
      'invalid',
      `invalid reference format: "${text}": repository name must be lowercase`,
    );
  }
  if (!PATH_PATTERN.test(path)) {
    throw invalid(text, 'a name is made of a-z, 0-9 and ".", "_", "-" between them');
  }
  if (domain.length + 1 + path.length > MAX_NAME_LENGTH) {
    throw invalid(text, `repository name must not be more than ${MAX_NAME_LENGTH} characters`);
  }
  return { domain, path, tag, digest };
}

function splitDomain(name: string): { domain: string; path: string } {
  const slash = name.indexOf('/');
  const first = slash < 0 ? '' : name.slice(0, slash);
  let domain = DEFAULT_DOMAIN;
  let path = name;
  if (first !== '' && (/[.:[]/.test(first) || first === 'localhost' || /[A-Z]/.test(first))) {
    domain = first;
    path = name.slice(slash + 1);
  }
  if (domain === LEGACY_DOMAIN) domain = DEFAULT_DOMAIN;
  if (domain === DEFAULT_DOMAIN && !path.includes('/')) path = `${OFFICIAL}${path}`;
  return { domain, path };
}

/** With ':latest' when neither tag nor digest is written. */
export function withDefaultTag(reference: Reference): Reference {
  if (reference.tag !== undefined || reference.digest !== undefined) return reference;
  return { ...reference, tag: DEFAULT_TAG };
}

/** 'docker.io/library/web'. */
export function repositoryOf(reference: Reference): string {
  return `${reference.domain}/${reference.path}`;
}

/** 'docker.io/library/web:1@sha256:...', whatever of it is there. */
export function formatReference(reference: Reference): string {
  const tag = reference.tag === undefined ? '' : `:${reference.tag}`;
  const digest = reference.digest === undefined ? '' : `@${reference.digest}`;
  return `${repositoryOf(reference)}${tag}${digest}`;
}

/** The shortest form Docker prints: 'web:1', 'user/web:1', 'host:5000/web:1'. */
export function familiarReference(reference: Reference | string): string {
  const full = typeof reference === 'string' ? reference : formatReference(reference);
  if (!full.startsWith(`${DEFAULT_DOMAIN}/`)) return full;
  const path = full.slice(DEFAULT_DOMAIN.length + 1);
  const isOfficial = path.startsWith(OFFICIAL) && !path.slice(OFFICIAL.length).includes('/');
  const short = isOfficial ? path.slice(OFFICIAL.length) : path;
  // What would be read as another registry's, or as an id, has no shorter form.
  const read = splitDomain(short);
  const isSame = read.domain === DEFAULT_DOMAIN && read.path === path && !ID_PATTERN.test(short);
  return isSame ? short : full;
}

/** Whether `text` is 'sha256:<64 hex>'. */
export function isDigest(text: unknown): text is string {
  return typeof text === 'string' && DIGEST_PATTERN.test(text);
}

/** 'sha256:<hex>' -> '<hex>'. */
export function hexOf(digest: string): string {
  if (!isDigest(digest)) {
    throw new SwarmError('invalid', `"${digest}" is no sha256 digest`);
  }
  return digest.slice('sha256:'.length);
}

/** As progress and messages name a blob or an image. */
export function shortDigest(digest: string): string {
  return shortId(hexOf(digest));
}
