/**
 * Mounts of a container as Docker's requests write them: HostConfig.Binds ('src:dst:ro'), Mounts
 * and Tmpfs. What Docker has and tsswarm does not is refused by its path.
 */
import { posix } from 'node:path';
import { parseBytes } from '../../../base/bytes.ts';
import { SwarmError } from '../../../base/errors.ts';
import { PROPAGATIONS } from '../../../model/types.ts';
import { BARE_MOUNT } from '../../containers/mounts.ts';
import type { MountRequest } from '../../containers/types.ts';
import type { Fields } from '../fields.ts';

/** Hints for other systems, and labels of SELinux, which is not used here: nothing to do. */
const NO_EFFECT = new Set(['rw', 'z', 'Z', 'consistent', 'cached', 'delegated', 'copy']);
const VOLUME_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

/** All mounts of a request. SwarmError invalid for two on one target. */
export function mountsFromDocker(hostConfig: Fields): readonly MountRequest[] {
  const mounts = [
    ...hostConfig.texts('Binds').map(bindFromText),
    ...hostConfig.objects('Mounts').map(mountFromDocker),
    ...Object.entries(hostConfig.labels('Tmpfs')).map(([target, text]) =>
      tmpfsFromText(target, text),
    ),
  ];
  const seen = new Set<string>();
  for (const { target } of mounts) {
    if (seen.has(target)) throw new SwarmError('invalid', `Duplicate mount point: ${target}`);
    seen.add(target);
  }
  return mounts;
}

function checkTarget(target: string, what: string): string {
  const clean = posix.normalize(target).replace(/(.)\/$/, '$1');
  if (target.startsWith('/') && clean !== '/') return clean;
  throw new SwarmError(
    'invalid',
    `invalid ${what}: invalid mount path: '${target}' mount path must be absolute and not /`,
  );
}

function bindFromText(text: string): MountRequest {
  const parts = text.split(':');
  const [source, target = '', mode = ''] = parts;
  if (parts.length < 2 || parts.length > 3 || source === '') {
    throw new SwarmError('invalid', `invalid volume specification: '${text}'`);
  }
  const isPath = source.startsWith('/');
  if (!isPath && !VOLUME_NAME.test(source)) {
    throw new SwarmError(
      'invalid',
      `invalid volume specification: '${text}': "${source}" is neither an absolute path nor a ` +
        'volume name',
    );
  }
  let out: MountRequest = {
    ...BARE_MOUNT,
    type: isPath ? 'bind' : 'volume',
    source,
    target: checkTarget(target, `volume specification '${text}'`),
    mode,
    createSource: isPath,
  };
  for (const word of mode.split(',').filter((each) => each !== '')) {
    const propagation = PROPAGATIONS.find((each) => each === word);
    if (word === 'ro') out = { ...out, readOnly: true };
    else if (word === 'nocopy' && !isPath) out = { ...out, noCopy: true };
    else if (propagation !== undefined && isPath) out = { ...out, propagation };
    else if (!NO_EFFECT.has(word)) {
      throw new SwarmError('invalid', `invalid mode: ${word} in volume specification '${text}'`);
    }
  }
  return out;
}

