/**
 * Docker's seccomp profile files (docs.docker.com, "Seccomp security profiles"; moby/profiles): an
 * OCI configuration's linux.seccomp with rules that are there only on certain architectures and
 * kernels and with certain capabilities. Read strictly: a rule that were passed over because it is
 * misspelt would be a hole, or a program that does not run.
 */
import { release } from 'node:os';
import { SwarmError } from '../../base/errors.ts';
import type { Capability } from './capabilities.ts';
import { compileSeccomp, type OciSeccomp, type SeccompProgram, toFilter } from './seccompOci.ts';
import { type HostArchitecture, hostArchitecture } from './syscalls.ts';

interface Condition {
  readonly caps?: readonly string[];
  readonly arches?: readonly string[];
  readonly minKernel?: string;
}

type Json = Readonly<Record<string, unknown>>;
type OciCall = NonNullable<OciSeccomp['syscalls']>[number];

/** What the rules' conditions are asked of. */
export interface ProfileHost {
  readonly architecture: HostArchitecture;
  readonly capabilities: ReadonlySet<Capability>;
  /** As uname -r prints it. */
  readonly kernel: string;
}

/** As Docker's profiles name a host. */
const GO_NAMES: Readonly<Record<HostArchitecture, string>> = { x86_64: 'amd64', aarch64: 'arm64' };
const OCI_NAMES: Readonly<Record<HostArchitecture, string>> = {
  x86_64: 'SCMP_ARCH_X86_64',
  aarch64: 'SCMP_ARCH_AARCH64',
};
/** A profile has some 500 names; this is for what is none. */
const PROFILE_MAX_BYTES = 1024 * 1024;

/** SwarmError invalid for a text that is no profile. */
export function checkProfile(text: string): void {
  const capabilities = new Set<Capability>();
  const seccomp = readProfile(text, {
    architecture: hostArchitecture(),
    capabilities,
    kernel: release(),
  });
  if (seccomp !== undefined) toFilter(seccomp, hostArchitecture());
}

/** undefined: the profile filters nothing. */
export function profileProgram(
  text: string,
  capabilities: ReadonlySet<Capability>,
): SeccompProgram | undefined {
  const architecture = hostArchitecture();
  const seccomp = readProfile(text, { architecture, capabilities, kernel: release() });
  return seccomp === undefined ? undefined : compileSeccomp(seccomp, architecture);
}

/** The profile as it is on `host`; undefined when it is empty, which Docker takes for none. */
export function readProfile(text: string, host: ProfileHost): OciSeccomp | undefined {
  const profile = parse(text);
  const calls = listOf(profile, 'syscalls', '').map((value, at) => {
    return objectOf(value, `syscalls[${at}]`);
  });
  const defaultAction = textOf(profile, 'defaultAction', '');
  if (defaultAction === '' && calls.length === 0) return undefined;
  const architectures = textsOf(profile, 'architectures', '');
  const archMap = listOf(profile, 'archMap', '');
  if (architectures.length > 0 && archMap.length > 0) {
    throw invalid("both 'architectures' and 'archMap' are there: use one of them");
  }
  for (const name of ['listenerPath', 'listenerMetadata']) {
    if (textOf(profile, name, '') !== '') throw invalid(`${name} is not supported for a container`);
  }
  if (calls.some(({ action }) => action === 'SCMP_ACT_NOTIFY')) {
    throw invalid('SCMP_ACT_NOTIFY is not supported for a container: nobody listens to it');
  }
  const errno = profile['defaultErrnoRet'];
  return {
    defaultAction,
    ...(errno === undefined || errno === null
      ? {}
      : { defaultErrnoRet: wholeOf(errno, 'defaultErrnoRet') }),
    architectures: [...architectures, ...mapped(archMap, host.architecture)],
    flags: textsOf(profile, 'flags', ''),
    syscalls: calls.flatMap((call, at) => readCall(call, `syscalls[${at}]`, host)),
  };
}

function mapped(archMap: readonly unknown[], host: HostArchitecture): readonly string[] {
  for (const [at, value] of archMap.entries()) {
    const entry = objectOf(value, `archMap[${at}]`);
    const architecture = textOf(entry, 'architecture', `archMap[${at}].`);
    if (architecture !== OCI_NAMES[host]) continue;
    return [architecture, ...textsOf(entry, 'subArchitectures', `archMap[${at}].`)];
  }
  return [];
}

