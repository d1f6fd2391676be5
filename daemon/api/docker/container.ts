/**
 * The container part of a service's specification (Docker's TaskTemplate.ContainerSpec), both ways.
 * Fields that Docker has and tsswarm has not built are refused by their path.
 */

import { SwarmError } from '../../../base/errors.ts';
import { DEFAULT_STOP_GRACE_MS } from '../../../model/defaults.ts';
import type { ContainerSpec, MountSpec } from '../../../model/types.ts';
import type { Fields } from '../fields.ts';
import { nanoseconds, readDurationMs } from './common.ts';
import { referenceFromDocker, referenceToDocker } from './data.ts';

export function containerToDocker(spec: ContainerSpec): object {
  const dns = spec.dnsServers.length + spec.dnsSearch.length + spec.dnsOptions.length > 0;
  return {
    Image: spec.image,
    ...some('Labels', spec.labels),
    ...some('Command', spec.command),
    ...some('Args', spec.args),
    ...some('Hostname', spec.hostname),
    ...some('Env', spec.env),
    ...some('Dir', spec.workingDir),
    ...some('User', spec.user),
    ...some('Groups', spec.groups),
    ...(spec.tty ? { TTY: true } : {}),
    ...some('Mounts', spec.mounts.map(mountToDocker)),
    ...(spec.readOnlyRoot ? { ReadOnly: true } : {}),
    ...some('StopSignal', spec.stopSignal),
    StopGracePeriod: nanoseconds(spec.stopGraceMs),
    ...some('Hosts', spec.hosts),
    ...(dns
      ? {
          DNSConfig: {
            ...some('Nameservers', spec.dnsServers),
            ...some('Search', spec.dnsSearch),
            ...some('Options', spec.dnsOptions),
          },
        }
      : { DNSConfig: {} }),
    Isolation: 'default',
    ...some('Sysctls', spec.sysctls),
    ...some('CapabilityAdd', spec.capabilityAdd),
    ...some('CapabilityDrop', spec.capabilityDrop),
    ...some(
      'Secrets',
      spec.secrets.map((item) => referenceToDocker('secret', item)),
    ),
    ...some(
      'Configs',
      spec.configs.map((item) => referenceToDocker('config', item)),
    ),
  };
}

/** { name: value } unless it is empty: Go's omitempty. */
function some(name: string, value: string | readonly unknown[] | object): object {
  const size = typeof value === 'string' ? value.length : Object.keys(value).length;
  return size === 0 ? {} : { [name]: value };
}

function mountToDocker(mount: MountSpec): object {
  return {
    Type: mount.type,
    ...some('Source', mount.source),
    Target: mount.target,
    ...(mount.readOnly ? { ReadOnly: true } : {}),
    ...(mount.type === 'tmpfs' && (mount.tmpfsSizeBytes > 0 || mount.tmpfsMode > 0)
      ? { TmpfsOptions: { SizeBytes: mount.tmpfsSizeBytes, Mode: mount.tmpfsMode } }
      : {}),
  };
}

export function containerFromDocker(fields: Fields): ContainerSpec {
  const image = fields.text('Image');
  if (image === '') {
    throw new SwarmError('invalid', `${fields.at('Image')} must not be empty: name an image`);
  }
  fields.refuse('Init', 'OpenStdin', 'Ulimits', 'OomScoreAdj', 'Privileges');
  refuseHealthcheck(fields);
  if (!['', 'default'].includes(fields.text('Isolation'))) fields.refused('Isolation');
  const dns = fields.objectOrEmpty('DNSConfig');
  return {
    image,
    labels: fields.labels('Labels'),
    command: fields.texts('Command'),
    args: fields.texts('Args'),
    env: fields.texts('Env'),
    workingDir: fields.text('Dir'),
    user: fields.text('User'),
    groups: fields.texts('Groups'),
    hostname: fields.text('Hostname'),
    mounts: fields.objects('Mounts').map(mountFromDocker),
    readOnlyRoot: fields.flag('ReadOnly'),
    tty: fields.flag('TTY'),
    stopSignal: fields.text('StopSignal'),
    stopGraceMs: readDurationMs(fields, 'StopGracePeriod', DEFAULT_STOP_GRACE_MS),
    capabilityAdd: fields.texts('CapabilityAdd'),
    capabilityDrop: fields.texts('CapabilityDrop'),
    sysctls: fields.labels('Sysctls'),
    hosts: fields.texts('Hosts'),
    dnsServers: dns.texts('Nameservers'),
    dnsSearch: dns.texts('Search'),
    dnsOptions: dns.texts('Options'),
    secrets: fields.objects('Secrets').map((item) => referenceFromDocker('secret', item)),
    configs: fields.objects('Configs').map((item) => referenceFromDocker('config', item)),
  };
}

/** 'NONE' switches a health check off, which is what tsswarm does anyway. */
function refuseHealthcheck(fields: Fields): void {
  const check = fields.object('Healthcheck');
  if (check === undefined) return;
  const test = check.texts('Test');
  if (test.length === 0 || (test.length === 1 && test[0] === 'NONE')) {
    check.refuse('Interval', 'Timeout', 'StartPeriod', 'StartInterval', 'Retries');
    return;
  }
  fields.refused('Healthcheck');
}

const MOUNT_TYPES = ['bind', 'tmpfs', 'volume'] as const;

function mountFromDocker(fields: Fields): MountSpec {
  const type = fields.text('Type', 'volume');
  const known = MOUNT_TYPES.find((item) => item === type);
  if (known === undefined) {
    if (['npipe', 'cluster', 'image'].includes(type)) fields.refused('Type', 'use bind or tmpfs');
    throw new SwarmError('invalid', `${fields.at('Type')}: "${type}" is no mount type`);
  }
  const bind = fields.objectOrEmpty('BindOptions');
  if (!['', 'rprivate'].includes(bind.text('Propagation'))) bind.refused('Propagation');
  bind.refuse('NonRecursive', 'CreateMountpoint', 'ReadOnlyNonRecursive', 'ReadOnlyForceRecursive');
  fields.refuse('VolumeOptions', 'ClusterOptions', 'ImageOptions');
  const tmpfs = fields.objectOrEmpty('TmpfsOptions');
  tmpfs.refuse('Options');
  return {
    type: known,
    source: fields.text('Source'),
    target: fields.text('Target'),
    readOnly: fields.flag('ReadOnly'),
    tmpfsSizeBytes: tmpfs.whole('SizeBytes', 0),
    tmpfsMode: tmpfs.whole('Mode', 0),
  };
}
