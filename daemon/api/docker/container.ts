/**
 * The container part of a service's specification (Docker's TaskTemplate.ContainerSpec), both ways.
 * Fields that Docker has and tsswarm has not built are refused by their path.
 */

import { SwarmError } from '../../../base/errors.ts';
import { DEFAULT_STOP_GRACE_MS } from '../../../model/defaults.ts';
import {
  type ContainerSpec,
  type HealthCheck,
  type MountSpec,
  PROPAGATIONS,
  type Ulimit,
  type VolumeOptions,
} from '../../../model/types.ts';
import type { Fields } from '../fields.ts';
import { nanoseconds, readDurationMs } from './common.ts';
import { referenceFromDocker, referenceToDocker } from './data.ts';
import { privilegesFromDocker, privilegesToDocker } from './privileges.ts';

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
    ...(spec.healthCheck === undefined ? {} : { Healthcheck: healthToDocker(spec.healthCheck) }),
    ...(spec.init === undefined ? {} : { Init: spec.init }),
    ...(spec.openStdin ? { OpenStdin: true } : {}),
    ...(spec.oomScoreAdj === 0 ? {} : { OomScoreAdj: spec.oomScoreAdj }),
    ...(spec.userns === '' ? {} : { UsernsMode: spec.userns }),
    ...some('Ulimits', spec.ulimits.map(ulimitToDocker)),
    ...privilegesToDocker(spec),
  };
}

/** { name: value } unless it is empty: Go's omitempty. */
function some(name: string, value: string | readonly unknown[] | object): object {
  const size = typeof value === 'string' ? value.length : Object.keys(value).length;
  return size === 0 ? {} : { [name]: value };
}

function healthToDocker(check: HealthCheck): object {
  return {
    ...some('Test', check.test),
    ...(check.intervalMs === 0 ? {} : { Interval: nanoseconds(check.intervalMs) }),
    ...(check.timeoutMs === 0 ? {} : { Timeout: nanoseconds(check.timeoutMs) }),
    ...(check.startPeriodMs === 0 ? {} : { StartPeriod: nanoseconds(check.startPeriodMs) }),
    ...(check.startIntervalMs === 0 ? {} : { StartInterval: nanoseconds(check.startIntervalMs) }),
    ...(check.retries === 0 ? {} : { Retries: check.retries }),
  };
}

function ulimitToDocker({ name, soft, hard }: Ulimit): object {
  return { Name: name, Hard: hard, Soft: soft };
}

function mountToDocker(mount: MountSpec): object {
  const { propagation, nonRecursive, createSource, volume } = mount;
  const binds = propagation !== '' || nonRecursive || createSource;
  return {
    Type: mount.type,
    ...some('Source', mount.source),
    Target: mount.target,
    ...(mount.readOnly ? { ReadOnly: true } : {}),
    ...(mount.type === 'tmpfs' && (mount.tmpfsSizeBytes > 0 || mount.tmpfsMode > 0)
      ? { TmpfsOptions: { SizeBytes: mount.tmpfsSizeBytes, Mode: mount.tmpfsMode } }
      : {}),
    ...(binds
      ? {
          BindOptions: {
            ...some('Propagation', propagation),
            ...(nonRecursive ? { NonRecursive: true } : {}),
            ...(createSource ? { CreateMountpoint: true } : {}),
          },
        }
      : {}),
    ...(volume === undefined ? {} : { VolumeOptions: volumeToDocker(volume) }),
  };
}

function volumeToDocker(volume: VolumeOptions): object {
  const { driver, driverOptions } = volume;
  const hasDriver = driver !== '' || Object.keys(driverOptions).length > 0;
  return {
    ...(volume.noCopy ? { NoCopy: true } : {}),
    ...some('Labels', volume.labels),
    ...(hasDriver
      ? { DriverConfig: { ...some('Name', driver), ...some('Options', driverOptions) } }
      : {}),
  };
}

export function containerFromDocker(fields: Fields): ContainerSpec {
  const image = fields.text('Image');
  if (image === '') {
    throw new SwarmError('invalid', `${fields.at('Image')} must not be empty: name an image`);
  }
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
    healthCheck: healthFromDocker(fields.object('Healthcheck')),
    init: fields.has('Init') ? fields.flag('Init') : undefined,
    ulimits: fields.objects('Ulimits').map(ulimitFromDocker),
    oomScoreAdj: fields.integer('OomScoreAdj', 0),
    // Not of Docker's services, only of its containers.
    userns: fields.choice('UsernsMode', ['', 'host', 'own'] as const, ''),
    ...privilegesFromDocker(fields.objectOrEmpty('Privileges')),
    openStdin: fields.flag('OpenStdin'),
    registryAuth: '',
  };
}

function healthFromDocker(fields: Fields | undefined): HealthCheck | undefined {
  if (fields === undefined) return undefined;
  const check: HealthCheck = {
    test: fields.texts('Test'),
    intervalMs: readDurationMs(fields, 'Interval', 0),
    timeoutMs: readDurationMs(fields, 'Timeout', 0),
    retries: fields.whole('Retries', 0),
    startPeriodMs: readDurationMs(fields, 'StartPeriod', 0),
    startIntervalMs: readDurationMs(fields, 'StartInterval', 0),
  };
  // Go's zero value: nothing was asked for.
  return check.test.length === 0 &&
    Object.values(check).every((value) => value === 0 || Array.isArray(value))
    ? undefined
    : check;
}

function ulimitFromDocker(fields: Fields): Ulimit {
  return {
    name: fields.text('Name'),
    soft: fields.integer('Soft', 0),
    hard: fields.integer('Hard', 0),
  };
}

function volumeFromDocker(fields: Fields): VolumeOptions {
  fields.refuse('Subpath');
  const driver = fields.objectOrEmpty('DriverConfig');
  if (!['', 'local'].includes(driver.text('Name'))) driver.refused('Name', 'use local');
  return {
    labels: fields.labels('Labels'),
    driver: driver.text('Name'),
    driverOptions: driver.labels('Options'),
    noCopy: fields.flag('NoCopy'),
  };
}

const MOUNT_TYPES = ['bind', 'tmpfs', 'volume'] as const;

function mountFromDocker(fields: Fields): MountSpec {
  const type = fields.text('Type', 'volume');
  const known = MOUNT_TYPES.find((item) => item === type);
  if (known === undefined) {
    if (['npipe', 'cluster', 'image'].includes(type))
      fields.refused('Type', 'use bind, volume or tmpfs');
    throw new SwarmError('invalid', `${fields.at('Type')}: "${type}" is no mount type`);
  }
  const bind = fields.objectOrEmpty('BindOptions');
  bind.refuse('ReadOnlyNonRecursive', 'ReadOnlyForceRecursive');
  fields.refuse('ClusterOptions', 'ImageOptions');
  const volume = fields.object('VolumeOptions');
  const tmpfs = fields.objectOrEmpty('TmpfsOptions');
  tmpfs.refuse('Options');
  return {
    type: known,
    source: fields.text('Source'),
    target: fields.text('Target'),
    readOnly: fields.flag('ReadOnly'),
    tmpfsSizeBytes: tmpfs.whole('SizeBytes', 0),
    tmpfsMode: tmpfs.whole('Mode', 0),
    propagation: bind.choice('Propagation', ['', ...PROPAGATIONS], ''),
    nonRecursive: bind.flag('NonRecursive'),
    createSource: bind.flag('CreateMountpoint'),
    volume: volume === undefined ? undefined : volumeFromDocker(volume),
  };
}
