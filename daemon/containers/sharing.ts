/**
 * What a container shares with others: their network, pid, IPC and UTS namespaces. From names, as
 * they were asked for, to ids; what cannot be shared is refused before anything is made. Holds no
 * state.
 */
import { hasCode, SwarmError } from '../../base/errors.ts';
import type { Container, ContainerConfig, SharedNamespace } from '../../runtime/container/types.ts';
import { isShared, sharedWith } from './attachment.ts';
import { checkLinks } from './links.ts';
import type { StandaloneSpec } from './types.ts';

export interface Shared {
  readonly spec: StandaloneSpec;
  /** Whose network it is to share, if any. */
  readonly network: Container | undefined;
}

/** `find`: SwarmError not_found. A shared name of a host is the other's. */
export function shared(spec: StandaloneSpec, findAny: (key: string) => Container): Shared {
  const find = (key: string): Container => {
    try {
      return findAny(key);
    } catch (error) {
      // Not 'not_found': Docker's client would take it for the image, and pull that.
      throw hasCode(error, 'not_found') ? new SwarmError('invalid', error.message) : error;
    }
  };
  const others = (wanted: SharedNamespace | string | undefined): Container | undefined =>
    typeof wanted === 'object' ? find(wanted.container) : undefined;
  const [pid, ipc, uts] = [spec.pidNamespace, spec.ipcNamespace, spec.utsNamespace].map(others);
  if (ipc !== undefined) mustShareIpc(ipc.config);
  const network = isShared(spec.networkMode) ? find(sharedWith(spec.networkMode)) : undefined;
  if (network !== undefined && spec.hostname !== '') {
    throw new SwarmError('invalid', 'conflicting options: hostname and the network mode');
  }
  if (uts !== undefined && spec.hostname !== '') {
    throw new SwarmError('invalid', 'conflicting options: hostname and the UTS mode');
  }
  checkLinks(spec);
  const links = spec.links?.map((link) => ({ ...link, container: find(link.container).config.id }));
  const named = uts ?? network;
  return {
    network,
    spec: {
      ...spec,
      ...(network === undefined ? {} : { networkMode: `container:${network.config.id}` }),
      ...(named === undefined ? {} : { hostname: named.config.hostname }),
      ...(pid === undefined ? {} : { pidNamespace: { container: pid.config.id } }),
      ...(ipc === undefined ? {} : { ipcNamespace: { container: ipc.config.id } }),
      ...(uts === undefined ? {} : { utsNamespace: { container: uts.config.id } }),
      ...(links === undefined ? {} : { links }),
    },
  };
}

function mustShareIpc({ name, ipcNamespace }: ContainerConfig): void {
  if (ipcNamespace === 'shareable') return;
  throw new SwarmError(
    'conflict',
    `cannot join IPC of container ${name}: non-shareable IPC (hint: use IpcMode:shareable for ` +
      'the donor container)',
  );
}

/** Ids of those that have to run before it can. */
export function dependsOn(spec: StandaloneSpec): readonly string[] {
  const { networkMode, pidNamespace, ipcNamespace, utsNamespace, links = [] } = spec;
  const linked = links.map(({ container }) => container);
  const ids = [pidNamespace, ipcNamespace, utsNamespace].map((wanted) =>
    typeof wanted === 'object' ? wanted.container : '',
  );
  return [...new Set([sharedWith(networkMode), ...ids, ...linked])].filter((id) => id !== '');
}
