/** What this host says of itself to the managers. Reads the host only; decides nothing. */
import { createHash } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { arch, cpus, hostname, release, totalmem } from 'node:os';
import type { GenericResource, Labels, NodeDescription } from '../model/types.ts';

const NANO_CPUS = 1_000_000_000;
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'x86_64', arm64: 'aarch64' };
const MACHINE_ID_PATH = '/etc/machine-id';
/** The machine's own (PROC_UTS_INIT_INO in the kernel's proc_ns.h). */
const MACHINE_UTS_NAMESPACE = 'uts:[4026531838]';

export interface DescribeOptions {
  readonly engineVersion: string;
  readonly engineLabels?: Labels;
  readonly genericResources?: readonly GenericResource[];
}

export function describeHost(options: DescribeOptions): NodeDescription {
  return {
    hostname: hostname(),
    os: 'linux',
    architecture: ARCHITECTURES[arch()] ?? arch(),
    kernel: release(),
    nanoCpus: cpus().length * NANO_CPUS,
    memoryBytes: totalmem(),
    engineVersion: options.engineVersion,
    engineLabels: options.engineLabels ?? {},
    machineId: machineId(),
    genericResources: options.genericResources ?? [],
  };
}

/**
 * Survives a change of the host's name. Hosts that share one machine (a lab's have UTS namespaces
 * of their own) share its id too: there the host name tells them apart.
 */
function machineId(): string {
  try {
    const id = readFileSync(MACHINE_ID_PATH, 'utf8').trim();
    if (id === '') return '';
    const shared = readlinkSync('/proc/self/ns/uts') !== MACHINE_UTS_NAMESPACE;
    const name = shared ? ` ${hostname()}` : '';
    return createHash('sha256').update(`${id}${name}`).digest('hex');
  } catch {
    // A host without the file cannot be told from a copy of it: '' says so.
    return '';
  }
}
