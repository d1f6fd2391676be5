/**
 * The writable layer as the layer of an image (OCI image-spec layer.md): what was added or changed
 * as it is, what was removed as whiteouts. Beneath the layer by descriptor, as a container that
 * runs may put anything in the place of anything meanwhile. Reads only.
 */
import { posix } from 'node:path';
import { hasCode, SwarmError } from '../../base/errors.ts';
import type { TarInput } from '../image/tar.ts';
import { Walk } from './archiveOut.ts';
import { InsideRoot } from './insideRoot.ts';
import { isOpaque, layerChanges } from './layerDiff.ts';

const WHITEOUT = '.wh.';
const OPAQUE = '.wh..wh..opq';

/** The same paths as the changes that are told of it. `layers` lowest first. */
export async function* layerEntries(
  upper: string,
  layers: readonly string[],
): AsyncGenerator<TarInput> {
  const changes = await layerChanges(upper, layers);
  const root = InsideRoot.at(upper);
  const walk = new Walk();
  try {
    for (const { path, kind } of changes) {
      const archived = path.slice(1);
      const name = posix.basename(path);
      if (kind === 'deleted') {
        yield { name: posix.join(posix.dirname(archived), `${WHITEOUT}${name}`) };
        continue;
      }
      if (name.startsWith(WHITEOUT)) {
        throw new SwarmError(
          'unsupported',
          `${path} has a name that means a removed file in an image: rename it first`,
        );
      }
      yield* entryAt(root, walk, path, archived);
    }
  } finally {
    root.close();
  }
}

async function* entryAt(
  root: InsideRoot,
  walk: Walk,
  path: string,
  archived: string,
): AsyncGenerator<TarInput> {
  let place: ReturnType<InsideRoot['parent']>;
  try {
    place = root.parent(path);
  } catch (error) {
    if (hasCode(error, 'not_found')) return; // removed while we walk
    throw error;
  }
  const { directory, name } = place;
  try {
    for await (const input of walk.alone(directory, name, path, archived)) {
      yield input;
      if (input.type !== 'directory' || !isOpaque(directory.child(name))) continue;
      yield { name: `${archived}/${OPAQUE}` };
    }
  } finally {
    directory.close();
  }
}
