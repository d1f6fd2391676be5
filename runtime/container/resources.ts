/**
 * Limits as Docker's users give them, as the OCI resources that the cgroup code takes: Docker's
 * defaults are joined, cores become a quota and paths of devices their numbers. Looks at the host's
 * device files; sets nothing.
 */
import { statSync } from 'node:fs';
import { SwarmError } from '../../base/errors.ts';
import { allowed, type DeviceRule, splitDevice } from '../sys/deviceRules.ts';
import type { DeviceAccess, Resources, ThrottleKind } from '../sys/resources.ts';
import type { ContainerResources, DeviceRate } from './types.ts';

const NANO = 1_000_000_000;
const CPU_PERIOD_US = 100_000;
/** The kernel's least quota. */
const CPU_QUOTA_MIN_US = 1000;
const UNLIMITED = -1;

/** SwarmError invalid for what Docker refuses; `note` is told what was changed. */
export function toResources(limits: ContainerResources, note: (text: string) => void): Resources {
  return {
    memory: memoryOf(limits),
    cpu: cpuOf(limits, note),
    ...(limits.pids === undefined
      ? {}
      : { pids: { limit: limits.pids > 0 ? limits.pids : UNLIMITED } }),
    blockIO: {
      ...(limits.blkioWeight === undefined ? {} : { weight: limits.blkioWeight }),
      weightDevice: (limits.blkioDeviceWeights ?? []).map(({ device, weight }) => ({
        ...deviceNumber(device),
        weight,
      })),
      throttles: throttlesOf(limits.deviceRates ?? []),
    },
  };
}

/** All others are denied. */
export function toDeviceList(rules: readonly DeviceRule[]): readonly DeviceAccess[] {
  return [{ allow: false, access: 'rwm' }, ...rules.map(allowed)];
}

function memoryOf(limits: ContainerResources): Resources['memory'] {
  const { memoryBytes, memorySwapBytes, memoryReservationBytes, memorySwappiness } = limits;
  const { oomKillDisable } = limits;
  if (memoryBytes === undefined && (memorySwapBytes ?? 0) > 0) {
    throw new SwarmError(
      'invalid',
      'You should always set the Memory limit when using Memoryswap limit, see usage',
    );
  }
  // Docker's default; without a limit of memory, one of swap says nothing.
  const swap = memoryBytes === undefined ? undefined : (memorySwapBytes ?? memoryBytes * 2);
  return {
    ...(memoryBytes === undefined ? {} : { limit: memoryBytes }),
    ...(swap === undefined ? {} : { swap }),
    ...(memoryReservationBytes === undefined ? {} : { reservation: memoryReservationBytes }),
    ...(memorySwappiness === undefined ? {} : { swappiness: memorySwappiness }),
    ...(oomKillDisable === undefined ? {} : { disableOOMKiller: oomKillDisable }),
  };
}

function cpuOf(limits: ContainerResources, note: (text: string) => void): Resources['cpu'] {
  const { nanoCpus, cpuPeriodUs, cpuShares, cpusetCpus, cpusetMems } = limits;
  const period = cpuPeriodUs ?? (nanoCpus === undefined ? undefined : CPU_PERIOD_US);
  const quota = nanoCpus === undefined ? undefined : quotaOf(nanoCpus, period ?? 0, note);
  return {
    ...(quota === undefined ? {} : { quota }),
    ...(period === undefined ? {} : { period }),
    ...(cpuShares === undefined ? {} : { shares: cpuShares }),
    ...(cpusetCpus === undefined ? {} : { cpus: cpusetCpus }),
    ...(cpusetMems === undefined ? {} : { mems: cpusetMems }),
    ...(limits.cpuRealtimePeriodUs === undefined
      ? {}
      : { realtimePeriod: limits.cpuRealtimePeriodUs }),
    ...(limits.cpuRealtimeRuntimeUs === undefined
      ? {}
      : { realtimeRuntime: limits.cpuRealtimeRuntimeUs }),
  };
}

function quotaOf(nanoCpus: number, periodUs: number, note: (text: string) => void): number {
  if (nanoCpus === 0) return UNLIMITED;
  const quota = Math.round((nanoCpus * periodUs) / NANO);
  if (quota >= CPU_QUOTA_MIN_US) return quota;
  const least = CPU_QUOTA_MIN_US / periodUs;
  note(`cpu limit ${nanoCpus / NANO} is below the least of ${least} cores, which is used`);
  return CPU_QUOTA_MIN_US;
}

function throttlesOf(rates: readonly DeviceRate[]): NonNullable<Resources['blockIO']>['throttles'] {
  const of = (kind: ThrottleKind, way: DeviceRate['way'], unit: DeviceRate['unit']): object => {
    const own = rates.filter((rate) => rate.way === way && rate.unit === unit);
    if (own.length === 0) return {};
    return {
      [kind]: own.map(({ device, perSecond }) => ({ ...deviceNumber(device), rate: perSecond })),
    };
  };
  return {
    ...of('throttleReadBpsDevice', 'read', 'bytes'),
    ...of('throttleWriteBpsDevice', 'write', 'bytes'),
    ...of('throttleReadIOPSDevice', 'read', 'operations'),
    ...of('throttleWriteIOPSDevice', 'write', 'operations'),
  };
}

/** Looked up at each start: numbers of a path may change with a boot. */
function deviceNumber(path: string): { readonly major: number; readonly minor: number } {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat?.isBlockDevice() !== true) {
    throw new SwarmError('invalid', `cannot limit the use of "${path}": no block device`);
  }
  return splitDevice(stat.rdev);
}
