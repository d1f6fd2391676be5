/**
 * ContainerSpec.Privileges of a service, to and from Docker's words: no-new-privileges, the seccomp
 * profile (its text, as bytes), AppArmor's default and SELinux's label. What the kernels of the
 * nodes have of it shows when a task starts; only the profile's text is checked here.
 */
import { SwarmError } from '../../../base/errors.ts';
import type { ContainerSpec } from '../../../model/types.ts';
import { isSelinuxPart, SELINUX_PARTS } from '../../../runtime/container/labels.ts';
import { checkProfile } from '../../../runtime/container/seccompFile.ts';
import type { Fields } from '../fields.ts';

type Privileges = Pick<
  ContainerSpec,
  'noNewPrivileges' | 'seccomp' | 'apparmorDisabled' | 'selinuxDisabled' | 'selinux'
>;

/** Every task carries it: Docker's own is some 20 KB. */
const PROFILE_MAX_BYTES = 128 * 1024;

/** Empty when there is nothing to tell. */
export function privilegesToDocker(spec: Privileges): object {
  const { noNewPrivileges, seccomp, apparmorDisabled, selinuxDisabled, selinux } = spec;
  const context = {
    ...(selinuxDisabled ? { Disable: true } : {}),
    ...Object.fromEntries(
      Object.entries(selinux).map(([part, text]) => [
        `${part.charAt(0).toUpperCase()}${part.slice(1)}`,
        text,
      ]),
    ),
  };
  const found = {
    ...(Object.keys(context).length === 0 ? {} : { SELinuxContext: context }),
    ...(seccomp === 'default' ? {} : { Seccomp: seccompToDocker(seccomp) }),
    ...(apparmorDisabled ? { AppArmor: { Mode: 'disabled' } } : {}),
  };
  if (!noNewPrivileges && Object.keys(found).length === 0) return {};
  return { Privileges: { ...found, NoNewPrivileges: noNewPrivileges } };
}

function seccompToDocker(seccomp: Exclude<Privileges['seccomp'], 'default'>): object {
  if (seccomp === 'unconfined') return { Mode: seccomp };
  return { Mode: 'custom', Profile: Buffer.from(seccomp.profile).toString('base64') };
}

export function privilegesFromDocker(fields: Fields): Privileges {
  fields.refuse('CredentialSpec');
  const context = fields.objectOrEmpty('SELinuxContext');
  return {
    noNewPrivileges: fields.flag('NoNewPrivileges'),
    selinuxDisabled: context.flag('Disable'),
    seccomp: seccompFromDocker(fields.objectOrEmpty('Seccomp')),
    apparmorDisabled:
      fields.objectOrEmpty('AppArmor').choice('Mode', ['default', 'disabled'], 'default') ===
      'disabled',
    selinux: selinuxFromDocker(context),
  };
}

function seccompFromDocker(fields: Fields): Privileges['seccomp'] {
  const mode = fields.choice('Mode', ['default', 'unconfined', 'custom'], 'default');
  const encoded = fields.text('Profile');
  if (mode !== 'custom') {
    if (encoded !== '') fields.refused('Profile', 'it is for the mode "custom"');
    return mode;
  }
  const profile = Buffer.from(encoded, 'base64').toString('utf8');
  if (profile === '') fields.refused('Mode', '"custom" needs a Profile');
  if (profile.length > PROFILE_MAX_BYTES) {
    throw new SwarmError(
      'invalid',
      `${fields.at('Profile')} is larger than ${PROFILE_MAX_BYTES} bytes`,
    );
  }
  checkProfile(profile);
  return { profile };
}

function selinuxFromDocker(fields: Fields): Privileges['selinux'] {
  const parts: Record<string, string> = {};
  for (const part of SELINUX_PARTS) {
    const name = `${part.charAt(0).toUpperCase()}${part.slice(1)}`;
    const text = fields.text(name);
    if (text === '') continue;
    if (!isSelinuxPart(text)) fields.refused(name, `"${text}" is no part of a label`);
    parts[part] = text;
  }
  return parts;
}
