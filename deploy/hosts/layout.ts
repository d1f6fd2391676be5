/**
 * Where the lab keeps things. Other programs use these names, paths and addresses: host i is `h<i>`
 * at 10.99.0.<10+i>, with its socket, run-time and state below /run and /var/lib/tsswarm-lab.
 */
import { join } from 'node:path';
import { SwarmError } from '../../base/errors.ts';

/**
 * $TSSWARM_LAB names a second lab beside the first: its paths, namespaces and cgroups end in it.
 */
const suffix = labSuffix(process.env['TSSWARM_LAB'] ?? '');
const LAB_NAME = `tsswarm-lab${suffix}`;
export const RUN_ROOT = `/run/${LAB_NAME}`;
export const STATE_ROOT = `/var/lib/${LAB_NAME}`;
/** What the lab itself remembers; not part of any host. */
export const LAB_DIR = join(RUN_ROOT, 'lab');
/** Held by `up` and `down`; outside of what `down` removes. */
export const LOCK_FILE = `/run/${LAB_NAME}.lock`;
export const BIN_DIR = join(RUN_ROOT, 'bin');
export const UNDERLAY_NAMESPACE = `${LAB_NAME}-underlay`;
export const CLIENT_NAMESPACE = `${LAB_NAME}-client`;
export const CLIENT_ADDRESS = '10.99.0.100';
export const CGROUP_ROOT = LAB_NAME;
export const GRPC_PORT = 2377;
/** Addresses .11 to .99. */
export const MAX_HOSTS = 89;
/** The swarm's bound. */
export const MAX_MANAGERS = 7;

export interface HostLayout {
  readonly index: number;
  readonly name: string;
  readonly address: string;
  readonly dataRoot: string;
  readonly execRoot: string;
  readonly socket: string;
  readonly logFile: string;
  /** What the lab remembers of the host while it is up. */
  readonly bootDir: string;
  readonly cgroupParent: string;
  /** Its port on the underlay's bridge. */
  readonly port: string;
}

export function hostLayout(index: number): HostLayout {
  const name = `h${index}`;
  const execRoot = join(RUN_ROOT, name);
  const dataRoot = join(STATE_ROOT, name);
  return {
    index,
    name,
    address: `10.99.0.${10 + index}`,
    dataRoot,
    execRoot,
    socket: join(execRoot, 'tsswarm.sock'),
    logFile: join(dataRoot, 'daemon.log'),
    bootDir: join(LAB_DIR, name),
    cgroupParent: `${CGROUP_ROOT}/${name}`,
    port: `p${index}`,
  };
}

function labSuffix(name: string): string {
  if (name === '') return '';
  if (!/^[a-z0-9]{1,16}$/.test(name)) {
    throw new SwarmError('invalid', `TSSWARM_LAB="${name}": 1 to 16 of a-z and 0-9`);
  }
  return `-${name}`;
}
