/** What `info` says of this host. Reads the host; decides nothing. */
import { existsSync, readFileSync } from 'node:fs';
import { cpus, hostname, release, totalmem } from 'node:os';
import { describeHost } from '../agent/describe.ts';
import { VERSION } from '../base/version.ts';
import type { DaemonOptions } from './environment.ts';
import type { HostInfo } from './types.ts';

const CGROUP2_ROOT = '/sys/fs/cgroup/cgroup.controllers';

/** A value of /etc/os-release, without quotes; '' when absent. */
function osRelease(key: string): string {
  try {
    const text = readFileSync('/etc/os-release', 'utf8');
    return new RegExp(`^${key}="?([^"\n]*)"?$`, 'm').exec(text)?.[1] ?? '';
  } catch {
    return ''; // minimal systems have no such file
  }
}

export function hostInfo(options: DaemonOptions, id: string): HostInfo {
  return {
    id,
    hostname: hostname(),
    kernel: release(),
    operatingSystem: osRelease('PRETTY_NAME') || 'Linux',
    osVersion: osRelease('VERSION_ID'),
    architecture: describeHost({ engineVersion: VERSION }).architecture,
    cpus: cpus().length,
    memoryBytes: totalmem(),
    cgroupVersion: existsSync(CGROUP2_ROOT) ? '2' : '1',
    isRemapped: options.usernsRemap !== '',
    dataRoot: options.dataRoot,
    execRoot: options.execRoot,
    warnings: [],
  };
}
