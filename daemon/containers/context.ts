/** What everything in this room is given: the host's runtime, its own parts, time. */
import type { Clock } from '../../base/clock.ts';
import type { Ids } from '../../base/id.ts';
import type { Log } from '../../base/log.ts';
import type { Random } from '../../base/random.ts';
import type { ContainerTable } from '../../runtime/container/types.ts';
import type { ImageStore } from '../../runtime/image/types.ts';
import type { HostNetwork } from '../../runtime/net/types.ts';
import type { VolumeStore } from '../../runtime/volume/types.ts';
import type { LocalEvents } from './events.ts';
import type { Execs } from './execs.ts';
import type { NetworkBook } from './networks.ts';
import type { RecordFiles } from './records.ts';
import type { AttachableNetworks, ContainerRecord } from './types.ts';

export interface HostContext {
  readonly clock: Clock;
  readonly random: Random;
  readonly ids: Ids;
  readonly log: Log;
  readonly execRoot: string;
  readonly containers: ContainerTable;
  readonly images: ImageStore;
  readonly network: HostNetwork;
  readonly volumes: VolumeStore;
  readonly networks: NetworkBook;
  readonly events: LocalEvents;
  readonly execs: Execs;
  readonly records: RecordFiles<ContainerRecord>;
  readonly attachable: AttachableNetworks | undefined;
  /** '80/tcp': ports that the image, or who made the container, told of. */
  exposedOf(containerId: string): readonly string[];
  /** Containers that have a link to it. */
  linkedTo(containerId: string): readonly ContainerRecord[];
  /** Its container is gone. */
  forget(container: { readonly id: string }): void;
}
