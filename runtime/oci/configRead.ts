/**
 * Reads config.json strictly into config.ts's shapes: one error with the field's path for what has
 * the wrong type, is missing or cannot be had here. Opens one file; changes nothing.
 */
import { readFileSync } from 'node:fs';
import { messageOf, SwarmError } from '../../base/errors.ts';
import type { OciSeccomp } from '../container/seccompOci.ts';
import type { IdMap } from '../container/specRecords.ts';
import {
  CAPABILITY_SETS,
  type CapabilitySets,
  HOOK_STAGES,
  NAMESPACES,
  type NamespaceType,
  type OciConfig,
  type OciDevice,
  type OciHook,
  type OciHooks,
  type OciLinux,
  type OciMount,
  type OciProcess,
  type OciScheduler,
} from './config.ts';
import { Fields } from './fields.ts';
import { readResources } from './resourceRead.ts';

/** Larger ones are no configurations: Docker's are some 10 KB. */
const FILE_MAX_BYTES = 4 << 20;
/** RLIM_INFINITY; JSON's numbers near it are not exact. */
const UNLIMITED = 2n ** 64n - 1n;
const NEAR_UNLIMITED = 2 ** 63;

/** The parsed JSON of `path`. SwarmError invalid when it is not there, too large or no JSON. */
export function readJson(path: string): unknown {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
      throw new SwarmError('not_found', `JSON specification file ${path} not found`);
    }
    throw new SwarmError('invalid', `cannot read ${path}: ${messageOf(error)}`, { cause: error });
  }
  if (text.length > FILE_MAX_BYTES) {
    throw new SwarmError('invalid', `${path} is larger than ${FILE_MAX_BYTES} bytes`);
  }
  return parseJson(text, path);
}

export function parseJson(text: string, path: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new SwarmError('invalid', `${path} is no JSON: ${messageOf(error)}`, { cause: error });
  }
}

/** SwarmError invalid names the field. */
export function readConfig(value: unknown): OciConfig {
  const top = new Fields(value, '');
  const ociVersion = top.needText('ociVersion');
  if (!/^1\.\d+\.\d+/.test(ociVersion) && !ociVersion.startsWith('0.')) {
    throw new SwarmError('unsupported', `ociVersion: ${ociVersion} is not one of 1.0 to 1.3`);
  }
  const root = top.object('root');
  if (root === undefined) throw new SwarmError('invalid', 'root: expected an object');
  const linux = top.object('linux') ?? new Fields({}, 'linux');
  const processFields = top.object('process');
  return {
    ociVersion,
    root: { path: root.needText('path'), readonly: root.boolean('readonly') ?? false },
    mounts: top.objects('mounts', readMount) ?? [],
    ...(processFields === undefined ? {} : { process: readProcess(processFields) }),
    hostname: top.text('hostname'),
    domainname: top.text('domainname'),
    hooks: readHooks(top.object('hooks')),
    annotations: top.map('annotations') ?? {},
    linux: readLinux(linux),
  };
}

function readMount(fields: Fields): OciMount {
  return {
    destination: fields.needText('destination'),
    type: fields.text('type') ?? '',
    source: fields.text('source') ?? '',
    options: fields.texts('options') ?? [],
    uidMappings: fields.objects('uidMappings', readMap),
    gidMappings: fields.objects('gidMappings', readMap),
  };
}

function readMap(fields: Fields): IdMap {
  return {
    inside: fields.number('containerID', 0) ?? 0,
    outside: fields.number('hostID', 0) ?? 0,
    count: fields.needNumber('size', 0),
  };
}

/** Also of `exec --process`. */
export function readProcess(fields: Fields): OciProcess {
  const size = fields.object('consoleSize');
  const priority = fields.object('ioPriority');
  const affinity = fields.object('execCPUAffinity');
  const scheduler = fields.object('scheduler');
  const capabilities = fields.object('capabilities');
  const user = fields.object('user') ?? new Fields({}, fields.at('user'));
  return {
    terminal: fields.boolean('terminal') ?? false,
    ...(size !== undefined && {
      consoleSize: { height: size.number('height', 0) ?? 0, width: size.number('width', 0) ?? 0 },
    }),
    user: {
      uid: user.number('uid', 0) ?? 0,
      gid: user.number('gid', 0) ?? 0,
      umask: user.number('umask', 0),
      additionalGids: user.numbers('additionalGids') ?? [],
    },
    args: fields.texts('args') ?? [],
    env: fields.texts('env') ?? [],
    cwd: fields.text('cwd') ?? '',
    ...(capabilities !== undefined && { capabilities: readCapabilities(capabilities) }),
    rlimits: fields.objects('rlimits', readRlimit) ?? [],
    noNewPrivileges: fields.boolean('noNewPrivileges') ?? false,
    apparmorProfile: fields.text('apparmorProfile') ?? '',
    selinuxLabel: fields.text('selinuxLabel') ?? '',
    oomScoreAdj: fields.number('oomScoreAdj'),
    ...(scheduler !== undefined && { scheduler: readScheduler(scheduler) }),
    ...(priority !== undefined && {
      ioPriority: { class: priority.needText('class'), priority: priority.number('priority') ?? 0 },
    }),
    ...(affinity !== undefined && {
      cpuAffinity: {
        initial: affinity.text('initial') ?? '',
        final: affinity.text('final') ?? '',
      },
    }),
  };
}

function readCapabilities(fields: Fields): CapabilitySets {
  const entries = CAPABILITY_SETS.map((set) => [set, fields.texts(set) ?? []]);
  return Object.fromEntries(entries) as CapabilitySets;
}

