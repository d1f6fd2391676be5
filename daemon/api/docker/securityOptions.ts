/**
 * HostConfig.SecurityOpt in Docker's words: seccomp profiles, no-new-privileges, AppArmor profiles
 * and SELinux labels; and the path lists that --security-opt systempaths= turns into. What the
 * kernel has of it is not asked here.
 */
import { SwarmError } from '../../../base/errors.ts';
import {
  isSelinuxPart,
  SELINUX_PARTS,
  type SelinuxParts,
  selinuxLabel,
} from '../../../runtime/container/labels.ts';
import { checkProfile } from '../../../runtime/container/seccompFile.ts';
import type { SecurityLabel } from '../../../runtime/container/types.ts';
import type { StandaloneSpec } from '../../containers/types.ts';
import type { Fields } from '../fields.ts';

type SecurityPart = Pick<
  StandaloneSpec,
  'noNewPrivileges' | 'seccomp' | 'maskPaths' | 'securityLabels' | 'apparmorUnconfined'
>;

/** SwarmError invalid or unsupported, naming the option. */
export function securityFromDocker(host: Fields): SecurityPart {
  let noNewPrivileges = false;
  let seccomp: SecurityPart['seccomp'] = 'default';
  let apparmor = '';
  let selinux: SelinuxParts = {};
  for (const option of host.texts('SecurityOpt')) {
    const [name, value = ''] = option.split(/[=:](.*)/s);
    if (name === 'no-new-privileges') noNewPrivileges = value !== 'false';
    else if (name === 'seccomp') seccomp = seccompOf(value);
    else if (name === 'apparmor') apparmor = value;
    // Without a label, nothing confines it: that is what 'disable' asks for.
    else if (option === 'label=disable') selinux = {};
    else if (name === 'label') selinux = { ...selinux, ...selinuxOf(host, value) };
    else host.refused('SecurityOpt', `"${option}": leave it out`);
  }
  for (const name of ['MaskedPaths', 'ReadonlyPaths']) {
    if (host.texts(name).length > 0) host.refused(name, 'leave it out, or use an empty list');
  }
  const labels: SecurityLabel[] = [
    ...(['', 'unconfined'].includes(apparmor)
      ? []
      : [{ kind: 'apparmor', label: apparmor } as const]),
    ...(Object.keys(selinux).length === 0
      ? []
      : [{ kind: 'selinux', label: selinuxLabel(selinux) } as const]),
  ];
  return {
    noNewPrivileges,
    seccomp,
    maskPaths: !host.has('MaskedPaths'),
    ...(labels.length === 0 ? {} : { securityLabels: labels }),
    ...(apparmor === 'unconfined' ? { apparmorUnconfined: true } : {}),
  };
}

/** Docker's client reads the file and sends what is in it. */
function seccompOf(value: string): SecurityPart['seccomp'] {
  if (value === 'unconfined') return 'unconfined';
  if (value === 'builtin') return 'default';
  checkProfile(value);
  return { profile: value };
}

/** 'type:svirt_apache_t' */
function selinuxOf(host: Fields, value: string): SelinuxParts {
  const [part, text = ''] = value.split(/:(.*)/s);
  if (!(SELINUX_PARTS as readonly string[]).includes(part)) {
    host.refused('SecurityOpt', `"label=${value}": use user:, role:, type:, level: or disable`);
  }
  if (isSelinuxPart(text)) return { [part]: text };
  throw new SwarmError('invalid', `SecurityOpt: "label=${value}" is no label`);
}
