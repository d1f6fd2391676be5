/**
 * Decides what `image rm` does, in Docker's way: a name is untagged, and the image goes with its
 * last name; an id takes all its names with it. An image that a container uses is refused without
 * force; with force it loses its names and goes when the container does. Pure: reads the catalog,
 * returns the plan.
 */
import { SwarmError } from '../../base/errors.ts';
import { shortId } from '../../base/id.ts';
import type { Catalog, CatalogDraft, ImageRecord } from './catalog.ts';
import {
  familiarReference,
  formatReference,
  parseReference,
  type Reference,
  repositoryOf,
  shortDigest,
  withDefaultTag,
} from './reference.ts';
import type { ImageRemoval } from './types.ts';

export interface RemovalPlan {
  readonly record: ImageRecord;
  readonly tags: readonly string[];
  readonly pulledAs: readonly string[];
  /** The image itself goes: at once, or ('doomed') when no container uses it any more. */
  readonly image: 'kept' | 'deleted' | 'doomed';
}

export function noSuchImage(text: string): SwarmError {
  // A colon before a slash is a registry's port.
  const last = text.slice(text.lastIndexOf('/') + 1);
  const name = /[:@]/.test(last) ? text : `${text}:latest`;
  return new SwarmError('not_found', `No such image: ${name}`);
}

/** `users`: containers that use the image. SwarmError not_found or conflict. */
export function planRemoval(
  catalog: Catalog,
  text: string,
  force: boolean,
  users: readonly string[],
): RemovalPlan {
  const record = catalog.find(text);
  if (record === undefined) throw noSuchImage(text);
  const reference = namedBy(catalog, text, record);
  const tags = catalog.tagsOf(record.id);
  const short = shortDigest(record.id);
  const plan = (
    untag: readonly string[],
    digests: readonly string[],
    gone: boolean,
  ): RemovalPlan => ({
    record,
    tags: untag,
    pulledAs: digests,
    image: gone ? (users.length > 0 ? 'doomed' : 'deleted') : 'kept',
  });
  const refuseUse = (what: string): void => {
    if (users.length === 0 || force) return;
    throw new SwarmError(
      'conflict',
      `conflict: ${what} (must force) - container ${shortId(users[0])} is using its ` +
        `referenced image ${short}`,
    );
  };
  if (reference === undefined) {
    const repositories = new Set(tags.map((tag) => repositoryOf(parseReference(tag))));
    if (repositories.size > 1 && !force) {
      throw new SwarmError(
        'conflict',
        `conflict: unable to delete ${short} (must be forced) - image is referenced in multiple ` +
          'repositories',
      );
    }
    refuseUse(`unable to delete ${short}`);
    return plan(tags, record.pulledAs, true);
  }
  const repository = repositoryOf(reference);
  const inRepository = (name: string): boolean => name.startsWith(`${repository}@`);
  if (reference.digest !== undefined) {
    const digests = record.pulledAs.filter((name) => name === `${repository}@${reference.digest}`);
    const untag = tags.filter((tag) => repositoryOf(parseReference(tag)) === repository);
    const gone = untag.length === tags.length && digests.length === record.pulledAs.length;
    if (gone) refuseUse(`unable to remove repository reference "${text}"`);
    return plan(untag, digests, gone);
  }
  const tag = formatReference(reference);
  const others = tags.filter((other) => other !== tag);
  const sameRepository = others.some((other) => repositoryOf(parseReference(other)) === repository);
  const digests = sameRepository ? [] : record.pulledAs.filter(inRepository);
  const gone = others.length === 0 && digests.length === record.pulledAs.length;
  if (gone) refuseUse(`unable to remove repository reference "${text}"`);
  return plan([tag], digests, gone);
}

/** The name `text` found the image by, or undefined when it was an id. */
function namedBy(catalog: Catalog, text: string, record: ImageRecord): Reference | undefined {
  if (text.startsWith('sha256:')) return undefined;
  let reference: Reference;
  try {
    reference = withDefaultTag(parseReference(text));
  } catch {
    return undefined; // 64 hexadecimal digits are no name; the id was found already
  }
  return catalog.findReference(reference) === record ? reference : undefined;
}

export function applyRemoval(draft: CatalogDraft, plan: RemovalPlan): void {
  for (const tag of plan.tags) draft.tags.delete(tag);
  if (plan.image === 'deleted') {
    draft.images.delete(plan.record.id);
    return;
  }
  const pulledAs = plan.record.pulledAs.filter((name) => !plan.pulledAs.includes(name));
  draft.images.set(plan.record.id, {
    ...plan.record,
    pulledAs,
    doomed: plan.image === 'doomed',
  });
}

/** What happened, in Docker's words; `kept`: layers that other images have too. */
export function describeRemoval(plan: RemovalPlan, kept: ReadonlySet<string>): ImageRemoval[] {
  const names = [...plan.tags, ...plan.pulledAs].map((name) => ({
    untagged: familiarReference(name),
  }));
  if (plan.image !== 'deleted') return names;
  const layers = plan.record.diffIds.filter((diffId) => !kept.has(diffId));
  return [
    ...names,
    { deleted: plan.record.id },
    ...layers.toReversed().map((deleted) => ({ deleted })),
  ];
}
