/**
 * Capabilities as Docker gives them: fourteen by default, more and fewer by name. Works out sets;
 * what this host itself does not have, the shim leaves out when it applies them.
 */
import { SwarmError } from '../../base/errors.ts';

/** In the kernel's order: the index is the capability's number (capabilities(7)). */
export const CAPABILITY_NAMES = [
  'CHOWN',
  'DAC_OVERRIDE',
  'DAC_READ_SEARCH',
  'FOWNER',
  'FSETID',
  'KILL',
  'SETGID',
  'SETUID',
  'SETPCAP',
  'LINUX_IMMUTABLE',
  'NET_BIND_SERVICE',
  'NET_BROADCAST',
  'NET_ADMIN',
  'NET_RAW',
  'IPC_LOCK',
  'IPC_OWNER',
  'SYS_MODULE',
  'SYS_RAWIO',
  'SYS_CHROOT',
  'SYS_PTRACE',
  'SYS_PACCT',
  'SYS_ADMIN',
  'SYS_BOOT',
  'SYS_NICE',
  'SYS_RESOURCE',
  'SYS_TIME',
  'SYS_TTY_CONFIG',
  'MKNOD',
  'LEASE',
  'AUDIT_WRITE',
  'AUDIT_CONTROL',
  'SETFCAP',
  'MAC_OVERRIDE',
  'MAC_ADMIN',
  'SYSLOG',
  'WAKE_ALARM',
  'BLOCK_SUSPEND',
  'AUDIT_READ',
  'PERFMON',
  'BPF',
  'CHECKPOINT_RESTORE',
] as const;

export type Capability = (typeof CAPABILITY_NAMES)[number];

export const DEFAULT_CAPABILITIES: readonly Capability[] = [
  'CHOWN',
  'DAC_OVERRIDE',
  'FSETID',
  'FOWNER',
  'MKNOD',
  'NET_RAW',
  'SETGID',
  'SETUID',
  'SETFCAP',
  'SETPCAP',
  'NET_BIND_SERVICE',
  'SYS_CHROOT',
  'KILL',
  'AUDIT_WRITE',
];

const ALL = 'ALL';

/** 'cap_net_admin', 'NET_ADMIN' -> 'NET_ADMIN'. SwarmError invalid for an unknown name. */
function parseCapability(text: string): Capability | typeof ALL {
  const name = text.toUpperCase().replace(/^CAP_/, '');
  if (name === ALL) return ALL;
  const known = CAPABILITY_NAMES.find((candidate) => candidate === name);
  if (known === undefined) {
    throw new SwarmError('invalid', `unknown capability "${text}": see capabilities(7) for names`);
  }
  return known;
}

/**
 * The container's capabilities: the default ones, or all, minus `drop`, plus `add`. As Docker's:
 * adding ALL gives all but those dropped by name; dropping ALL leaves those added by name.
 */
export function effectiveCapabilities(
  add: readonly string[],
  drop: readonly string[],
): ReadonlySet<Capability> {
  const added = add.map(parseCapability);
  const dropped = new Set(drop.map(parseCapability));
  const base = added.includes(ALL)
    ? CAPABILITY_NAMES
    : dropped.has(ALL)
      ? []
      : DEFAULT_CAPABILITIES;
  const kept = base.filter((name) => !dropped.has(name));
  return new Set([...kept, ...added.filter((name) => name !== ALL)]);
}

/** The kernel's bit mask of a set. */
export function capabilityMask(capabilities: ReadonlySet<Capability>): bigint {
  return [...capabilities].reduce(
    (mask, name) => mask | (1n << BigInt(CAPABILITY_NAMES.indexOf(name))),
    0n,
  );
}
