/**
 * The texts of service flags -> the API's JSON: published ports, mounts, networks, hosts. Docker's
 * short and long forms. Each error names the text and the form that is wanted.
 */
import { SwarmError } from '../../base/errors.ts';
import type {
  ConfigReferenceJson,
  FileTargetJson,
  GenericResourceJson,
  NetworkAttachmentJson,
  PortJson,
  SecretReferenceJson,
  UlimitJson,
} from '../docker.ts';
import { csvFields } from './mount.ts';

const PORT_MAX = 65_535;

function invalid(what: string, text: string, how: string): SwarmError {
  return new SwarmError('invalid', `invalid ${what} "${text}": ${how}`);
}

function port(text: string, whole: string): number {
  if (!/^\d+$/.test(text) || Number(text) < 1 || Number(text) > PORT_MAX) {
    throw invalid('port', whole, `"${text}" is not in 1-${PORT_MAX}`);
  }
  return Number(text);
}

function range(text: string, whole: string): number[] {
  const [first, last = first, ...more] = text.split('-');
  if (more.length > 0) throw invalid('port', whole, 'write a range like 8000-8010');
  const from = port(first, whole);
  const to = port(last, whole);
  if (to < from) throw invalid('port', whole, 'a range goes from the smaller to the larger');
  return Array.from({ length: to - from + 1 }, (_, index) => from + index);
}

/** The address and the rest of '127.0.0.1:80:80', '[::1]:80:80', '80:80'; '' for every address. */
function splitAddress(text: string): [string, string] {
  const match = /^(?:\[([^\]]+)\]|(\d+\.\d+\.\d+\.\d+)):(.*)$/.exec(text);
  if (match === null) return ['', text];
  return [match[1] ?? match[2], match[3].replace(/^:/, '')];
}

/** '8080:80/tcp', '80', '8000-8002:80-82', 'ADDRESS:8080:80', or 'published=8080,target=80,...'. */
export function parsePublish(text: string): PortJson[] {
  if (text.includes('=')) return [parseLongPublish(text)];
  const how = 'write [ADDRESS:]PUBLISHED:TARGET[/PROTOCOL], e.g. 8080:80';
  const [address, whole] = splitAddress(text);
  const [addresses, protocol = 'tcp', ...rest] = whole.split('/');
  const parts = addresses.split(':');
  if (rest.length > 0 || parts.length > 2) throw invalid('port', text, how);
  const targets = range(parts[parts.length - 1], text);
  const published = parts.length === 2 ? range(parts[0], text) : undefined;
  if (published !== undefined && published.length !== targets.length) {
    throw invalid('port', text, 'both ranges must have the same length');
  }
  return targets.map((target, index) => ({
    Protocol: protocol.toLowerCase(),
    TargetPort: target,
    ...(published === undefined ? {} : { PublishedPort: published[index] }),
    PublishMode: 'ingress',
    ...(address === '' ? {} : { HostIP: address }),
  }));
}

function parseLongPublish(text: string): PortJson {
  const out: PortJson = { Protocol: 'tcp', TargetPort: 0, PublishMode: 'ingress' };
  for (const [name, value] of csvFields(text)) {
    if (name === 'target') out.TargetPort = port(value, text);
    else if (name === 'published') out.PublishedPort = value === '0' ? 0 : port(value, text);
    else if (name === 'protocol') out.Protocol = value.toLowerCase();
    else if (name === 'mode') out.PublishMode = value.toLowerCase();
    else if (name === 'name') out.Name = value;
    else if (name === 'ip') out.HostIP = value;
    else {
      const known = 'published, target, protocol, mode, ip';
      throw invalid('port', text, `"${name}" is not known: use ${known}`);
    }
  }
  if (out.TargetPort === 0) throw invalid('port', text, 'target is missing');
  return out;
}

/** Where a task's own address in a network is asked for: Docker's API has no field for it. */
export const ADDRESS_OPTION = 'tsswarm.address';

/** 'front' or 'name=front,alias=web,alias=www,driver-opt=key=value,ip=10.0.0.5'. */
export function parseNetwork(text: string): NetworkAttachmentJson {
  if (!text.includes('=')) return { Target: text };
  let target = '';
  const aliases: string[] = [];
  const options: Record<string, string> = {};
  for (const [name, value] of csvFields(text)) {
    if (name === 'name') target = value;
    else if (name === 'alias') aliases.push(value);
    else if (name === 'ip') options[ADDRESS_OPTION] = value;
    else if (name === 'driver-opt') {
      const equals = value.indexOf('=');
      if (equals <= 0) throw invalid('network', text, 'write driver-opt=key=value');
      options[value.slice(0, equals)] = value.slice(equals + 1);
    } else {
      throw invalid('network', text, `"${name}" is not supported: use name, alias, driver-opt, ip`);
    }
  }
  if (target === '') throw invalid('network', text, 'name is missing');
  return {
    Target: target,
    ...(aliases.length === 0 ? {} : { Aliases: aliases }),
    ...(Object.keys(options).length === 0 ? {} : { DriverOpts: options }),
  };
}

