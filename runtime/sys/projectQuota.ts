/**
 * Bounds what a directory may hold on file systems that count by project (ext4 and XFS mounted with
 * prjquota): the directories get a project of their own, which what is made in them inherits, and
 * the project a limit. Knows nothing of containers. It stops who writes too much, not who wants
 * out: the host's root, which is that of a container without a user namespace, too, can give its
 * files another project, as `chattr -p` does.
 */
import { closeSync, openSync } from 'node:fs';
import { SwarmError } from '../../base/errors.ts';
import { check, define, errno, errnoText } from './libc.ts';

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
const Q_GETQUOTA = 0x800007;
const Q_SETQUOTA = 0x800008;
const DQBLK_BYTES = 72;
const SPACE_AT = 16;
const INODES_AT = 40;
const VALID_AT = 64;
const QIF_BLIMITS = 1;
const QUOTA_BLOCK_BYTES = 1024;
const ENOENT = 2;
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

function quotactl(fd: number, command: number, id: number, data: Uint8Array): number {
  return syscall(SYS_QUOTACTL_FD, fd, ((command << 8) | PROJECTS) >>> 0, id, data);
}

/** SwarmError unsupported where the file system of `directory` limits no projects. */
export function checkProjects(directory: string): void {
  const format = Buffer.alloc(DQBLK_BYTES);
  const code = within(directory, (fd) => (quotactl(fd, Q_GETFMT, 0, format) === 0 ? 0 : errno()));
  if (code === 0) return;
  throw new SwarmError(
    'unsupported',
    `a size needs quotas by directory, which the file system of ${directory} does not keep ` +
      `(${errnoText(code)}): mount ext4 or XFS with prjquota there, or leave it out`,
  );
}

/**
 * Whether anything on the file system of `fd` is of the project, whoever made it. The limit that is
 * left of one which is gone says nothing.
 */
function isUsed(fd: number, project: number): boolean {
  const usage = Buffer.alloc(DQBLK_BYTES);
  if (quotactl(fd, Q_GETQUOTA, project, usage) !== 0) {
    if (errno() === ENOENT) return false;
    check(-1, `cannot read what project ${project} holds`);
  }
  return usage.readBigUInt64LE(SPACE_AT) > 0n || usage.readBigUInt64LE(INODES_AT) > 0n;
}

/** A project nothing is of; the directory that gets it makes it a used one. */
function freeProject(directory: string): number {
  return within(directory, (fd) => {
    let project = FIRST_PROJECT;
    while (isUsed(fd, project)) project += 1;
    return project;
  });
}

/** `directories`, of one file system, may hold `bytes` together. */
export function limitDirectories(directories: readonly string[], bytes: number): void {
  const project = freeProject(directories[0]);
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
