/**
 * Where an attachment's files are, known before it is made: a container that is made first and
 * attached each time it starts has them in its configuration. The engine makes them here.
 */
import { join } from 'node:path';
import type { Attachment } from './types.ts';

/** Namespaces of containers among those in `<execRoot>/netns`. */
export const CONTAINER_PREFIX = 'ct-';

export function namespaceDirectory(execRoot: string): string {
  return join(execRoot, 'netns');
}

export function filesRoot(execRoot: string): string {
  return join(execRoot, 'network', 'files');
}

export function attachmentPaths(
  execRoot: string,
  containerId: string,
): Omit<Attachment, 'gatewayAddress'> {
  const files = join(filesRoot(execRoot), containerId);
  return {
    containerId,
    namespacePath: join(namespaceDirectory(execRoot), `${CONTAINER_PREFIX}${containerId}`),
    hostsFile: join(files, 'hosts'),
    hostnameFile: join(files, 'hostname'),
    resolvConfFile: join(files, 'resolv.conf'),
  };
}
