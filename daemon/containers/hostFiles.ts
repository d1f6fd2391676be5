/**
 * /etc/hosts, /etc/hostname and /etc/resolv.conf of a container that has no network of its own
 * (host, none): copies of the host's with what was asked for added. Containers on networks get
 * theirs from runtime/net.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ContainerRecord } from './types.ts';

export interface HostFiles {
  readonly hostsFile: string;
  readonly hostnameFile: string;
  readonly resolvConfFile: string;
}

export function hostFilesRoot(execRoot: string): string {
  return join(execRoot, 'standalone');
}

export function hostFilePaths(execRoot: string, containerId: string): HostFiles {
  const directory = join(hostFilesRoot(execRoot), containerId);
  return {
    hostsFile: join(directory, 'hosts'),
    hostnameFile: join(directory, 'hostname'),
    resolvConfFile: join(directory, 'resolv.conf'),
  };
}

const LOCAL_HOSTS = [
  '127.0.0.1\tlocalhost',
  '::1\tlocalhost ip6-localhost ip6-loopback',
  'fe00::0\tip6-localnet',
  'ff00::0\tip6-mcastprefix',
  'ff02::1\tip6-allnodes',
  'ff02::2\tip6-allrouters',
];

/** `hosts`: added lines, 'address<tab>name'. */
export function writeHostFiles(
  execRoot: string,
  record: ContainerRecord,
  hostname: string,
  hosts: readonly string[],
): void {
  const { spec } = record;
  const paths = hostFilePaths(execRoot, record.id);
  mkdirSync(join(hostFilesRoot(execRoot), record.id), { recursive: true, mode: 0o755 });
  const base =
    spec.networkMode === 'host' ? readOr('/etc/hosts').trimEnd().split('\n') : LOCAL_HOSTS;
  writeFileSync(paths.hostsFile, `${[...base, ...hosts].join('\n')}\n`);
  writeFileSync(paths.hostnameFile, `${hostname}\n`);
  writeFileSync(paths.resolvConfFile, resolvConf(record));
}

function resolvConf({ spec }: ContainerRecord): string {
  const given = [
    ...spec.dnsServers.map((server) => `nameserver ${server}`),
    ...(spec.dnsSearch.length > 0 ? [`search ${spec.dnsSearch.join(' ')}`] : []),
    ...(spec.dnsOptions.length > 0 ? [`options ${spec.dnsOptions.join(' ')}`] : []),
  ];
  const kept = readOr('/etc/resolv.conf')
    .split('\n')
    .filter(
      (line) =>
        !(spec.dnsServers.length > 0 && line.startsWith('nameserver')) &&
        !(spec.dnsSearch.length > 0 && /^(search|domain)\b/.test(line)) &&
        !(spec.dnsOptions.length > 0 && line.startsWith('options')),
    );
  return `${[...kept, ...given].join('\n').trimEnd()}\n`;
}

function readOr(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // the host has no such file: the container's holds what was asked for alone
  }
}

export function removeHostFiles(execRoot: string, containerId: string): void {
  rmSync(join(hostFilesRoot(execRoot), containerId), { recursive: true, force: true });
}
