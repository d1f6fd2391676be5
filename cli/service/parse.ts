/**
 * The texts of service flags -> the API's JSON: published ports, mounts, networks, hosts. Docker's
 * short and long forms. Each error names the text and the form that is wanted.
 */
import { parseBytes } from '../../base/bytes.ts';
import { SwarmError } from '../../base/errors.ts';
import type { MountJson, NetworkAttachmentJson, PortJson } from '../docker.ts';

const PORT_MAX = 65_535;

function invalid(what: string, text: string, how: string): SwarmError {
  return new SwarmError('invalid', `invalid ${what} "${text}": ${how}`);
}

/** 'a=1,b=2' -> fields; a name without '=' has the value 'true'. */
function fieldsOf(text: string): Map<string, string> {
  const fields = new Map<string, string>();
  for (const part of text.split(',')) {
    const equals = part.indexOf('=');
    const name = (equals < 0 ? part : part.slice(0, equals)).trim().toLowerCase();
    fields.set(name, equals < 0 ? 'true' : part.slice(equals + 1).trim());
  }
  return fields;
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

/** '8080:80/tcp', '80', '8000-8002:80-82', or 'published=8080,target=80,protocol=tcp,mode=host'. */
export function parsePublish(text: string): PortJson[] {
  if (text.includes('=')) return [parseLongPublish(text)];
  const how = 'write PUBLISHED:TARGET[/PROTOCOL], e.g. 8080:80';
  const [addresses, protocol = 'tcp', ...rest] = text.split('/');
  if (rest.length > 0) throw invalid('port', text, how);
  const parts = addresses.split(':');
  if (parts.length > 2) {
    throw invalid('port', text, `publishing on one address is not supported: ${how}`);
  }
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
  }));
}

function parseLongPublish(text: string): PortJson {
  const out: PortJson = { Protocol: 'tcp', TargetPort: 0, PublishMode: 'ingress' };
  for (const [name, value] of fieldsOf(text)) {
    if (name === 'target') out.TargetPort = port(value, text);
    else if (name === 'published') out.PublishedPort = value === '0' ? 0 : port(value, text);
    else if (name === 'protocol') out.Protocol = value.toLowerCase();
    else if (name === 'mode') out.PublishMode = value.toLowerCase();
    else if (name === 'name') out.Name = value;
    else
      throw invalid('port', text, `"${name}" is not known: use published, target, protocol, mode`);
  }
  if (out.TargetPort === 0) throw invalid('port', text, 'target is missing');
  return out;
}

export function parseMount(text: string): MountJson {
  const mount: MountJson = { Type: 'volume', Target: '' };
  for (const [name, value] of fieldsOf(text)) {
    if (name === 'type') mount.Type = value.toLowerCase();
    else if (name === 'source' || name === 'src') mount.Source = value;
    else if (name === 'target' || name === 'dst' || name === 'destination') mount.Target = value;
    else if (name === 'readonly' || name === 'ro') mount.ReadOnly = isTrue(value);
    else if (name === 'tmpfs-size') {
      mount.TmpfsOptions = { ...mount.TmpfsOptions, SizeBytes: parseBytes(value) };
    } else if (name === 'tmpfs-mode') {
      if (!/^0?[0-7]{3,4}$/.test(value)) throw invalid('mount', text, 'tmpfs-mode is octal: 1777');
      mount.TmpfsOptions = { ...mount.TmpfsOptions, Mode: Number.parseInt(value, 8) };
    } else {
      const known = 'type, source, target, readonly, tmpfs-size, tmpfs-mode';
      throw invalid('mount', text, `"${name}" is not supported: use ${known}`);
    }
  }
  if (mount.Target === '') throw invalid('mount', text, 'target is missing');
  return mount;
}

function isTrue(value: string): boolean {
  return value === '' || value === 'true' || value === '1';
}

/** 'front' or 'name=front,alias=web,alias=www'. */
export function parseNetwork(text: string): NetworkAttachmentJson {
  if (!text.includes('=')) return { Target: text };
  let target = '';
  const aliases: string[] = [];
  for (const part of text.split(',')) {
    const [name, value = ''] = part.split('=', 2);
    if (name === 'name') target = value;
    else if (name === 'alias') aliases.push(value);
    else throw invalid('network', text, `"${name}" is not supported: use name and alias`);
  }
  if (target === '') throw invalid('network', text, 'name is missing');
  return { Target: target, ...(aliases.length === 0 ? {} : { Aliases: aliases }) };
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
