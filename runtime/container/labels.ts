/**
 * What security modules call a container: SELinux's label from its parts, and AppArmor's profile,
 * which is the host's default unless something else was asked for. Applies nothing.
 */
import { defaultAppArmorProfile } from '../sys/apparmor.ts';
import type { ContainerConfig, SecurityLabel } from './types.ts';

/** What container-selinux gives to containers. */
const SELINUX_DEFAULT = {
  user: 'system_u',
  role: 'system_r',
  type: 'container_t',
  level: 's0',
} as const;
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

/** What is in force once the container runs here. */
export function labelsInForce(config: ContainerConfig): readonly SecurityLabel[] {
  const asked = config.securityLabels ?? [];
  const label = defaultAppArmorProfile();
  const isOpen = config.privileged === true || config.apparmorUnconfined === true;
  if (label === '' || isOpen || asked.some(({ kind }) => kind === 'apparmor')) return asked;
  return [...asked, { kind: 'apparmor', label }];
}
