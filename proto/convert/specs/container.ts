/**
 * What users ask of a container, model <-> wire. Decoding checks that words and numbers are known
 * and fit; whether a specification makes sense is model/validate's business.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import {
  type ContainerSpec,
  type HealthCheck,
  type MountSpec,
  PROPAGATIONS,
  type VolumeOptions,
} from '../../../model/types.ts';
import type {
  ContainerSpecSchema,
  HealthCheckSchema,
  MountSpecSchema,
  ContainerSpec as WireContainerSpec,
  HealthCheck as WireHealthCheck,
  MountSpec as WireMountSpec,
  VolumeOptions as WireVolumeOptions,
} from '../../gen/tsswarm/v1/objects_pb.js';
import { referenceFromWire, referenceToWire } from '../data.ts';
import { fromI64, fromU64, toI32, toI64, toU32, toU64, word } from '../values.ts';

const MOUNT_TYPES = ['bind', 'tmpfs', 'volume'] as const;

function mountToWire(mount: MountSpec): MessageInitShape<typeof MountSpecSchema> {
  return {
    type: mount.type,
    source: mount.source,
    target: mount.target,
    readOnly: mount.readOnly,
    tmpfsSizeBytes: toU64(mount.tmpfsSizeBytes, 'tmpfsSizeBytes'),
    tmpfsMode: toU32(mount.tmpfsMode, 'tmpfsMode'),
    propagation: mount.propagation,
    nonRecursive: mount.nonRecursive,
    createSource: mount.createSource,
    ...(mount.volume === undefined ? {} : { volume: { ...mount.volume } }),
  };
}

function mountFromWire(wire: WireMountSpec): MountSpec {
  return {
    type: word(wire.type, MOUNT_TYPES, 'mount type'),
    source: wire.source,
    target: wire.target,
    readOnly: wire.readOnly,
    tmpfsSizeBytes: fromU64(wire.tmpfsSizeBytes, 'tmpfsSizeBytes'),
    tmpfsMode: wire.tmpfsMode,
    propagation: word(wire.propagation, ['', ...PROPAGATIONS], 'propagation'),
    nonRecursive: wire.nonRecursive,
    createSource: wire.createSource,
    volume: wire.volume === undefined ? undefined : volumeFromWire(wire.volume),
  };
}

function volumeFromWire(wire: WireVolumeOptions): VolumeOptions {
  const { labels, driver, driverOptions, noCopy } = wire;
  return { labels, driver, driverOptions, noCopy };
}

function healthToWire(check: HealthCheck): MessageInitShape<typeof HealthCheckSchema> {
  return {
    test: [...check.test],
    intervalMs: toU64(check.intervalMs, 'health intervalMs'),
    timeoutMs: toU64(check.timeoutMs, 'health timeoutMs'),
    retries: toU32(check.retries, 'health retries'),
    startPeriodMs: toU64(check.startPeriodMs, 'health startPeriodMs'),
    startIntervalMs: toU64(check.startIntervalMs, 'health startIntervalMs'),
  };
}

function healthFromWire(wire: WireHealthCheck): HealthCheck {
  return {
    test: wire.test,
    intervalMs: fromU64(wire.intervalMs, 'health intervalMs'),
    timeoutMs: fromU64(wire.timeoutMs, 'health timeoutMs'),
    retries: wire.retries,
    startPeriodMs: fromU64(wire.startPeriodMs, 'health startPeriodMs'),
    startIntervalMs: fromU64(wire.startIntervalMs, 'health startIntervalMs'),
  };
}

export function containerToWire(spec: ContainerSpec): MessageInitShape<typeof ContainerSpecSchema> {
  return {
    image: spec.image,
    labels: spec.labels,
    command: [...spec.command],
    args: [...spec.args],
    env: [...spec.env],
    workingDir: spec.workingDir,
    user: spec.user,
    groups: [...spec.groups],
    hostname: spec.hostname,
    mounts: spec.mounts.map(mountToWire),
    readOnlyRoot: spec.readOnlyRoot,
    tty: spec.tty,
    stopSignal: spec.stopSignal,
    stopGraceMs: toU64(spec.stopGraceMs, 'stopGraceMs'),
    capabilityAdd: [...spec.capabilityAdd],
    capabilityDrop: [...spec.capabilityDrop],
    sysctls: spec.sysctls,
    hosts: [...spec.hosts],
    dnsServers: [...spec.dnsServers],
    dnsSearch: [...spec.dnsSearch],
    dnsOptions: [...spec.dnsOptions],
    secrets: spec.secrets.map(referenceToWire),
    configs: spec.configs.map(referenceToWire),
    ...(spec.healthCheck === undefined ? {} : { healthCheck: healthToWire(spec.healthCheck) }),
    ...(spec.init === undefined ? {} : { init: spec.init }),
    ulimits: spec.ulimits.map(({ name, soft, hard }) => ({
      name,
      soft: toI64(soft, `ulimit ${name}`),
      hard: toI64(hard, `ulimit ${name}`),
    })),
    oomScoreAdj: toI32(spec.oomScoreAdj, 'oomScoreAdj'),
    userns: spec.userns,
    noNewPrivileges: spec.noNewPrivileges,
    seccompUnconfined: spec.seccomp === 'unconfined',
    seccompProfile: typeof spec.seccomp === 'object' ? spec.seccomp.profile : '',
    apparmorDisabled: spec.apparmorDisabled,
    selinuxDisabled: spec.selinuxDisabled,
    selinux: spec.selinux,
    openStdin: spec.openStdin,
    registryAuth: spec.registryAuth,
  };
}

export function containerFromWire(wire: WireContainerSpec): ContainerSpec {
  return {
    image: wire.image,
    labels: wire.labels,
    command: wire.command,
    args: wire.args,
    env: wire.env,
    workingDir: wire.workingDir,
    user: wire.user,
    groups: wire.groups,
    hostname: wire.hostname,
    mounts: wire.mounts.map(mountFromWire),
    readOnlyRoot: wire.readOnlyRoot,
    tty: wire.tty,
    stopSignal: wire.stopSignal,
    stopGraceMs: fromU64(wire.stopGraceMs, 'stopGraceMs'),
    capabilityAdd: wire.capabilityAdd,
    capabilityDrop: wire.capabilityDrop,
    sysctls: wire.sysctls,
    hosts: wire.hosts,
    dnsServers: wire.dnsServers,
    dnsSearch: wire.dnsSearch,
    dnsOptions: wire.dnsOptions,
    secrets: wire.secrets.map(referenceFromWire),
    configs: wire.configs.map(referenceFromWire),
    healthCheck: wire.healthCheck === undefined ? undefined : healthFromWire(wire.healthCheck),
    init: wire.init,
    ulimits: wire.ulimits.map(({ name, soft, hard }) => ({
      name,
      soft: fromI64(soft, `ulimit ${name}`),
      hard: fromI64(hard, `ulimit ${name}`),
    })),
    oomScoreAdj: wire.oomScoreAdj,
    userns: usernsFromWire(wire.userns),
    noNewPrivileges: wire.noNewPrivileges,
    apparmorDisabled: wire.apparmorDisabled,
    selinuxDisabled: wire.selinuxDisabled,
    selinux: wire.selinux,
    seccomp: seccompFromWire(wire),
    openStdin: wire.openStdin,
    registryAuth: wire.registryAuth,
  };
}

function seccompFromWire(wire: WireContainerSpec): ContainerSpec['seccomp'] {
  if (wire.seccompProfile !== '') return { profile: wire.seccompProfile };
  return wire.seccompUnconfined ? 'unconfined' : 'default';
}

function usernsFromWire(text: string): ContainerSpec['userns'] {
  return text === 'host' || text === 'own' ? text : '';
}
