/**
 * What a container is made of that is only known when it starts: namespaces of other containers,
 * places inside volumes, memory it shares. Namespaces are opened here and lent to the shim by
 * descriptor (/proc/<this process>/fd/<n>) until the container runs, so that a pid that is used
 * again leads nowhere else; places by the path without any link that they have now, and the shim
 * follows no link on it.
 */
import { hasCode, SwarmError } from '../../base/errors.ts';
import { shortId } from '../../base/id.ts';
import { close, errno, errnoName, O_CLOEXEC, O_RDONLY, open, systemError } from '../sys/libc.ts';
import { InsideRoot } from './insideRoot.ts';
import type { SharedMemory } from './sharedMemory.ts';
import type { Container, ContainerConfig, ContainerMount, SharedNamespace } from './types.ts';
import { userMapsOf } from './userNamespace.ts';

/** Those that a container may have in common with another. */
const KINDS = ['pid', 'ipc', 'uts'] as const;
export type LentKind = (typeof KINDS)[number];

/** A container whose namespaces are lent. */
export interface Joined extends Pick<Container, 'pid' | 'config'> {
  /** Whether `pid` is its first process, and not one that has the number now. */
  isPid(pid: number): boolean;
}

export interface Lent {
  readonly namespaces: Readonly<Partial<Record<LentKind | 'user', string>>>;
  /** Where a mount's source really is; by its target. */
  readonly sources: ReadonlyMap<string, string>;
  /** Directory on the host that is its /dev/shm; undefined: one of its own. */
  readonly sharedMemory: string | undefined;
}

/** For a look at a specification that is not used to start anything. */
export const NOTHING_LENT: Lent = {
  namespaces: {},
  sources: new Map(),
  sharedMemory: undefined,
};

export interface Loans extends Lent {
  close(): void;
}

export interface Lender {
  readonly sharedMemory: SharedMemory;
  find(containerId: string): Joined | undefined;
}

/** Whether its specification is only whole when it starts. */
export function needsLoans(config: ContainerConfig): boolean {
  return (
    config.ipcNamespace === 'shareable' ||
    KINDS.some((kind) => sharedOf(config, kind) !== undefined) ||
    config.mounts.some(({ subpath }) => subpath !== undefined)
  );
}

/** SwarmError conflict: whose namespace it is does not run; not_found: no such place. */
export function lend(config: ContainerConfig, lender: Lender): Loans {
  const held: number[] = [];
  const release = (): void => {
    for (const fd of held.splice(0)) close(fd);
  };
  const kept = (fd: number): string => {
    held.push(fd);
    return `/proc/${process.pid}/fd/${fd}`;
  };
  try {
    const namespaces: Partial<Record<LentKind | 'user', string>> = {};
    for (const kind of KINDS) {
      const shared = sharedOf(config, kind);
      if (shared === undefined) continue;
      namespaces[kind] = kept(openNamespace(lender, kind, shared));
      // What belongs to a user namespace can only be used inside of it.
      if (sharesIds(config, lender.find(shared.container))) {
        namespaces.user = kept(openNamespace(lender, 'user', shared));
      }
    }
    return {
      namespaces,
      sources: placesOf(config.mounts),
      sharedMemory: lendMemory(config, lender),
      close: release,
    };
  } catch (error) {
    release();
    throw error;
  }
}

/** For a look at the files of a container that does not run. */
export function lentPlaces(config: ContainerConfig): Lent {
  return { ...NOTHING_LENT, sources: placesOf(config.mounts) };
}

export function sharedOf(config: ContainerConfig, kind: LentKind): SharedNamespace | undefined {
  const { pidNamespace, ipcNamespace, utsNamespace } = config;
  const wanted = { pid: pidNamespace, ipc: ipcNamespace, uts: utsNamespace }[kind];
  return typeof wanted === 'object' ? wanted : undefined;
}

/** SwarmError conflict where one has ids of its own and the other has not the same. */
function sharesIds(config: ContainerConfig, other: Joined | undefined): boolean {
  const [own, theirs] = [userMapsOf(config), other && userMapsOf(other.config)];
  if (JSON.stringify(own) === JSON.stringify(theirs)) return own !== undefined;
  throw new SwarmError(
    'conflict',
    `cannot join namespaces of container ${other?.config.name}: its ids are others: run both ` +
      'with the same --userns',
  );
}

function openNamespace(
  lender: Lender,
  kind: LentKind | 'user',
  { container }: SharedNamespace,
): number {
  const refuse = (): SwarmError =>
    new SwarmError(
      'conflict',
      `cannot join the ${kind} namespace of a non running container: ${container}: start it first`,
    );
  const other = lender.find(container);
  const pid = other?.pid ?? 0;
  if (pid === 0) throw refuse();
  const fd = open(`/proc/${pid}/ns/${kind}`, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) {
    if (errnoName(errno()) === 'ENOENT') throw refuse();
    throw systemError(`cannot open the ${kind} namespace of container ${shortId(container)}`);
  }
  // Had it ended before, the pid could be another's.
  if (other?.isPid(pid) === true) return fd;
  close(fd);
  throw refuse();
}

function placesOf(mounts: readonly ContainerMount[]): ReadonlyMap<string, string> {
  const sources = new Map<string, string>();
  for (const { target, source = '', subpath } of mounts) {
    if (subpath === undefined) continue;
    const root = InsideRoot.at(source);
    try {
      sources.set(target, root.place(subpath));
    } catch (error) {
      if (!hasCode(error, 'not_found')) throw error;
      throw new SwarmError(
        'invalid',
        `cannot mount ${subpath} of the volume at ${target}: there is no such file or directory`,
        { cause: error },
      );
    } finally {
      root.close();
    }
  }
  return sources;
}

function lendMemory(config: ContainerConfig, lender: Lender): string | undefined {
  const { sharedMemory } = lender;
  if (config.ipcNamespace === 'shareable') {
    return sharedMemory.make(config.id, config.shmSizeBytes);
  }
  const shared = sharedOf(config, 'ipc');
  return shared === undefined ? undefined : sharedMemory.path(shared.container);
}
