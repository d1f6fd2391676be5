/**
 * The options of a volume that is a mount of something else (type, o, device), as mount(2) takes
 * them. Only what the kernel mounts by itself: network file systems need helpers that are not here.
 */
import { SwarmError } from '../../base/errors.ts';
import {
  check,
  MS_BIND,
  MS_NOATIME,
  MS_NODEV,
  MS_NODIRATIME,
  MS_NOEXEC,
  MS_NOSUID,
  MS_RDONLY,
  MS_REC,
  MS_RELATIME,
  MS_REMOUNT,
  MS_SYNCHRONOUS,
  mountRaw,
} from '../sys/libc.ts';

const FLAGS: Readonly<Record<string, number>> = {
  defaults: 0,
  rw: 0,
  ro: MS_RDONLY,
  nosuid: MS_NOSUID,
  suid: 0,
  nodev: MS_NODEV,
  dev: 0,
  noexec: MS_NOEXEC,
  exec: 0,
  sync: MS_SYNCHRONOUS,
  async: 0,
  noatime: MS_NOATIME,
  nodiratime: MS_NODIRATIME,
  relatime: MS_RELATIME,
  bind: MS_BIND,
  rbind: MS_BIND | MS_REC,
};

/** Mounted by programs of their own, with name look-ups and locks of their own. */
const NEEDS_HELPER = new Set(['nfs', 'nfs4', 'cifs', 'smb3', 'smbfs']);
const KNOWN = new Set(['type', 'o', 'device']);

export interface LocalMount {
  readonly type: string;
  readonly device: string;
  readonly flags: number;
  /** For the file system itself. */
  readonly data: string;
}

/** undefined without options. SwarmError invalid or unsupported names the option. */
export function parseLocalMount(options: Readonly<Record<string, string>>): LocalMount | undefined {
  const names = Object.keys(options);
  if (names.length === 0) return undefined;
  const unknown = names.find((name) => !KNOWN.has(name));
  if (unknown !== undefined) {
    throw new SwarmError('invalid', `invalid option: "${unknown}": use type, o and device`);
  }
  const { type = '', device = '', o = '' } = options;
  if (NEEDS_HELPER.has(type)) {
    throw new SwarmError(
      'unsupported',
      `volume option type=${type} is not supported: mount it on the host and use a bind mount`,
    );
  }
  let flags = 0;
  const data: string[] = [];
  for (const word of o.split(',').filter((each) => each !== '')) {
    if (Object.hasOwn(FLAGS, word)) flags |= FLAGS[word];
    else data.push(word);
  }
  const isBind = (flags & MS_BIND) !== 0;
  if (device === '') throw new SwarmError('invalid', 'missing device in volume options');
  if (type === '' && !isBind) throw new SwarmError('invalid', 'missing type in volume options');
  if (isBind && !device.startsWith('/')) {
    throw new SwarmError('invalid', `volume option device=${device}: give an absolute path`);
  }
  return { type, device, flags, data: data.join(',') };
}

/** SwarmError with the kernel's reason. */
export function mountLocal(mount: LocalMount, target: string, volume: string): void {
  const { type, device, flags, data } = mount;
  const what = `cannot mount volume ${volume} (type=${type}, device=${device})`;
  check(mountRaw(device, target, type, flags, data), what);
  // A bind mount takes its other flags only when it is mounted again.
  if ((flags & MS_BIND) === 0 || (flags & ~(MS_BIND | MS_REC)) === 0) return;
  check(mountRaw(null, target, null, flags | MS_REMOUNT, null), what);
}
