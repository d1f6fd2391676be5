/**
 * Runs inside the guest, whose kernel has SELinux and gets the test's policy: containers and OCI
 * bundles with labels of their programs and mounts.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import type { ContainerConfig } from '../../../runtime/container/types.ts';
import { report } from '../guest.ts';
import { exec } from '../probeExec.ts';
import { makeBundle, runBundle } from './guestBundle.ts';
import { type GuestHost, openGuestHost } from './guestHost.ts';

const SELINUX = '/sys/fs/selinux';

function labelled(label: string): Partial<ContainerConfig> {
  return { securityLabels: [{ kind: 'selinux', label }] };
}

function labelOf(pid: number): string {
  return readFileSync(`/proc/${pid}/attr/current`, 'utf8').replace('\0', '').trim();
}

async function labelsOf(host: GuestHost, extra: Partial<ContainerConfig>): Promise<string[]> {
  const container = await host.start(['sleep', '1000'], extra);
  const running = await container.exec(exec(['sleep', '1000']));
  const labels = [labelOf(container.pid), labelOf(running.pid)];
  await container.kill('SIGKILL');
  await container.wait();
  return labels;
}

function oci(mountLabel: string, ...args: readonly string[]): object {
  return runBundle(args, (config) => {
    config.process.selinuxLabel = 'u:r:box_t';
    // With it the kernel wants a policy that knows of it.
    config.process.noNewPrivileges = false;
    config.linux.mountLabel = mountLabel;
    config.mounts = config.mounts.filter(({ destination }: { destination: string }) => {
      return destination !== '/data';
    });
    const options = ['nosuid'];
    config.mounts.push({ destination: '/data', type: 'tmpfs', source: 'tmpfs', options });
  });
}

async function main(): Promise<void> {
  process.chdir('/app');
  execFileSync('/bin/mount', ['-t', 'selinuxfs', 'none', SELINUX]);
  writeFileSync(`${SELINUX}/load`, readFileSync('/app/files/policy'));
  writeFileSync(`${SELINUX}/enforce`, '1');
  const host = await openGuestHost();
  const [free] = await labelsOf(host, {});
  const [boxed, inExec] = await labelsOf(host, labelled('u:r:box_t'));
  const absent = await host.start(['exit', '0'], labelled('u:r:nothing_t')).then(
    () => '',
    (error: unknown) => String(error),
  );
  makeBundle();
  const data = 'u:object_r:data_t';
  const write = ['mark', '/data/file', 'exit', '0'];
  report({
    free,
    boxed,
    exec: inExec,
    absent,
    oci: {
      label: oci(data, 'cat', '/proc/self/attr/current'),
      mount: oci(data, 'cat', '/proc/mounts'),
      write: oci(data, ...write),
      own: oci('u:object_r:host_t', ...write),
    },
  });
}

main().catch((error: unknown) => report({ failed: String(error) }));
