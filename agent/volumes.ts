/**
 * A task's mounts as its container gets them: bind sources are checked to exist, as Docker does for
 * services, and nothing is ever made on the host for one. Named volumes are not built: refused.
 */
import { access } from 'node:fs/promises';
import { isAbsolute } from 'node:path';
import { SwarmError } from '../base/errors.ts';
import type { MountSpec } from '../model/types.ts';
import type { ContainerMount } from '../runtime/container/types.ts';

/** SwarmError invalid or unsupported with Docker's wording where it has one. */
export async function resolveMounts(
  mounts: readonly MountSpec[],
): Promise<readonly ContainerMount[]> {
  return Promise.all(mounts.map(resolveMount));
}

async function resolveMount(mount: MountSpec): Promise<ContainerMount> {
  const { target, readOnly } = mount;
  switch (mount.type) {
    case 'tmpfs':
      return {
        type: 'tmpfs',
        target,
        readOnly,
        ...(mount.tmpfsSizeBytes > 0 ? { sizeBytes: mount.tmpfsSizeBytes } : {}),
        ...(mount.tmpfsMode > 0 ? { mode: mount.tmpfsMode } : {}),
      };
    case 'bind':
      await checkBindSource(mount.source);
      return { type: 'bind', source: mount.source, target, readOnly };
    case 'volume':
      throw new SwarmError(
        'unsupported',
        `mount type "volume" at ${target} is not supported yet: use a bind or tmpfs mount`,
      );
  }
}

async function checkBindSource(source: string): Promise<void> {
  const bad = `invalid mount config for type "bind": bind source path`;
  if (!isAbsolute(source)) throw new SwarmError('invalid', `${bad} must be absolute: ${source}`);
  try {
    await access(source);
  } catch (cause) {
    throw new SwarmError('invalid', `${bad} does not exist: ${source}`, { cause });
  }
}
