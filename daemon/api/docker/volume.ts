/** Volumes as Docker's JSON. */
import type { Volume } from '../../../runtime/volume/types.ts';
import { timeOf } from './common.ts';

export function volumeToDocker(
  volume: Volume,
  usage?: { readonly sizeBytes: number; readonly users: number },
): object {
  const anonymous = volume.anonymous ? { 'com.docker.volume.anonymous': '' } : {};
  const labels = { ...volume.labels, ...anonymous };
  return {
    CreatedAt: timeOf(Math.floor(volume.createdAtMs / 1000) * 1000).replace('.000Z', 'Z'),
    Driver: volume.driver,
    Labels: Object.keys(labels).length === 0 ? null : labels,
    Mountpoint: volume.mountpoint,
    Name: volume.name,
    Options: Object.keys(volume.options).length === 0 ? null : volume.options,
    Scope: 'local',
    ...(usage === undefined ? {} : { UsageData: { RefCount: usage.users, Size: usage.sizeBytes } }),
  };
}
