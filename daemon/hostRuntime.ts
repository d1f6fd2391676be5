/** Opens the runtime of this host: containers, images, network. What runs already is adopted. */
import type { HostRuntime } from '../agent/containerController.ts';
import { DEFAULT_VXLAN_PORT } from '../model/defaults.ts';
import { TmpfsFiles } from '../runtime/container/memoryFiles.ts';
import { openContainerTable } from '../runtime/container/table.ts';
import { openImageStore } from '../runtime/image/store.ts';
import { openHostNetwork } from '../runtime/net/hostNetwork.ts';
import type { DaemonOptions, Environment } from './environment.ts';

export interface OpenHost {
  readonly runtime: HostRuntime;
  /** Lets go of everything; containers and their networks stay. */
  close(): Promise<void>;
}

export async function openHost(
  environment: Environment,
  options: DaemonOptions,
): Promise<OpenHost> {
  const { dataRoot, execRoot, cgroupParent, insecureRegistries } = options;
  const { clock, log, random } = environment;
  const [containers, images, network] = await Promise.all([
    openContainerTable({ dataRoot, execRoot, cgroupParent, clock, log, random }),
    openImageStore({ dataRoot, clock, log, insecureRegistries: [...insecureRegistries] }),
    openHostNetwork({
      dataRoot,
      execRoot,
      clock,
      log,
      random,
      self: undefined,
      vxlanPort: DEFAULT_VXLAN_PORT,
    }),
  ]);
  return {
    runtime: { containers, images, network, memoryFiles: new TmpfsFiles(execRoot) },
    close: async () => {
      await network.close();
      await containers.close();
      await images.close();
    },
  };
}
