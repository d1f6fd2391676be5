/**
 * Small conversions between a task's plan, its attachment and its container's configuration and
 * end, for containerController.ts. Pure, but for a race with an abort.
 */
import { SwarmError } from '../base/errors.ts';
import type { ContainerSpec } from '../model/types.ts';
import { mergeCheck } from '../runtime/container/health.ts';
import { selinuxLabel } from '../runtime/container/labels.ts';
import type { ContainerConfig, ExitRecord, NetworkNamespace } from '../runtime/container/types.ts';
import type { Image } from '../runtime/image/types.ts';
import type { Attachment } from '../runtime/net/types.ts';
import type { NetworkPlan } from './containerPlan.ts';
import type { Exit } from './controller.ts';

export function healthOf(image: Image, spec: ContainerSpec): Pick<ContainerConfig, 'healthCheck'> {
  const healthCheck = mergeCheck(image.config.healthCheck, spec.healthCheck);
  return healthCheck === undefined ? {} : { healthCheck };
}

export function gone(): SwarmError {
  return new SwarmError('not_found', 'its container is gone from this host');
}

export function settledValue<T>(settled: PromiseSettledResult<T>): T {
  if (settled.status === 'rejected') throw settled.reason;
  return settled.value;
}

export function exitOf(record: ExitRecord): Exit {
  const { exitCode, oomKilled, error } = record;
  return { exitCode, oomKilled, error: error ?? '' };
}

export function namespaceOf(
  plan: NetworkPlan,
  attachment: Attachment | undefined,
): NetworkNamespace {
  if (attachment !== undefined) return { path: attachment.namespacePath };
  return plan.kind === 'host' ? 'host' : 'new';
}

export function filesOf(attachment: Attachment) {
  const { hostsFile, hostnameFile, resolvConfFile } = attachment;
  return { hostsFile, hostnameFile, resolvConfFile };
}

export function hostEntry(entry: string): { name: string; address: string } {
  const [address, name] = entry.trim().split(/\s+/);
  if (name !== undefined) return { address, name };
  throw new SwarmError('invalid', `host entry "${entry}": write it as "address name"`);
}

/** `work`'s outcome, or SwarmError cancelled as soon as `signal` fires; the work goes on. */
export function raceAbort<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      reject(new SwarmError('cancelled', 'stopped while its image was pulled'));
    };
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop));
  });
}

/** What security modules are to know of a task's container. */
export function labelsOf(
  spec: ContainerSpec,
): Pick<ContainerConfig, 'securityLabels' | 'apparmorUnconfined'> {
  const isLabelled = !spec.selinuxDisabled && Object.keys(spec.selinux).length > 0;
  return {
    ...(isLabelled
      ? { securityLabels: [{ kind: 'selinux', label: selinuxLabel(spec.selinux) }] }
      : {}),
    ...(spec.apparmorDisabled ? { apparmorUnconfined: true } : {}),
  };
}
