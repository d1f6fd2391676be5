/** Opens the runtime of this host: containers, images, network. What runs already is adopted. */
import path from 'node:path';
import type { HostRuntime } from '../agent/containerController.ts';
import { DEFAULT_VXLAN_PORT } from '../model/defaults.ts';
import { holdDescriptors, takeDescriptors } from '../runtime/container/heldDescriptors.ts';
import { TmpfsFiles } from '../runtime/container/memoryFiles.ts';
import { openContainerTable } from '../runtime/container/table.ts';
import type { Container } from '../runtime/container/types.ts';
import type { RegistrySettings } from '../runtime/image/registryHosts.ts';
import { openImageStore } from '../runtime/image/store.ts';
import { openHostNetwork } from '../runtime/net/hostNetwork.ts';
import type { HostNetwork } from '../runtime/net/types.ts';
import { openVolumeStore } from '../runtime/volume/store.ts';
import { LocalContainers } from './containers/manager.ts';
import type { DaemonOptions, Environment } from './environment.ts';
import { garbagePolicy, ImageGarbage } from './imageGarbage.ts';
import type { HostRooms } from './types.ts';
import { REMAP_DEFAULT, userRemap } from './userRemap.ts';

export interface OpenHost {
  readonly runtime: HostRuntime;
  readonly rooms: HostRooms;
  /** Writes into the host's account files what was chosen there; the daemon does start now. */
  reserveIds(): void;
  /** Lets go of everything; containers and their networks stay. */
  close(): Promise<void>;
}

/** Docker's own certificates count too: a host that had Docker has them. */
const CERTIFICATE_DIRECTORIES = ['/etc/tsswarm/certs.d', '/etc/docker/certs.d'];

function registrySettings(options: DaemonOptions): RegistrySettings {
  return {
    insecureRegistries: options.insecureRegistries,
    mirrors: options.registryMirrors,
    certificateDirectories: [path.join(options.dataRoot, 'certs.d'), ...CERTIFICATE_DIRECTORIES],
  };
}

/** What shims keep containers' DNS sockets under. */
const DNS_SOCKETS = 'dns';

export async function openHost(
  environment: Environment,
  options: DaemonOptions,
): Promise<OpenHost> {
  const { dataRoot, execRoot, cgroupParent, parallelDownloads, parallelUploads } = options;
  const { clock, ids, log, random } = environment;
  const { usernsRemap } = options;
  const remap = usernsRemap === '' ? undefined : userRemap(usernsRemap);
  const garbage = garbagePolicy(options.imageGcSize, options.imageGcAge);
  let opened: HostNetwork | undefined;
  let local: LocalContainers | undefined;
  const told = (action: string) => (container: Container) => local?.taskEvent(action, container);
  const hooks = {
    onCreate: told('create'),
    onStart: (container: Container): void => {
      opened?.started(container.config.id);
      local?.taskEvent('start', container);
    },
    onExit: told('die'),
    onRemove: told('destroy'),
  };
  const [containers, images, network] = await Promise.all([
    openContainerTable({
      ...{ dataRoot, execRoot, cgroupParent, clock, log, random, ...hooks },
      ...(remap === undefined ? {} : { userNamespace: remap.maps }),
      findUserNamespace: () => {
        const asked = userRemap(REMAP_DEFAULT);
        asked.reserve();
        return asked.maps;
      },
    }),
    openImageStore({
      dataRoot,
      clock,
      log,
      registries: registrySettings(options),
      parallelDownloads,
      parallelUploads,
    }),
    openHostNetwork({
      dataRoot,
      execRoot,
      clock,
      log,
      random,
      self: undefined,
      vxlanPort: DEFAULT_VXLAN_PORT,
      keeper: {
        hold: (id, fds) => holdDescriptors(execRoot, id, DNS_SOCKETS, fds, clock),
        take: (id) => takeDescriptors(execRoot, id, DNS_SOCKETS, clock),
      },
    }),
  ]);
  opened = network;
  const volumes = openVolumeStore({ dataRoot, clock, ids, log });
  const all = await LocalContainers.open({
    dataRoot,
    execRoot,
    clock,
    random,
    ids,
    log,
    containers,
    images,
    network,
    volumes,
  });
  local = all;
  const collector = new ImageGarbage(images, garbage, clock, log);
  collector.start();
  return {
    runtime: { containers, images, network, volumes, memoryFiles: new TmpfsFiles(execRoot) },
    rooms: { containers: all, volumes },
    reserveIds: () => remap?.reserve(),
    close: async () => {
      collector.close();
      all.close();
      await network.close();
      await containers.close();
      await images.close();
    },
  };
}
