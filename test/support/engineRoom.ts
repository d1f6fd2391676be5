/**
 * A room for another container engine of this machine: mount, pid, network and cgroup namespaces of
 * its own, with a control group subtree, /run and /etc/containers of its own. All of it ends with
 * the process that holds it, and nothing stays in the machine's directories or groups.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { childrenOf, removeCgroups } from '../../deploy/hosts/system.ts';
import { type Outcome, outcome } from './lab.ts';
import { killed } from './processes.ts';
import { until } from './until.ts';

const READY_LIMIT_MS = 30_000;

/** Into a subtree of every hierarchy; what it runs there sees that as the root of each. */
const JOIN_GROUPS = `
for root in /sys/fs/cgroup /sys/fs/cgroup/*; do
  grep -q " $root cgroup" /proc/mounts || continue
  mkdir "$root/$2"
  for file in cpuset.cpus cpuset.mems; do
    [ ! -e "$root/$file" ] || cat "$root/$file" >"$root/$2/$file"
  done
  echo $$ >"$root/$2/cgroup.procs"
done
exec unshare --cgroup --mount --net --pid --fork --kill-child=KILL sh -ec "$3" room "$1"`;

const FURNISH = `
mount --make-rprivate /
mount -t proc proc /proc
ip link set lo up
awk '$3 == "cgroup" || $3 == "cgroup2" { print $2, $3, $4 }' /proc/mounts >"$1/groups"
mount -t tmpfs tmpfs /run
mkdir -p "$1/etc" /run/lock
[ ! -d /etc/containers ] || mount --bind "$1/etc" /etc/containers
umount -R /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
while read -r at type options; do
  mkdir -p "$at"
  case $type,$options in
    cgroup,*name=systemd*) mount -t cgroup -o none,name=systemd systemd "$at" ;;
    cgroup,*) mount -t cgroup -o "\${at##*/}" "\${at##*/}" "$at" ;;
    *) mount -t cgroup2 cgroup2 "$at" ;;
  esac
done <"$1/groups"
touch "$1/ready"
exec sleep 2147483647`;

export interface EngineRoom {
  /** Of the room alone, on the machine's disk. */
  readonly dir: string;
  /** A command in it, to its end. */
  run(...command: string[]): Promise<Outcome>;
  /** Its standard output; fails on a non-zero exit. */
  must(...command: string[]): Promise<string>;
  /** A command in it that goes on until the room is closed. */
  start(...command: string[]): ChildProcess;
  close(): Promise<void>;
}

export async function openEngineRoom(name: string): Promise<EngineRoom> {
  const dir = mkdtempSync(join(tmpdir(), `${name}-`));
  const subtree = basename(dir);
  const holder = spawn('sh', ['-ec', JOIN_GROUPS, 'room', dir, subtree, FURNISH], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const started = [holder];
  const close = async (): Promise<void> => {
    for (const child of started.toReversed()) await killed(child);
    await removeCgroups(subtree);
    rmSync(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  };
  try {
    await until('the room is furnished', READY_LIMIT_MS, async () => {
      if (holder.exitCode !== null) throw new Error('the room could not be furnished');
      return (await outcome('test', ['-e', join(dir, 'ready')])).code === 0 ? true : undefined;
    });
    const inner = childrenOf(holder.pid ?? 0)[0];
    const enter = ['-t', String(inner), '-m', '-n', '-p', '-C', '--'];
    const run = (...command: string[]): Promise<Outcome> =>
      outcome('nsenter', [...enter, ...command]);
    const must = async (...command: string[]): Promise<string> => {
      const { code, stdout, stderr } = await run(...command);
      if (code !== 0) throw new Error(`${command.join(' ')}: ${code}: ${stderr}`);
      return stdout;
    };
    const start = (...command: string[]): ChildProcess => {
      const child = spawn('nsenter', [...enter, ...command], {
        stdio: ['ignore', 'ignore', 'ignore'],
      });
      started.push(child);
      return child;
    };
    return { dir, run, must, start, close };
  } catch (error) {
    await close();
    throw error;
  }
}