const FILE_MODE = 0o444;

/** 'name' or 'source=name,target=path,uid=1,gid=2,mode=0400': the object's name, and its file. */
function parseFileUse(what: string, text: string): { source: string; File: FileTargetJson } {
  const File: FileTargetJson = { Name: '', UID: '0', GID: '0', Mode: FILE_MODE };
  let source = '';
  if (!text.includes('=')) source = text;
  else {
    for (const [name, value] of csvFields(text)) {
      if (name === 'source' || name === 'src') source = value;
      else if (name === 'target') File.Name = value;
      else if (name === 'uid') File.UID = value;
      else if (name === 'gid') File.GID = value;
      else if (name === 'mode') {
        if (!/^0?[0-7]{3,4}$/.test(value)) throw invalid(what, text, 'mode is octal: 0440');
        File.Mode = Number.parseInt(value, 8);
      } else {
        throw invalid(what, text, `"${name}" is not known: use source, target, uid, gid, mode`);
      }
    }
  }
  if (source === '') throw invalid(what, text, 'source is missing');
  if (File.Name === '') File.Name = source;
  return { source, File };
}

/** Its id is filled in when it is sent. */
export function parseSecretUse(text: string): SecretReferenceJson {
  const { source, File } = parseFileUse('secret', text);
  return { File, SecretID: '', SecretName: source };
}

/** Its id is filled in when it is sent. */
export function parseConfigUse(text: string): ConfigReferenceJson {
  const { source, File } = parseFileUse('config', text);
  return { File, ConfigID: '', ConfigName: source };
}

/** 'nofile=1024:2048' or 'nproc=512'; -1 is no limit. */
export function parseUlimit(text: string): UlimitJson {
  const match = /^([a-z]+)=(-?\d+)(?::(-?\d+))?$/.exec(text);
  if (match === null)
    throw invalid('ulimit', text, 'write NAME=SOFT[:HARD], e.g. nofile=1024:2048');
  const soft = Number(match[2]);
  const hard = match[3] === undefined ? soft : Number(match[3]);
  if (hard !== -1 && (soft === -1 || soft > hard)) {
    throw invalid('ulimit', text, 'the soft limit is at most the hard one');
  }
  return { Name: match[1], Soft: soft, Hard: hard };
}

/** 'gpu=2' or named ones: 'gpu=a', which are as many as are named. */
export function parseGenericResource(text: string): GenericResourceJson[] {
  return csvFields(text).map(([, value], at) => {
    const Kind = text.split(',')[at].split('=')[0].trim();
    if (!text.includes('=') || Kind === '' || value === '') {
      throw invalid('generic resource', text, 'write KIND=COUNT or KIND=NAME');
    }
    return /^\d+$/.test(value)
      ? { DiscreteResourceSpec: { Kind, Value: Number(value) } }
      : { NamedResourceSpec: { Kind, Value: value } };
  });
}

/** 'name:address' -> 'address name', as /etc/hosts has it. */
export function parseHost(text: string): string {
  const colon = text.indexOf(':');
  if (colon <= 0 || colon === text.length - 1) throw invalid('host', text, 'write NAME:ADDRESS');
  return `${text.slice(colon + 1)} ${text.slice(0, colon)}`;
}

/** 'spread=node.labels.zone' -> 'node.labels.zone'. */
export function parsePreference(text: string): string {
  const match = /^spread=(.+)$/.exec(text);
  if (match === null) {
    throw invalid('placement preference', text, 'write spread=node.labels.NAME');
  }
  return match[1];
}

/** NAME alone takes its value from the caller's environment, and is left out when it has none. */
export function parseEnv(text: string): string | undefined {
  if (text === '' || text.startsWith('=')) throw invalid('variable', text, 'write NAME=VALUE');
  if (text.includes('=')) return text;
  const value = process.env[text];
  return value === undefined ? undefined : `${text}=${value}`;
}

/** '0.5' -> 500000000. */
export function parseCpus(text: string): number {
  const value = Number(text);
  if (!/^\d*\.?\d+$/.test(text) || !Number.isFinite(value)) {
    throw invalid('number of CPUs', text, 'write a number like 0.5');
  }
  return Math.round(value * 1_000_000_000);
}

/** A command line as a shell splits it: quotes and backslashes. */
export function splitCommand(text: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  let quote = '';
  for (let at = 0; at < text.length; at += 1) {
    const letter = text[at];
    if (quote !== '') {
      if (letter === quote) quote = '';
      else if (letter === '\\' && quote === '"' && at + 1 < text.length) {
        at += 1;
        word += text[at];
      } else word += letter;
    } else if (letter === '"' || letter === "'") {
      quote = letter;
      word ??= '';
    } else if (letter === '\\' && at + 1 < text.length) {
      at += 1;
      word = (word ?? '') + text[at];
    } else if (/\s/.test(letter)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else {
      word = (word ?? '') + letter;
    }
  }
  if (quote !== '') throw invalid('command', text, 'a quote is not closed');
  if (word !== undefined) words.push(word);
  return words;
}
