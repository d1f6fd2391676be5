/**
 * Which images there are and what they are called: images.json, replaced atomically on each change,
 * so that a change is there whole or not at all. Memory follows the disk, never the other way
 * round. It refers only to blobs that are in place already. It neither fetches nor removes any
 * content.
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { hasCode, messageOf, SwarmError } from '../../base/errors.ts';
import { Serial } from '../../base/queue.ts';
import { replaceFile } from './disk.ts';
import {
  formatReference,
  isDigest,
  parseReference,
  type Reference,
  repositoryOf,
  withDefaultTag,
} from './reference.ts';
import type { Image, ImageConfig } from './types.ts';

export interface ImageRecord {
  /** Digest of the configuration. */
  readonly id: string;
  /** Digest of the platform's manifest. */
  readonly manifest: string;
  /**
   * Digests the image is known by (index or manifest), newest last; the first names loaded tags.
   */
  readonly roots: readonly string[];
  /** 'docker.io/library/web@sha256:...' it was pulled as. */
  readonly pulledAs: readonly string[];
  readonly config: ImageConfig;
  readonly sizeBytes: number;
  readonly diffIds: readonly string[];
  /** Layer blobs, lowest first. */
  readonly layers: readonly string[];
  /** All blobs it needs, these included. */
  readonly blobs: readonly string[];
  /** Removed by force while a container used it: goes when the container does. */
  readonly doomed: boolean;
  /** When it last got a name; not known of images from before this was noted. */
  readonly taggedAtMs?: number;
  /** When a container last used it, noted now and then. */
  readonly usedAtMs?: number;
  /** The boot it was pulled in, as long as it may not be on disk yet; absent when it is. */
  readonly unsyncedBoot?: string;
}

export interface CatalogState {
  readonly images: ReadonlyMap<string, ImageRecord>;
  /** Full reference with tag -> image id. */
  readonly tags: ReadonlyMap<string, string>;
}

export interface CatalogDraft {
  readonly images: Map<string, ImageRecord>;
  readonly tags: Map<string, string>;
}

interface Stored {
  readonly version: number;
  readonly images: readonly ImageRecord[];
  readonly tags: Readonly<Record<string, string>>;
}

const VERSION = 1;
const MAX_WAITING = 1000;
const ID_PREFIX = /^(?:sha256:)?([a-f0-9]{1,64})$/;

export class Catalog {
  readonly #file: string;
  readonly #changes = new Serial(MAX_WAITING);
  #state: CatalogState;

  private constructor(file: string, state: CatalogState) {
    this.#file = file;
    this.#state = state;
  }

