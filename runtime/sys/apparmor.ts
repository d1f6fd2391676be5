/**
 * The AppArmor profile that containers get where the kernel has AppArmor and Debian's compiler for
 * profiles is there: what Docker's own refuses (writes below /proc and /sys, mounts, traces and
 * signals from outside), under a name of ours. Without either it does nothing and says so.
 */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';

const ENABLED = '/sys/module/apparmor/parameters/enabled';
const PARSERS = ['/sbin/apparmor_parser', '/usr/sbin/apparmor_parser'];
const NAME = 'tsswarm-default';
const STDERR_MAX_BYTES = 4096;

/** As apparmor.d(5) has it, without the files it might include. Later rules do not undo a deny. */
const PROFILE = `
profile ${NAME} flags=(attach_disconnected,mediate_deleted) {
  network,
  capability,
  file,
  umount,
  unix,
  dbus,
  signal (receive) peer=unconfined,
  signal (send,receive) peer=${NAME},
  ptrace (trace,read,tracedby,readby) peer=${NAME},
  deny mount,
  deny /proc/* w,
  deny /proc/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9/]*}/** w,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/kcore rwklx,
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}
`;

let loaded = '';

export function hasAppArmor(): boolean {
  return existsSync(ENABLED) && readFileSync(ENABLED, 'utf8').startsWith('Y');
}

/** What containers get if nothing else was asked for; '' where there is none. */
export function defaultAppArmorProfile(): string {
  return loaded;
}

/** Has the kernel take the profile, in the place of an older one of that name. */
export async function loadDefaultProfile(log: Log): Promise<void> {
  if (!hasAppArmor()) return;
  const parser = PARSERS.find((path) => existsSync(path));
  if (parser === undefined) {
    log.warn('containers get no AppArmor profile: apparmor_parser is missing (apt: apparmor)');
    return;
  }
  try {
    await feed(parser, ['--replace', '--skip-cache', '--quiet']);
    loaded = NAME;
  } catch (error) {
    log.warn('containers get no AppArmor profile', { error: messageOf(error) });
  }
}

function feed(parser: string, args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(parser, args, { stdio: ['pipe', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => {
      said = `${said}${chunk.toString()}`.slice(0, STDERR_MAX_BYTES);
    });
    // It may end without reading: its exit tells.
    child.stdin.on('error', () => undefined);
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) resolve();
      else reject(new Error(`${parser} ended with ${code}: ${said.trim()}`));
    });
    child.stdin.end(PROFILE);
  });
}
