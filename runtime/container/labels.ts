/**
 * What security modules call a container: SELinux's label from its parts, and AppArmor's profile,
 * which is the host's default unless something else was asked for. Applies nothing.
 */
import { defaultAppArmorProfile, profileOf } from '../sys/apparmor.ts';
import type { ContainerConfig, SecurityLabel } from './types.ts';

/** What container-selinux gives to containers. */
const SELINUX_DEFAULT = {
  user: 'system_u',
  role: 'system_r',
  type: 'container_t',
  level: 's0',
} as const;
const UNCONFINED = 'unconfined';
export type SelinuxParts = Partial<Record<keyof typeof SELINUX_DEFAULT, string>>;
export const SELINUX_PARTS = Object.keys(SELINUX_DEFAULT) as (keyof typeof SELINUX_DEFAULT)[];

/** Of letters, digits and what separates levels. */
export function isSelinuxPart(text: string): boolean {
  return /^[\w.:,-]+$/.test(text);
}

export function selinuxLabel(given: SelinuxParts): string {
  const { user, role, type, level } = { ...SELINUX_DEFAULT, ...given };
  return `${user}:${role}:${type}:${level}`;
}

/** Of one that is started now; of one that runs, with `pid`, what its first process has. */
export function labelsInForce(config: ContainerConfig, pid = 0): readonly SecurityLabel[] {
  const asked = config.securityLabels ?? [];
  const isOpen = config.privileged === true || config.apparmorUnconfined === true;
  if (isOpen || asked.some(({ kind }) => kind === 'apparmor')) return asked;
  // Whether there was a default depends on the daemon that started it.
  const own = pid === 0 ? undefined : profileOf(pid);
  const label = own ?? defaultAppArmorProfile();
  return label === '' || label === UNCONFINED ? asked : [...asked, { kind: 'apparmor', label }];
}

/** Whether it can be started only while the default profile is loaded. */
export function usesDefaultProfile(config: ContainerConfig): boolean {
  const usual = defaultAppArmorProfile();
  return usual !== '' && labelsInForce(config).some(({ label }) => label === usual);
}