  /** Reads `directory`/images.json; SwarmError corrupt, naming the file, when it cannot be used. */
  static async open(directory: string): Promise<Catalog> {
    const file = path.join(directory, 'images.json');
    let text: string | undefined;
    try {
      text = await readFile(file, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    return new Catalog(file, text === undefined ? emptyState() : parseState(text, file));
  }

  get state(): CatalogState {
    return this.#state;
  }

  /** Changes a copy, stores it, and only then makes it the state. An error changes nothing. */
  change<T>(edit: (draft: CatalogDraft) => T): Promise<T> {
    return this.#changes.run(async () => {
      const draft = { images: new Map(this.#state.images), tags: new Map(this.#state.tags) };
      const result = edit(draft);
      const stored: Stored = {
        version: VERSION,
        images: [...draft.images.values()],
        tags: Object.fromEntries([...draft.tags].sort()),
      };
      await replaceFile(this.#file, `${JSON.stringify(stored)}\n`);
      this.#state = draft;
      return result;
    });
  }

  /** Tags of an image, sorted. */
  tagsOf(id: string): string[] {
    return [...this.#state.tags]
      .filter(([, image]) => image === id)
      .map(([tag]) => tag)
      .sort();
  }

  /** 'name@sha256:...' of an image: as pulled, and for each tag's name by the manifest we keep. */
  digestsOf(record: ImageRecord): string[] {
    const names = new Set(record.pulledAs);
    for (const tag of this.tagsOf(record.id)) {
      const repository = repositoryOf(parseReference(tag));
      const pulled = record.pulledAs.some((name) => name.startsWith(`${repository}@`));
      if (!pulled) names.add(`${repository}@${record.roots[0]}`);
    }
    return [...names].sort();
  }

  /** By name, name with digest, id or unambiguous id prefix. SwarmError invalid for a bad form. */
  find(text: string): ImageRecord | undefined {
    const { images } = this.#state;
    if (isDigest(text)) return images.get(text);
    const prefix = ID_PREFIX.exec(text)?.[1];
    let reference: Reference | undefined;
    try {
      reference = withDefaultTag(parseReference(text));
    } catch (error) {
      if (prefix === undefined || !hasCode(error, 'invalid')) throw error;
    }
    const named = reference === undefined ? undefined : this.findReference(reference);
    if (named !== undefined || prefix === undefined) return named;
    const matches = [...images.values()].filter(
      (image) => image.id.startsWith(`sha256:${prefix}`) && !image.doomed,
    );
    if (matches.length > 1) {
      throw new SwarmError(
        'invalid',
        `the id prefix "${text}" fits ${matches.length} images: write more of it`,
      );
    }
    return matches[0];
  }

  /** By tag, or by digest within the reference's repository (its tag is then not looked at). */
  findReference(reference: Reference): ImageRecord | undefined {
    const { images, tags } = this.#state;
    const { digest } = reference;
    if (digest === undefined) {
      const id = tags.get(formatReference(reference));
      return id === undefined ? undefined : images.get(id);
    }
    const repository = repositoryOf(reference);
    for (const record of images.values()) {
      if (!record.roots.includes(digest) && record.manifest !== digest) continue;
      if (record.pulledAs.includes(`${repository}@${digest}`)) return record;
      const tagged = this.tagsOf(record.id).some(
        (tag) => repositoryOf(parseReference(tag)) === repository,
      );
      if (tagged) return record;
    }
    return undefined;
  }

  toImage(record: ImageRecord): Image {
    return {
      id: record.id,
      tags: this.tagsOf(record.id),
      digests: this.digestsOf(record),
      config: record.config,
      sizeBytes: record.sizeBytes,
      diffIds: record.diffIds,
      taggedAtMs: record.taggedAtMs ?? 0,
    };
  }
}

/** `fresh` joined with what is known of the same image already. */
export function mergeRecord(known: ImageRecord | undefined, fresh: ImageRecord): ImageRecord {
  if (known === undefined) return fresh;
  const union = (left: readonly string[], right: readonly string[]): string[] => [
    ...new Set([...left, ...right]),
  ];
  return {
    ...known,
    roots: union(known.roots, fresh.roots),
    pulledAs: union(known.pulledAs, fresh.pulledAs),
    blobs: union(known.blobs, fresh.blobs),
    doomed: false,
  };
}

function emptyState(): CatalogState {
  return { images: new Map(), tags: new Map() };
}

function parseState(text: string, file: string): CatalogState {
  const refuse = (why: string, cause?: unknown): SwarmError =>
    new SwarmError(
      'corrupt',
      `${file} is damaged (${why}): restore it, or move the directory away and load images again`,
      { cause },
    );
  let stored: Stored;
  try {
    stored = JSON.parse(text) as Stored;
  } catch (error) {
    throw refuse(messageOf(error), error);
  }
  if (stored?.version !== VERSION) throw refuse(`version ${stored?.version}, not ${VERSION}`);
  if (!Array.isArray(stored.images) || typeof stored.tags !== 'object') {
    throw refuse('images or tags are missing');
  }
  const images = new Map<string, ImageRecord>();
  for (const record of stored.images as readonly ImageRecord[]) {
    if (!isDigest(record?.id) || !Array.isArray(record.blobs) || !Array.isArray(record.diffIds)) {
      throw refuse('an image has no id, blobs or layers');
    }
    images.set(record.id, record);
  }
  const tags = new Map(Object.entries(stored.tags));
  for (const [tag, id] of tags) {
    if (!images.has(id)) throw refuse(`the tag ${tag} names no image`);
  }
  return { images, tags };
}
