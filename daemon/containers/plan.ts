/**
 * From what a container is asked to be and its image's configuration to the runtime's
 * configuration: Docker's merge of the two. Pure; mounts, network and layers are the caller's.
 */
import { SwarmError } from '../../base/errors.ts';
import { shortId } from '../../base/id.ts';
import { effectiveCheck, mergeCheck } from '../../runtime/container/health.ts';
import type { ContainerConfig, HealthCheck } from '../../runtime/container/types.ts';
import type { Image } from '../../runtime/image/types.ts';
import { logAttributes } from './logAttributes.ts';
import type { StandaloneSpec } from './types.ts';

export type PlannedConfig = Omit<ContainerConfig, 'layers' | 'mounts' | 'networkNamespace'>;

/** SwarmError invalid: no program to run. */
export function planStandalone(
  id: string,
  name: string,
  spec: StandaloneSpec,
  image: Image,
  hostHostname: string,
): PlannedConfig {
  const healthCheck = plannedCheck(spec, image);
  const planned: PlannedConfig = {
    id,
    name,
    standalone: true,
    labels: { ...image.config.labels, ...spec.labels },
    image: { reference: spec.image, id: image.id },
    args: plannedArgs(spec, image),
    env: plannedEnv(image.config.env, spec.env),
    workingDir: spec.workingDir || image.config.workingDir || '/',
    user: spec.user || image.config.user,
    additionalGroups: spec.groups,
    hostname: plannedHostname(id, spec, hostHostname),
    ...(spec.domainName === '' ? {} : { domainName: spec.domainName }),
    readOnlyRoot: spec.readOnlyRoot,
    resources: spec.resources,
    capabilityAdd: spec.capabilityAdd,
    capabilityDrop: spec.capabilityDrop,
    sysctls: spec.sysctls,
    tty: spec.tty,
    terminalSize: spec.consoleSize,
    openStdin: spec.openStdin,
    stdinOnce: spec.stdinOnce,
    init: spec.init,
    privileged: spec.privileged,
    noNewPrivileges: spec.noNewPrivileges,
    seccomp: spec.privileged ? 'unconfined' : spec.seccomp,
    ...(spec.securityLabels === undefined ? {} : { securityLabels: spec.securityLabels }),
    ...(spec.writableBytes === undefined ? {} : { writableBytes: spec.writableBytes }),
    ...(spec.cgroupParent === undefined ? {} : { cgroupParent: spec.cgroupParent }),
    ...(spec.apparmorUnconfined === true ? { apparmorUnconfined: true } : {}),
    maskPaths: spec.maskPaths && !spec.privileged,
    devices: spec.devices,
    deviceRules: spec.deviceRules ?? [],
    resourceLimits: spec.resourceLimits,
    oomScoreAdjust: spec.oomScoreAdjust,
    ...(spec.shmSizeBytes > 0 ? { shmSizeBytes: spec.shmSizeBytes } : {}),
    pidNamespace: spec.pidNamespace,
    ipcNamespace: spec.ipcNamespace,
    utsNamespace: spec.utsNamespace ?? 'new',
    cgroupNamespace: spec.cgroupNamespace ?? 'new',
    ...(spec.userNamespace === undefined ? {} : { userNamespace: spec.userNamespace }),
    stopSignal: spec.stopSignal || image.config.stopSignal || 'SIGTERM',
    ...(healthCheck === undefined ? {} : { healthCheck }),
    log: spec.log,
  };
  if (spec.logAttributes === undefined) return planned;
  const attributes = logAttributes(planned, spec.logAttributes);
  return { ...planned, log: { ...spec.log, attributes } };
}

/** An entrypoint that was given drops the image's arguments too. */
function plannedArgs(spec: StandaloneSpec, image: Image): readonly string[] {
  const entrypoint = spec.entrypoint ?? image.config.entrypoint;
  const fallback = spec.entrypoint === undefined ? image.config.cmd : [];
  const args = [...entrypoint, ...(spec.command ?? fallback)].filter((_, at, all) =>
    // Docker's client resets an entrypoint with [''].
    at === 0 ? all[0] !== '' : true,
  );
  if (args.length > 0 && args[0] !== '') return args;
  throw new SwarmError('invalid', 'no command specified');
}

/** Given variables win by name; one without '=' takes the image's away. */
function plannedEnv(base: readonly string[], over: readonly string[]): readonly string[] {
  const merged = new Map<string, string>();
  for (const entry of [...base, ...over]) {
    const equals = entry.indexOf('=');
    if (equals === -1) merged.delete(entry);
    else merged.set(entry.slice(0, equals), entry);
  }
  return [...merged.values()];
}

function plannedHostname(id: string, spec: StandaloneSpec, hostHostname: string): string {
  if (spec.utsNamespace === 'host' && spec.hostname !== '') {
    throw new SwarmError('invalid', 'conflicting options: hostname and the UTS mode');
  }
  if (spec.hostname !== '') return spec.hostname;
  const isHosts = spec.networkMode === 'host' || spec.utsNamespace === 'host';
  return isHosts ? hostHostname : shortId(id);
}

function plannedCheck(spec: StandaloneSpec, image: Image): HealthCheck | undefined {
  return effectiveCheck(mergeCheck(image.config.healthCheck, spec.healthCheck));
}

/** The lowest number first, and TCP before others: the first is what a link calls "the port". */
export function portOrder(ports: readonly string[]): readonly string[] {
  return ports.toSorted(
    (left, right) =>
      Number.parseInt(left, 10) - Number.parseInt(right, 10) || (left < right ? -1 : 1),
  );
}

/** '80/tcp' of image and request together. */
export function exposedPorts(
  spec: Pick<StandaloneSpec, 'exposedPorts'> | undefined,
  image: Image | undefined,
): readonly string[] {
  const ports = [...(image?.config.exposedPorts ?? []), ...(spec?.exposedPorts ?? [])];
  return [...new Set(ports.map((port) => (port.includes('/') ? port : `${port}/tcp`)))];
}
