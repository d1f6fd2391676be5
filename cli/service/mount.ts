/**
 * `--mount` as the API's JSON, the same for services and containers: type, source, target and the
 * options of each type, in Docker's words. The error of a wrong one names it and what is wanted.
 */
import { parseBytes } from '../../base/bytes.ts';
import { SwarmError } from '../../base/errors.ts';
import type { MountJson } from '../docker.ts';

function invalid(text: string, how: string): SwarmError {
  return new SwarmError('invalid', `invalid mount "${text}": ${how}`);
}

/** 'a=1,"b=2,3"' -> fields; a name without '=' has the value 'true'. Quotes keep commas. */
export function csvFields(text: string): [string, string][] {
  const parts = text.match(/(?:"(?:[^"]|"")*"|[^,])+/g) ?? [];
  return parts.map((part) => {
    const plain = part.startsWith('"') ? part.slice(1, -1).replaceAll('""', '"') : part;
    const equals = plain.indexOf('=');
    return equals < 0
      ? [plain.trim().toLowerCase(), 'true']
      : [plain.slice(0, equals).trim().toLowerCase(), plain.slice(equals + 1).trim()];
  });
}

function isTrue(value: string, wrong: () => SwarmError): boolean {
  if (/^(1|t|true)$/i.test(value) || value === '') return true;
  if (/^(0|f|false)$/i.test(value)) return false;
  throw wrong();
}

type Apply = (mount: MountJson, value: string, text: string) => void;

function flag(text: string, value: string): boolean {
  return isTrue(value, () => invalid(text, `"${value}" is neither true nor false`));
}

const readOnly: Apply = (mount, value, text) => {
  mount.ReadOnly = flag(text, value);
};
const source: Apply = (mount, value) => {
  mount.Source = value;
};
const target: Apply = (mount, value) => {
  mount.Target = value;
};

function bind(change: (value: string, text: string) => MountJson['BindOptions']): Apply {
  return (mount, value, text) => {
    mount.BindOptions = { ...mount.BindOptions, ...change(value, text) };
  };
}

function volume(
  change: (value: string, text: string, mount: MountJson) => MountJson['VolumeOptions'],
): Apply {
  return (mount, value, text) => {
    mount.VolumeOptions = { ...mount.VolumeOptions, ...change(value, text, mount) };
  };
}

function pair(value: string): Record<string, string> {
  const equals = value.indexOf('=');
  return equals < 0 ? { [value]: '' } : { [value.slice(0, equals)]: value.slice(equals + 1) };
}

const OPTIONS: Readonly<Record<string, Apply>> = {
  type: (mount, value) => {
    mount.Type = value.toLowerCase();
  },
  source,
  src: source,
  target,
  dst: target,
  destination: target,
  readonly: readOnly,
  ro: readOnly,
  consistency: (mount, value) => {
    mount.Consistency = value;
  },
  'bind-propagation': bind((value) => ({ Propagation: value })),
  'bind-nonrecursive': bind((value, text) => ({ NonRecursive: flag(text, value) })),
  'bind-create-src': bind((value, text) => ({ CreateMountpoint: flag(text, value) })),
  'bind-recursive': bind((value, text) => {
    if (value === 'enabled') return {};
    if (value === 'disabled') return { NonRecursive: true };
    if (value === 'writable') return { ReadOnlyNonRecursive: true };
    if (value === 'readonly') return { ReadOnlyForceRecursive: true };
    throw invalid(text, 'bind-recursive is enabled, disabled, writable or readonly');
  }),
  'volume-nocopy': volume((value, text) => ({ NoCopy: flag(text, value) })),
  'volume-subpath': volume((value) => ({ Subpath: value })),
  'volume-label': volume((value, _, mount) => ({
    Labels: { ...mount.VolumeOptions?.Labels, ...pair(value) },
  })),
  'volume-driver': volume((value, _, mount) => ({
    DriverConfig: { ...mount.VolumeOptions?.DriverConfig, Name: value },
  })),
  'volume-opt': volume((value, _, mount) => {
    const config = mount.VolumeOptions?.DriverConfig;
    return { DriverConfig: { ...config, Options: { ...config?.Options, ...pair(value) } } };
  }),
  'tmpfs-size': (mount, value) => {
    mount.TmpfsOptions = { ...mount.TmpfsOptions, SizeBytes: parseBytes(value) };
  },
  'tmpfs-mode': (mount, value, text) => {
    if (!/^0?[0-7]{3,4}$/.test(value)) throw invalid(text, 'tmpfs-mode is octal: 1777');
    mount.TmpfsOptions = { ...mount.TmpfsOptions, Mode: Number.parseInt(value, 8) };
  },
};

const TYPES: Readonly<Record<string, string>> = {
  volume: '',
  bind: '',
  tmpfs: '',
  npipe: 'named pipes are of Windows',
  image: 'images are not mounted: use a volume, or put what is needed into the image',
  cluster: 'cluster volumes (CSI) are not supported: use a volume of a driver',
};

export function parseMount(text: string): MountJson {
  const mount: MountJson = { Type: 'volume', Target: '' };
  for (const [name, value] of csvFields(text)) {
    if (!Object.hasOwn(OPTIONS, name)) {
      throw invalid(text, `"${name}" is not supported: use ${Object.keys(OPTIONS).join(', ')}`);
    }
    OPTIONS[name](mount, value, text);
  }
  if (!Object.hasOwn(TYPES, mount.Type)) throw invalid(text, 'type is volume, bind or tmpfs');
  if (TYPES[mount.Type] !== '') throw invalid(text, TYPES[mount.Type]);
  if (mount.Target === '') throw invalid(text, 'target is missing');
  const own = { bind: 'BindOptions', volume: 'VolumeOptions', tmpfs: 'TmpfsOptions' } as const;
  for (const [type, field] of Object.entries(own)) {
    if (mount.Type !== type && mount[field] !== undefined) {
      throw invalid(text, `options of ${type} mounts do not go with type ${mount.Type}`);
    }
  }
  return mount;
}
