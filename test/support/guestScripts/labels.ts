/**
 * Runs inside the guest, whose kernel has AppArmor: containers with the default profile, with none,
 * with one of the user's and with one that is not there.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { ContainerConfig } from '../../../runtime/container/types.ts';
import { report } from '../guest.ts';
import { exec } from '../probeExec.ts';
import { type GuestHost, openGuestHost } from './guestHost.ts';

const PARSER = '/sbin/apparmor_parser';
const MINE =
  'profile mine flags=(attach_disconnected) { file, capability, signal, deny /tmp/** w, }';
async function main(): Promise<void> {
  process.chdir('/app');
  execFileSync('/bin/mount', ['-t', 'securityfs', 'none', '/sys/kernel/security']);
  const host = await openGuestHost();
  execFileSync(PARSER, ['--replace', '--skip-cache', '--quiet'], { input: MINE });
  const mine = { securityLabels: [{ kind: 'apparmor', label: 'mine' }] } as const;
  const absent = { securityLabels: [{ kind: 'apparmor', label: 'no-such-profile' }] } as const;
  report({
    usual: await judged(host, {}),
    open: await judged(host, { apparmorUnconfined: true }),
    privileged: await judged(host, { privileged: true }),
    mine: await judged(host, mine),
    exec: await inExec(host),
    unloaded: await afterUnloading(host),
    absent: await host.start(['exit', '0'], absent).then(
      () => '',
      (error: unknown) => String(error),
    ),
  });
}

/** Its profile, and what it says of a mount and of a file it writes. */
async function judged(host: GuestHost, extra: Partial<ContainerConfig>): Promise<object> {
  const container = await host.start(['sleep', '1000'], extra);
  const profile = readFileSync(`/proc/${container.pid}/attr/apparmor/current`, 'utf8').trim();
  await container.kill('SIGKILL');
  await container.wait();
  const may: Partial<ContainerConfig> = { ...extra, capabilityAdd: ['SYS_ADMIN'] };
  const said = async (...args: readonly string[]): Promise<string> =>
    (await host.run(args, may)).output.trim();
  return {
    profile,
    mount: await said('call', 'mount'),
    write: await said('mark', '/tmp/file', 'exit', '0'),
  };
}

async function inExec(host: GuestHost): Promise<string> {
  const container = await host.start(['sleep', '1000']);
  const running = await container.exec(exec(['sleep', '1000']));
  const text = readFileSync(`/proc/${running.pid}/attr/apparmor/current`, 'utf8').trim();
  await container.kill('SIGKILL');
  await container.wait();
  return text;
}

/** Of the first process and an exec of one that ran meanwhile, and of the next that is started. */
async function afterUnloading(host: GuestHost): Promise<readonly string[]> {
  const profile = (pid: number): string =>
    readFileSync(`/proc/${pid}/attr/apparmor/current`, 'utf8').trim();
  const container = await host.start(['sleep', '1000']);
  execFileSync(PARSER, ['--remove'], { input: 'profile tsswarm-default { file, }' });
  const before = [profile(container.pid)];
  const next = await host.start(['sleep', '1000']);
  const running = await container.exec(exec(['sleep', '1000']));
  const found = [...before, profile(running.pid), profile(next.pid)];
  for (const one of [container, next]) {
    await one.kill('SIGKILL');
    await one.wait();
  }
  return found;
}

main().catch((error: unknown) => report({ failed: String(error) }));
