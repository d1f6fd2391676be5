/**
 * Containers and volumes of a host for tests of the API: the real rooms over a fake runtime, in a
 * directory that goes with the process.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Clock, SystemClock } from '../../base/clock.ts';
import { SwarmError } from '../../base/errors.ts';
import { Ids } from '../../base/id.ts';
import { silentLog } from '../../base/log.ts';
import { SeededRandom } from '../../base/random.ts';
import { LocalContainers } from '../../daemon/containers/manager.ts';
import type { Examined } from '../../daemon/examine.ts';
import { NodeTaskHosts } from '../../daemon/taskHosts.ts';
import type { HostInfo, HostRooms, TaskHosts } from '../../daemon/types.ts';
import type { View } from '../../manager/store/types.ts';
import type { ImageStore } from '../../runtime/image/types.ts';
import { openVolumeStore } from '../../runtime/volume/store.ts';
import { FakeContainers, FakeNetwork } from './fakeRuntime.ts';

export interface ScriptedHost extends HostRooms {
  readonly fakes: { readonly containers: FakeContainers; readonly network: FakeNetwork };
  /** As after a restart of the daemon: the same runtime and directory, looked at anew. */
  reopen(): Promise<HostRooms>;
}

/** Tasks as the store has them; no other host can be reached. */
export function scriptedTaskHosts(view: View, ownNodeId: () => string): TaskHosts {
  const channelTo = (address: string): never => {
    throw new SwarmError('unavailable', `a scripted node reaches no other (${address})`);
  };
  const clock = new SystemClock();
  return new NodeTaskHosts({
    containers: () => [],
    ownNodeId,
    view: () => view,
    channelTo,
    clock,
  });
}

export function scriptedHost(images: ImageStore, clock: Clock = new SystemClock()): ScriptedHost {
  const directory = mkdtempSync(join(tmpdir(), 'tsswarm-host-'));
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
  const random = new SeededRandom(11);
  const ids = new Ids(random);
  const fakes = { containers: new FakeContainers(), network: new FakeNetwork() };
  const options = () => ({
    dataRoot: directory,
    execRoot: directory,
    clock,
    random,
    ids,
    log: silentLog,
    containers: fakes.containers,
    images,
    network: fakes.network,
    volumes: openVolumeStore({ dataRoot: directory, clock, ids, log: silentLog }),
  });
  const first = options();
  const containers = LocalContainers.make(first);
  return {
    containers,
    volumes: first.volumes,
    fakes,
    reopen: async () => {
      containers.close();
      const next = options();
      return { containers: await LocalContainers.open(next), volumes: next.volumes };
    },
  };
}

const GIB = 1024 ** 3;

export const HOST_INFO: HostInfo = {
  id: 'ABCD:EFGH',
  hostname: 'h1',
  kernel: '6.1.0',
  operatingSystem: 'Debian GNU/Linux 12',
  osVersion: '12',
  architecture: 'x86_64',
  cpus: 2,
  memoryBytes: 4 * GIB,
  cgroupVersion: '1',
  dataRoot: '/var/lib/tsswarm',
  execRoot: '/run/tsswarm',
  isRemapped: false,
  warnings: [],
};

export const NOTHING_EXAMINED: Examined = {
  Directory: '/var/lib/tsswarm',
  Usable: false,
  Problem: 'nothing is scripted',
  Damage: [],
  Members: [],
  Keeps: [],
  Discards: [],
};