function readRlimit(fields: Fields): { type: string; soft: bigint; hard: bigint } {
  const value = (name: string): bigint => {
    const number = fields.number(name) ?? 0;
    return number < 0 || number >= NEAR_UNLIMITED ? UNLIMITED : BigInt(number);
  };
  return { type: fields.needText('type'), soft: value('soft'), hard: value('hard') };
}

function readScheduler(fields: Fields): OciScheduler {
  return {
    policy: fields.needText('policy'),
    nice: fields.number('nice') ?? 0,
    priority: fields.number('priority') ?? 0,
    flags: fields.texts('flags') ?? [],
    runtimeNs: fields.number('runtime', 0) ?? 0,
    deadlineNs: fields.number('deadline', 0) ?? 0,
    periodNs: fields.number('period', 0) ?? 0,
  };
}

function readHooks(fields: Fields | undefined): OciHooks {
  const entries = HOOK_STAGES.map((stage) => [stage, fields?.objects(stage, readHook) ?? []]);
  return Object.fromEntries(entries) as unknown as OciHooks;
}

function readHook(fields: Fields): OciHook {
  const path = fields.needText('path');
  if (!path.startsWith('/')) {
    throw new SwarmError('invalid', `${fields.at('path')}: "${path}" is not an absolute path`);
  }
  const args = fields.texts('args') ?? [];
  return {
    path,
    args: args.length === 0 ? [path] : args,
    env: fields.texts('env'),
    timeoutS: fields.number('timeout', 1),
  };
}

/** Known and not built: refused rather than left out. */
function refuseUnsupported(fields: Fields): void {
  if (fields.has('intelRdt')) {
    throw new SwarmError(
      'unsupported',
      `${fields.at('intelRdt')} is not supported: groups of resctrl are not made`,
    );
  }
}

function readLinux(fields: Fields): OciLinux {
  refuseUnsupported(fields);
  const resources = fields.object('resources');
  const personality = fields.object('personality');
  const policy = fields.object('memoryPolicy');
  const seccomp = fields.object('seccomp');
  return {
    namespaces: readNamespaces(fields),
    uidMappings: fields.objects('uidMappings', readMap) ?? [],
    gidMappings: fields.objects('gidMappings', readMap) ?? [],
    timeOffsets:
      fields.mapOf('timeOffsets', (offset) => ({
        secs: offset.number('secs') ?? 0,
        nanosecs: offset.number('nanosecs', 0) ?? 0,
      })) ?? new Map(),
    netDevices: new Map(
      [...(fields.mapOf('netDevices', (device) => device.text('name') ?? '') ?? [])].map(
        ([device, name]) => [device, name || device],
      ),
    ),
    devices: fields.objects('devices', readDevice) ?? [],
    cgroupsPath: fields.text('cgroupsPath') ?? '',
    resources: resources === undefined ? {} : readResources(resources),
    rootfsPropagation: fields.text('rootfsPropagation') ?? '',
    ...(seccomp !== undefined && { seccomp: readSeccomp(seccomp) }),
    sysctl: fields.map('sysctl') ?? {},
    maskedPaths: fields.texts('maskedPaths') ?? [],
    readonlyPaths: fields.texts('readonlyPaths') ?? [],
    mountLabel: fields.text('mountLabel') ?? '',
    ...(personality !== undefined && {
      personality: {
        domain: personality.needText('domain'),
        flags: personality.texts('flags') ?? [],
      },
    }),
    ...(policy !== undefined && {
      memoryPolicy: {
        mode: policy.needText('mode'),
        nodes: policy.text('nodes') ?? '',
        flags: policy.texts('flags') ?? [],
      },
    }),
  };
}

function readNamespaces(fields: Fields): ReadonlyMap<NamespaceType, string> {
  const found = new Map<NamespaceType, string>();
  for (const [type, path] of fields.objects('namespaces', (namespace) => {
    const type = namespace.choice('type', NAMESPACES);
    if (type === undefined) throw new SwarmError('invalid', `${namespace.at('type')} is missing`);
    return [type, namespace.text('path') ?? ''] as const;
  }) ?? []) {
    if (found.has(type)) {
      throw new SwarmError(
        'invalid',
        `linux.namespaces: malformed spec file: duplicated ns ${type}`,
      );
    }
    found.set(type, path);
  }
  return found;
}

function readDevice(fields: Fields): OciDevice {
  const type = fields.needText('type');
  if (!/^[bcup]$/.test(type)) {
    throw new SwarmError('invalid', `${fields.at('type')}: "${type}" is not one of b, c, u, p`);
  }
  return {
    path: fields.needText('path'),
    type,
    major: fields.number('major', 0) ?? 0,
    minor: fields.number('minor', 0) ?? 0,
    fileMode: fields.number('fileMode', 0),
    uid: fields.number('uid', 0) ?? 0,
    gid: fields.number('gid', 0) ?? 0,
  };
}

function readSeccomp(fields: Fields): OciSeccomp {
  return {
    defaultAction: fields.needText('defaultAction'),
    defaultErrnoRet: fields.number('defaultErrnoRet', 0),
    architectures: fields.texts('architectures') ?? [],
    flags: fields.texts('flags') ?? [],
    listenerPath: fields.text('listenerPath') ?? '',
    listenerMetadata: fields.text('listenerMetadata') ?? '',
    syscalls:
      fields.objects('syscalls', (call) => ({
        names: call.texts('names') ?? [],
        action: call.needText('action'),
        errnoRet: call.number('errnoRet', 0),
        args:
          call.objects('args', (argument) => ({
            index: argument.number('index', 0) ?? 0,
            value: argument.number('value', 0) ?? 0,
            valueTwo: argument.number('valueTwo', 0) ?? 0,
            op: argument.needText('op'),
          })) ?? [],
      })) ?? [],
  };
}
