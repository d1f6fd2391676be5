/**
 * Bounds what a directory may hold on file systems that count by project (ext4 and XFS mounted with
 * prjquota): the directories get a project of their own, which what is made in them inherits, and
 * the project a limit. Knows nothing of containers.
 */
import { closeSync, openSync } from 'node:fs';
import { SwarmError } from '../../base/errors.ts';
import { check, define, errno } from './libc.ts';

const ioctl = define<(fd: number, request: number, data: Uint8Array) => number>(
  '',
  'int ioctl(int fd, unsigned long request, void *data)',
);
/** glibc has no wrapper for quotactl_fd(2), which needs no device's name. */
const syscall = define<
  (number: number, fd: number, command: number, id: number, data: Uint8Array) => number
>('', 'long syscall(long number, unsigned int fd, unsigned int command, int id, void *data)');

const FS_IOC_FSGETXATTR = 0x801c581f;
const FS_IOC_FSSETXATTR = 0x401c5820;
const FSXATTR_BYTES = 28;
const PROJECT_AT = 12;
const FS_XFLAG_PROJINHERIT = 0x200;
const SYS_QUOTACTL_FD = 443;
const PROJECTS = 2;
const Q_GETFMT = 0x800004;
const Q_SETQUOTA = 0x800008;
const DQBLK_BYTES = 72;
const VALID_AT = 64;
const QIF_BLIMITS = 1;
const QUOTA_BLOCK_BYTES = 1024;
/** Lower ones may be an administrator's own. */
const FIRST_PROJECT = 0x100000;

function within<T>(directory: string, work: (fd: number) => T): T {
  const fd = openSync(directory, 'r');
  try {
    return work(fd);
  } finally {
    closeSync(fd);
  }
}

/** 0: of no project, or its file system knows none. */
export function projectOf(directory: string): number {
  const data = Buffer.alloc(FSXATTR_BYTES);
  const isKnown = within(directory, (fd) => ioctl(fd, FS_IOC_FSGETXATTR, data)) === 0;
  return isKnown ? data.readUInt32LE(PROJECT_AT) : 0;
}

function quotactl(fd: number, command: number, id: number, data: Uint8Array): number {
  return syscall(SYS_QUOTACTL_FD, fd, ((command << 8) | PROJECTS) >>> 0, id, data);
}

/** SwarmError unsupported where the file system of `directory` limits no projects. */
export function checkProjects(directory: string): void {
  const format = Buffer.alloc(DQBLK_BYTES);
  if (within(directory, (fd) => quotactl(fd, Q_GETFMT, 0, format)) === 0) return;
  throw new SwarmError(
    'unsupported',
    `a size needs quotas by directory, which the file system of ${directory} does not keep ` +
      `(error ${errno()}): mount ext4 or XFS with prjquota there, or leave it out`,
  );
}

/** `directories` may hold `bytes` together; of a project that none of `others` is of. */
export function limitDirectories(
  directories: readonly string[],
  bytes: number,
  others: readonly string[],
): void {
  const taken = new Set(others.map(projectOf));
  let project = FIRST_PROJECT;
  while (taken.has(project)) project += 1;
  const limit = Buffer.alloc(DQBLK_BYTES);
  limit.writeBigUInt64LE(BigInt(Math.ceil(bytes / QUOTA_BLOCK_BYTES)), 0);
  limit.writeUInt32LE(QIF_BLIMITS, VALID_AT);
  for (const directory of directories) {
    within(directory, (fd) => {
      const data = Buffer.alloc(FSXATTR_BYTES);
      check(ioctl(fd, FS_IOC_FSGETXATTR, data), `cannot read the project of ${directory}`);
      data.writeUInt32LE((data.readUInt32LE(0) | FS_XFLAG_PROJINHERIT) >>> 0, 0);
      data.writeUInt32LE(project, PROJECT_AT);
      check(ioctl(fd, FS_IOC_FSSETXATTR, data), `cannot set the project of ${directory}`);
      check(quotactl(fd, Q_SETQUOTA, project, limit), `cannot limit the size of ${directory}`);
    });
  }
}
