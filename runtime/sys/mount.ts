/**
 * What is mounted on this host, and letting go of it. A container's own mounts are the shim's, in a
 * namespace of their own; they never pass through here.
 */
import { readFileSync } from 'node:fs';
import { errno, MNT_DETACH, systemError, umount2 } from './libc.ts';

const EINVAL = 22;
const ENOENT = 2;

export interface MountEntry {
  readonly mountPoint: string;
  readonly type: string;
  readonly source: string;
  /** The file system's own options, e.g. ['rw', 'cpu', 'cpuacct']. */
  readonly options: readonly string[];
}

/** This process's mounts, in mount order. */
export function readMounts(): readonly MountEntry[] {
  return parseMountInfo(readFileSync('/proc/self/mountinfo', 'utf8'));
}

/** proc_pid_mountinfo(5); lines that do not have its form are passed over. */
export function parseMountInfo(text: string): readonly MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of text.split('\n')) {
    const [left, right] = line.split(' - ');
    if (right === undefined) continue;
    const mountPoint = left.split(' ')[4];
    const [type, source, options = ''] = right.split(' ');
    if (mountPoint === undefined || type === undefined || source === undefined) continue;
    entries.push({
      mountPoint: unescapePath(mountPoint),
      type,
      source: unescapePath(source),
      options: options.split(','),
    });
  }
  return entries;
}

/** The kernel writes space, tab, newline and backslash as three octal digits. */
function unescapePath(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}

/** Detaches what is mounted at `target`; nothing mounted there is fine. */
export function unmount(target: string): void {
  if (umount2(target, MNT_DETACH) === 0) return;
  const code = errno();
  if (code !== EINVAL && code !== ENOENT) throw systemError(`cannot unmount ${target}`, code);
}