function readCall(call: Json, path: string, host: ProfileHost): readonly OciCall[] {
  const [name, names] = [textOf(call, 'name', `${path}.`), textsOf(call, 'names', `${path}.`)];
  if (name !== '' && names.length > 0) {
    throw invalid(`${path}: both 'name' and 'names' are there: use one of them`);
  }
  const excludes = conditionOf(call['excludes'], `${path}.excludes`);
  const includes = conditionOf(call['includes'], `${path}.includes`);
  const read: OciCall = {
    names: name === '' ? names : [name],
    action: textOf(call, 'action', `${path}.`),
    ...(call['errnoRet'] === undefined || call['errnoRet'] === null
      ? {}
      : { errnoRet: wholeOf(call['errnoRet'], `${path}.errnoRet`) }),
    args: listOf(call, 'args', `${path}.`).map((value, at) => {
      const argument = objectOf(value, `${path}.args[${at}]`);
      const number = (key: string): number =>
        wholeOf(argument[key] ?? 0, `${path}.args[${at}].${key}`);
      return {
        index: number('index'),
        value: number('value'),
        valueTwo: number('valueTwo'),
        op: textOf(argument, 'op', `${path}.args[${at}].`),
      };
    }),
  };
  return isExcluded(excludes, host) || !isIncluded(includes, host) ? [] : [read];
}

/** One that holds is enough to leave the rule out. */
function isExcluded({ caps = [], arches = [], minKernel }: Condition, host: ProfileHost): boolean {
  return (
    arches.includes(GO_NAMES[host.architecture]) ||
    caps.some((name) => hasCapability(host, name)) ||
    (minKernel !== undefined && isAtLeast(host.kernel, minKernel))
  );
}

/** All that are there must hold. */
function isIncluded({ caps = [], arches = [], minKernel }: Condition, host: ProfileHost): boolean {
  return (
    (arches.length === 0 || arches.includes(GO_NAMES[host.architecture])) &&
    caps.every((name) => hasCapability(host, name)) &&
    (minKernel === undefined || isAtLeast(host.kernel, minKernel))
  );
}

function hasCapability({ capabilities }: ProfileHost, name: string): boolean {
  return (capabilities as ReadonlySet<string>).has(name.replace(/^CAP_/, ''));
}

function isAtLeast(kernel: string, least: string): boolean {
  const [major, minor] = versionOf(kernel);
  const [leastMajor, leastMinor] = versionOf(least);
  return major > leastMajor || (major === leastMajor && minor >= leastMinor);
}

function versionOf(text: string): readonly [number, number] {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(text) ?? [];
  if (major === undefined) throw invalid(`"${text}" is no kernel version like 4.8`);
  return [Number(major), Number(minor)];
}

function conditionOf(value: unknown, path: string): Condition {
  if (value === undefined || value === null) return {};
  const condition = objectOf(value, path);
  const minKernel = textOf(condition, 'minKernel', `${path}.`);
  if (minKernel !== '') versionOf(minKernel);
  return {
    caps: textsOf(condition, 'caps', `${path}.`),
    arches: textsOf(condition, 'arches', `${path}.`),
    ...(minKernel === '' ? {} : { minKernel }),
  };
}

function parse(text: string): Json {
  if (text.length > PROFILE_MAX_BYTES) {
    throw invalid(`the profile is larger than ${PROFILE_MAX_BYTES} bytes`);
  }
  try {
    return objectOf(JSON.parse(text), 'the profile');
  } catch (error) {
    if (error instanceof SwarmError) throw error;
    throw new SwarmError('invalid', 'seccomp: the profile is no JSON', { cause: error });
  }
}

function objectOf(value: unknown, path: string): Json {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json;
  throw invalid(`${path} is no object`);
}

function listOf(object: Json, key: string, prefix: string): readonly unknown[] {
  const value = object[key] ?? [];
  if (Array.isArray(value)) return value;
  throw invalid(`${prefix}${key} is no list`);
}

function textOf(object: Json, key: string, prefix: string): string {
  const value = object[key] ?? '';
  if (typeof value === 'string') return value;
  throw invalid(`${prefix}${key} is no text`);
}

function textsOf(object: Json, key: string, prefix: string): readonly string[] {
  return listOf(object, key, prefix).map((value, at) => {
    if (typeof value === 'string') return value;
    throw invalid(`${prefix}${key}[${at}] is no text`);
  });
}

function wholeOf(value: unknown, path: string): number {
  if (typeof value === 'number' && Number.isInteger(value)) return value;
  throw invalid(`${path} is no whole number`);
}

function invalid(message: string): SwarmError {
  return new SwarmError('invalid', `seccomp: ${message}`);
}