function mountFromDocker(fields: Fields): MountRequest {
  const type = fields.text('Type');
  const target = checkTarget(fields.text('Target'), 'mount config');
  const common = { ...BARE_MOUNT, target, readOnly: fields.flag('ReadOnly') };
  fields.refuse('ClusterOptions');
  if (type !== 'image') refuseOf(fields, 'ImageOptions');
  const source = fields.text('Source');
  switch (type) {
    case 'bind': {
      refuseOf(fields, 'VolumeOptions', 'TmpfsOptions');
      if (!source.startsWith('/')) {
        throw new SwarmError(
          'invalid',
          `invalid mount config for type "bind": invalid mount path: '${source}' mount path must ` +
            'be absolute',
        );
      }
      const options = fields.objectOrEmpty('BindOptions');
      const writableBelow = options.flag('ReadOnlyNonRecursive');
      const isForced = options.flag('ReadOnlyForceRecursive');
      if (writableBelow && isForced) {
        throw new SwarmError(
          'invalid',
          'invalid mount config for type "bind": conflicting options: ReadOnlyNonRecursive and ' +
            'ReadOnlyForceRecursive',
        );
      }
      if (isForced && !common.readOnly) {
        throw new SwarmError(
          'invalid',
          'invalid mount config for type "bind": ReadOnlyForceRecursive needs a read-only mount',
        );
      }
      return {
        ...common,
        type,
        source,
        ...(writableBelow ? { writableBelow } : {}),
        createSource: options.flag('CreateMountpoint'),
        nonRecursive: options.flag('NonRecursive'),
        propagation: options.has('Propagation')
          ? options.choice('Propagation', PROPAGATIONS, 'rprivate')
          : undefined,
      };
    }
    case 'volume': {
      refuseOf(fields, 'BindOptions', 'TmpfsOptions');
      const options = fields.objectOrEmpty('VolumeOptions');
      const subpath = options.text('Subpath');
      const driver = options.objectOrEmpty('DriverConfig');
      if (!['', 'local'].includes(driver.text('Name'))) driver.refused('Name', 'use local');
      return {
        ...common,
        type,
        source,
        noCopy: options.flag('NoCopy'),
        ...(subpath === '' ? {} : { subpath: checkSubpath(subpath) }),
        labels: options.labels('Labels'),
        driverOptions: driver.labels('Options'),
      };
    }
    case 'tmpfs': {
      refuseOf(fields, 'BindOptions', 'VolumeOptions');
      if (source !== '') {
        throw new SwarmError(
          'invalid',
          'invalid mount config for type "tmpfs": field Source must be empty',
        );
      }
      const options = fields.objectOrEmpty('TmpfsOptions');
      options.refuse('Options');
      return {
        ...common,
        type,
        tmpfsSizeBytes: options.whole('SizeBytes', 0),
        tmpfsMode: options.whole('Mode', 0),
      };
    }
    case 'image':
      refuseOf(fields, 'BindOptions', 'VolumeOptions', 'TmpfsOptions');
      fields.objectOrEmpty('ImageOptions').refuse('Subpath');
      if (source === '') {
        throw new SwarmError(
          'invalid',
          'invalid mount config for type "image": field Source must not be empty',
        );
      }
      return { ...common, type, source };
    case 'npipe':
    case 'cluster':
      return fields.refused('Type', 'use bind, volume, tmpfs or image');
    default:
      throw new SwarmError('invalid', `mount type unknown: "${type}"`);
  }
}

/** Relative, and inside by its words; what links in it do is seen when it is mounted. */
function checkSubpath(subpath: string): string {
  if (!subpath.startsWith('/') && !subpath.split('/').includes('..')) return subpath;
  throw new SwarmError(
    'invalid',
    'invalid mount config for type "volume": subpath must be a relative path within the volume',
  );
}

/** Options that belong to another type of mount. */
function refuseOf(fields: Fields, ...names: string[]): void {
  for (const name of names) {
    if (fields.has(name)) {
      throw new SwarmError('invalid', `invalid mount config: field ${name} must not be specified`);
    }
  }
}

/** What the runtime sets anyway. */
const TMPFS_DEFAULTS = new Set(['rw', 'nosuid', 'nodev', 'noexec', 'relatime', 'defaults']);

function tmpfsFromText(path: string, text: string): MountRequest {
  const target = checkTarget(path, 'mount config');
  let out: MountRequest = { ...BARE_MOUNT, type: 'tmpfs', target, mode: text };
  for (const word of text.split(',').filter((each) => each !== '')) {
    const [name, value = ''] = word.split('=', 2);
    if (name === 'size') out = { ...out, tmpfsSizeBytes: parseBytes(value) };
    else if (name === 'mode' && /^[0-7]+$/.test(value)) {
      out = { ...out, tmpfsMode: Number.parseInt(value, 8) };
    } else if (word === 'ro') out = { ...out, readOnly: true };
    else if (word === 'exec') out = { ...out, tmpfsExecutable: true };
    else if (!TMPFS_DEFAULTS.has(word)) {
      throw new SwarmError(
        'unsupported',
        `HostConfig.Tmpfs.${path}: the option ${word} is not supported: use size, mode, exec, ro`,
      );
    }
  }
  return out;
}
