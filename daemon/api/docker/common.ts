/** Small shapes that Docker's JSON objects share: times, versions, names. */
import { msToNanoseconds, nanosecondsToMs } from '../../../base/duration.ts';
import type { ObjectBase } from '../../../model/types.ts';
import type { Fields } from '../fields.ts';

/** Go's zero time: what Docker prints for 'never'. */
export const ZERO_TIME = '0001-01-01T00:00:00Z';

/** What Docker calls layers joined by overlayfs; its clients and tools ask for it by name. */
export const STORAGE_DRIVER = 'overlay2';

/** Unix ms -> RFC 3339; 0 -> Go's zero time. */
export function timeOf(unixMs: number): string {
  return unixMs === 0 ? ZERO_TIME : new Date(unixMs).toISOString();
}

export interface DockerMeta {
  readonly ID: string;
  readonly Version: { readonly Index: number };
  readonly CreatedAt: string;
  readonly UpdatedAt: string;
}

export function metaOf(object: ObjectBase): DockerMeta {
  return {
    ID: object.id,
    Version: { Index: object.version },
    CreatedAt: timeOf(object.createdAtMs),
    UpdatedAt: timeOf(object.updatedAtMs),
  };
}

/** Nanoseconds in Docker's JSON -> ms; `fallbackMs` when absent. */
export function readDurationMs(fields: Fields, name: string, fallbackMs: number): number {
  if (!fields.has(name)) return fallbackMs;
  return nanosecondsToMs(fields.whole(name, 0));
}

export { msToNanoseconds as nanoseconds };
