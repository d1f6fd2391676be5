/**
 * The AppArmor profile that containers get where the kernel has AppArmor and Debian's compiler for
 * profiles is there: what Docker's own refuses (writes below /proc and /sys, mounts, traces and
 * signals from outside), under a name of ours. Without either it does nothing and says so.
 */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { messageOf, SwarmError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';

const ENABLED = '/sys/module/apparmor/parameters/enabled';
const PARSERS = ['/sbin/apparmor_parser', '/usr/sbin/apparmor_parser'];
const PARSER_ARGS = ['--replace', '--skip-cache', '--quiet'];
const NAME = 'tsswarm-default';
const STDERR_MAX_BYTES = 4096;
/** It takes well under a second. */
const PARSER_TIMEOUT_MS = 30_000;
/** One line each, "name (mode)"; not there where nobody has mounted securityfs. */
const PROFILES = '/sys/kernel/security/apparmor/profiles';

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

/** The profile that process `pid` has; undefined when that cannot be told. */
export function profileOf(pid: number): string | undefined {
  if (!hasAppArmor()) return undefined;
  // Where modules are stacked, each has its own file since Linux 5.8.
  for (const name of ['apparmor/current', 'current']) {
    try {
      const text = readFileSync(`/proc/${pid}/attr/${name}`, 'utf8');
      return text
        .replace(/\0$/, '')
        .trim()
        .replace(/ \([a-z]+\)$/, '');
    } catch {
      // an older kernel, or it has ended meanwhile
    }
  }
  return undefined;
}

/**
 * Loads the profile again if somebody has unloaded it since. SwarmError unavailable when that
 * fails: what was to be confined does not run without.
 */
export async function restoreDefaultProfile(): Promise<void> {
  if (loaded === '' || !isUnloaded()) return;
  const parser = PARSERS.find((path) => existsSync(path));
  try {
    if (parser === undefined) throw new Error('apparmor_parser is missing (apt: apparmor)');
    await feed(parser, PARSER_ARGS);
  } catch (error) {
    throw new SwarmError(
      'unavailable',
      `the AppArmor profile ${NAME} was unloaded and cannot be loaded again: ${messageOf(error)}`,
      { cause: error },
    );
  }
}

function isUnloaded(): boolean {
  let text: string;
  try {
    text = readFileSync(PROFILES, 'utf8');
  } catch {
    return false; // cannot be told: a start will
  }
  return !text.split('\n').some((line) => line.startsWith(`${NAME} (`));
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
    await feed(parser, PARSER_ARGS);
    loaded = NAME;
  } catch (error) {
    log.warn('containers get no AppArmor profile', { error: messageOf(error) });
  }
}

/** Gives the profile to `parser`, which is killed when it takes too long. */
export function feed(
  parser: string,
  args: readonly string[],
  timeoutMs = PARSER_TIMEOUT_MS,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(parser, args, {
      stdio: ['pipe', 'ignore', 'pipe'],
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    });
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => {
      said = `${said}${chunk.toString()}`.slice(0, STDERR_MAX_BYTES);
    });
    // It may end without reading: its exit tells.
    child.stdin.on('error', () => undefined);
    child.on('error', reject);
    // Workers that it leaves behind may hold its output.
    child.on('exit', () => child.killed && child.stderr.destroy());
    child.on('close', (code, signal) => {
      if (code === 0) resolve();
      else if (child.killed) reject(new Error(`${parser} did not end within ${timeoutMs} ms`));
      else if (signal !== null) reject(new Error(`${parser} was ended by ${signal}`));
      else reject(new Error(`${parser} ended with ${code}: ${said.trim()}`));
    });
    child.stdin.end(PROFILE);
  });
}
