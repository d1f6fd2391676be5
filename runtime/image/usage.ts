/**
 * What images take: the layers an image shares with others and those it has alone, and what a prune
 * may take away. Pure: works on the catalog's records and sizes it is given.
 */
import type { ImageRecord } from './catalog.ts';
import type { ImageUsage } from './types.ts';

export function imageUsage(
  records: readonly ImageRecord[],
  layerBytes: (diffId: string) => number,
  containersOf: (imageId: string) => number,
): ImageUsage {
  const users = new Map<string, number>();
  for (const record of records) {
    for (const diffId of new Set(record.diffIds)) users.set(diffId, (users.get(diffId) ?? 0) + 1);
  }
  let layersBytes = 0;
  for (const diffId of users.keys()) layersBytes += layerBytes(diffId);
  const images = records
    .filter((record) => !record.doomed)
    .map((record) => {
      let sharedBytes = 0;
      let uniqueBytes = 0;
      for (const diffId of new Set(record.diffIds)) {
        if ((users.get(diffId) ?? 0) > 1) sharedBytes += layerBytes(diffId);
        else uniqueBytes += layerBytes(diffId);
      }
      return { id: record.id, sharedBytes, uniqueBytes, containers: containersOf(record.id) };
    });
  return { layersBytes, images };
}

/** What `gone` alone had of layers and blobs, when `kept` stay. */
export function freedBy(
  gone: readonly ImageRecord[],
  kept: readonly ImageRecord[],
): { readonly diffIds: readonly string[]; readonly blobs: readonly string[] } {
  const only = (pick: (record: ImageRecord) => readonly string[]): string[] => {
    const stays = new Set(kept.flatMap(pick));
    return [...new Set(gone.flatMap(pick))].filter((one) => !stays.has(one));
  };
  return { diffIds: only((record) => record.diffIds), blobs: only((record) => record.blobs) };
}
