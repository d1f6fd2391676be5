/**
 * What scripts in the guest share: a container table over the prebuilt layer whose program is at
 * /app/files, and running one program in one container of it.
 */
import { cpSync, mkdirSync } from 'node:fs';
import { SystemClock } from '../../../base/clock.ts';
import { Ids } from '../../../base/id.ts';
import { createLog } from '../../../base/log.ts';
import { SystemRandom } from '../../../base/random.ts';
import { openContainerTable } from '../../../runtime/container/table.ts';
import type {
  Container,
  ContainerConfig,
  ContainerTable,
  ExitRecord,
} from '../../../runtime/container/types.ts';

export const MIB = 1024 * 1024;
/** Of our containers, below the cgroup mount. */
export const PARENT = 'tsswarm';
export const LAYER = '/layer';

export interface Run {
  readonly exit: ExitRecord;
  readonly output: string;
}

export interface GuestHost {
  readonly table: ContainerTable;
  config(args: readonly string[], extra?: Partial<ContainerConfig>): ContainerConfig;
  start(args: readonly string[], extra?: Partial<ContainerConfig>): Promise<Container>;
  run(args: readonly string[], extra?: Partial<ContainerConfig>): Promise<Run>;
}

export async function openGuestHost(): Promise<GuestHost> {
  const [clock, random] = [new SystemClock(), new SystemRandom()];
  const ids = new Ids(random);
  for (const dir of ['bin', 'tmp']) mkdirSync(`${LAYER}/${dir}`, { recursive: true });
  cpSync('/app/files/probe', `${LAYER}/bin/probe`);
  const table = await openContainerTable({
    dataRoot: '/var/lib/tsswarm',
    execRoot: '/run/tsswarm',
    cgroupParent: PARENT,
    clock,
    random,
    log: createLog('warn', 1),
  });
  const config: GuestHost['config'] = (args, extra = {}) => ({
    id: ids.container(),
    name: 'guest',
    labels: {},
    image: { reference: 'guest:latest', id: 'sha256:guest' },
    layers: [LAYER],
    args: ['/bin/probe', ...args],
    env: [],
    workingDir: '/',
    user: '',
    hostname: 'guest',
    mounts: [],
    networkNamespace: 'new',
    resources: {},
    log: {},
    ...extra,
  });
  const start: GuestHost['start'] = async (args, extra) => {
    const container = await table.create(config(args, extra));
    await container.start();
    return container;
  };
  const run: GuestHost['run'] = async (args, extra) => {
    const container = await start(args, extra);
    const exit = await container.wait();
    return { exit, output: await logOf(container) };
  };
  return { table, config, start, run };
}

export async function logOf(container: Container): Promise<string> {
  let all = '';
  for await (const record of container.logs({})) all += `${Buffer.from(record.data).toString()}\n`;
  return all;
}

/** The container's group below the cgroup mount. */
export function groupOf({ config }: Container): string {
  return `/sys/fs/cgroup/${PARENT}/${config.id}`;
}
