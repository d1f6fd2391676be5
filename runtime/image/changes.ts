/**
 * The configuration of an image made by `image import` or from a container (`commit`), and the
 * Dockerfile lines that concern only it (CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD,
 * STOPSIGNAL, USER, VOLUME, WORKDIR). Pure; builds nothing.
 */
import { posix } from 'node:path';
import { msToNanoseconds, parseDuration } from '../../base/duration.ts';
import { SwarmError } from '../../base/errors.ts';
import { hostPlatform } from './manifest.ts';
import type { CommitOptions, ImportOptions } from './types.ts';

const MAX_CHANGES = 100;

interface Inner {
  Cmd?: string[];
  Entrypoint?: string[];
  Env?: string[];
  ExposedPorts?: Record<string, object>;
  Healthcheck?: Healthcheck;
  Labels?: Record<string, string>;
  OnBuild?: string[];
  StopSignal?: string;
  User?: string;
  Volumes?: Record<string, object>;
  WorkingDir?: string;
}

/** Times in nanoseconds. */
interface Healthcheck {
  Test: string[];
  Interval?: number;
  Timeout?: number;
  StartPeriod?: number;
  StartInterval?: number;
  Retries?: number;
}

function refuse(line: string, why: string): SwarmError {
  return new SwarmError('invalid', `bad change "${line}": ${why}`);
}

/** Bytes of a configuration for one layer; the same arguments give the same bytes. */
export function importConfig(
  diffId: string,
  createdMs: number,
  changes: readonly string[],
  options: ImportOptions = {},
): Buffer {
  const inner = changed({}, changes);
  const { comment = '', platform = hostPlatform() } = options;
  return Buffer.from(
    JSON.stringify({
      architecture: platform.architecture,
      config: inner,
      created: new Date(createdMs).toISOString(),
      history: [{ created: new Date(createdMs).toISOString(), comment: comment || 'imported' }],
      os: platform.os,
      ...(platform.variant === undefined ? {} : { variant: platform.variant }),
      rootfs: { diff_ids: [diffId], type: 'layers' },
    }),
  );
}

/**
 * The same of an image made from a container of another, whose configuration is `base`; `diffId` of
 * the layer that is put on top, undefined when there is none.
 */
export function committedConfig(
  base: Uint8Array,
  diffId: string | undefined,
  createdMs: number,
  options: CommitOptions,
): Buffer {
  const below = JSON.parse(Buffer.from(base).toString('utf8')) as Record<string, unknown>;
  const created = new Date(createdMs).toISOString();
  const { author, comment, createdBy } = options;
  const history = Array.isArray(below['history']) ? (below['history'] as object[]) : [];
  const rootfs = below['rootfs'] as { readonly diff_ids: readonly string[] };
  return Buffer.from(
    JSON.stringify({
      architecture: below['architecture'],
      ...(below['variant'] === undefined ? {} : { variant: below['variant'] }),
      ...(author === '' ? {} : { author }),
      config: changed(options.config, options.changes),
      created,
      history: [
        ...history,
        {
          created,
          created_by: createdBy,
          ...(author === '' ? {} : { author }),
          ...(comment === '' ? {} : { comment }),
          ...(diffId === undefined ? { empty_layer: true } : {}),
        },
      ],
      os: below['os'],
      rootfs: {
        diff_ids: [...rootfs.diff_ids, ...(diffId === undefined ? [] : [diffId])],
        type: 'layers',
      },
    }),
  );
}

function changed(before: Inner, changes: readonly string[]): Inner {
  if (changes.length > MAX_CHANGES) {
    throw new SwarmError('invalid', `more than ${MAX_CHANGES} changes: put some together`);
  }
  const inner = { ...before };
  for (const line of changes) apply(inner, line.trim());
  return inner;
}

function apply(inner: Inner, line: string): void {
  const match = /^([a-zA-Z]+)\s+(.+)$/s.exec(line);
  if (match === null) throw refuse(line, 'write a Dockerfile line, like CMD ["/web"]');
  const rest = match[2].trim();
  switch (match[1].toUpperCase()) {
    case 'CMD':
      inner.Cmd = command(line, rest);
      return;
    case 'ENTRYPOINT':
      inner.Entrypoint = command(line, rest);
      return;
    case 'ENV':
      for (const [key, value] of pairs(line, rest)) {
        const others = (inner.Env ?? []).filter((item) => !item.startsWith(`${key}=`));
        inner.Env = [...others, `${key}=${value}`];
      }
      return;
    case 'EXPOSE':
      inner.ExposedPorts = { ...inner.ExposedPorts, ...ports(line, rest) };
      return;
    case 'HEALTHCHECK':
      inner.Healthcheck = healthcheck(line, rest);
      return;
    case 'ONBUILD':
      inner.OnBuild = [...(inner.OnBuild ?? []), rest];
      return;
    case 'LABEL':
      inner.Labels = { ...inner.Labels, ...Object.fromEntries(pairs(line, rest)) };
      return;
    case 'STOPSIGNAL':
      inner.StopSignal = rest;
      return;
    case 'USER':
      inner.User = rest;
      return;
    case 'VOLUME':
      for (const volume of rest.startsWith('[') ? command(line, rest) : rest.split(/\s+/)) {
        inner.Volumes = { ...inner.Volumes, [volume]: {} };
      }
      return;
    case 'WORKDIR':
      inner.WorkingDir = posix.resolve('/', inner.WorkingDir ?? '/', rest);
      return;
    default:
      throw refuse(
        line,
        'only CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, ' +
          'VOLUME and WORKDIR can be changed',
      );
  }
}

/** JSON form as it is; anything else goes through a shell, as in a Dockerfile. */
function command(line: string, rest: string): string[] {
  if (!rest.startsWith('[')) return ['/bin/sh', '-c', rest];
  let list: unknown;
  try {
    list = JSON.parse(rest);
  } catch {
    throw refuse(line, 'what stands in [ ] must be JSON, with double quotes');
  }
  if (!Array.isArray(list) || !list.every((item) => typeof item === 'string')) {
    throw refuse(line, 'a JSON list of strings is needed');
  }
  return list;
}

const HEALTH_TIMES = {
  interval: 'Interval',
  timeout: 'Timeout',
  'start-period': 'StartPeriod',
  'start-interval': 'StartInterval',
} as const;

/** '--interval=5s CMD curl ...', '--retries=2 CMD ["/probe"]' or 'NONE'. */
function healthcheck(line: string, rest: string): Healthcheck {
  const found: Omit<Healthcheck, 'Test'> = {};
  let left = rest;
  for (let flag = FLAG.exec(left); flag !== null; flag = FLAG.exec(left)) {
    const [whole, name, value] = flag;
    left = left.slice(whole.length);
    const time = HEALTH_TIMES[name as keyof typeof HEALTH_TIMES];
    if (time !== undefined) found[time] = msToNanoseconds(parseDuration(value));
    else if (name === 'retries' && /^\d+$/.test(value)) found.Retries = Number(value);
    else throw refuse(line, `no flag of a health check: --${name}=${value}`);
  }
  if (left.toUpperCase() === 'NONE') return { Test: ['NONE'] };
  const match = /^CMD\s+(.+)$/is.exec(left);
  if (match === null) throw refuse(line, 'write HEALTHCHECK CMD command, or HEALTHCHECK NONE');
  const probe = match[1].trim();
  const test = probe.startsWith('[') ? ['CMD', ...command(line, probe)] : ['CMD-SHELL', probe];
  return { Test: test, ...found };
}

const FLAG = /^--([a-z-]+)=(\S+)\s+/;

/** 'a=1 b="two words"', or the old form 'a two words'. */
function pairs(line: string, rest: string): [string, string][] {
  const word = /([^\s=]+)=("(?:[^"\\]|\\.)*"|'[^']*'|(?:[^\s\\]|\\.)*)(?:\s+|$)/gy;
  const found: [string, string][] = [];
  let end = 0;
  for (let match = word.exec(rest); match !== null; match = word.exec(rest)) {
    const quoted = /^["']/.test(match[2]);
    const bare = quoted ? match[2].slice(1, -1) : match[2];
    found.push([match[1], bare.replace(/\\(.)/g, '$1')]);
    end = word.lastIndex;
  }
  if (end === rest.length && found.length > 0) return found;
  const old = /^([^\s=]+)\s+(.+)$/s.exec(rest);
  if (old === null || found.length > 0) throw refuse(line, 'write key=value');
  return [[old[1], old[2]]];
}

function ports(line: string, rest: string): Record<string, object> {
  const found: Record<string, object> = {};
  for (const port of rest.split(/\s+/)) {
    const match = /^(\d{1,5})(?:\/(tcp|udp|sctp))?$/.exec(port);
    const number = Number(match?.[1]);
    if (match === null || number < 1 || number > 65535) throw refuse(line, `no port: "${port}"`);
    found[`${number}/${match[2] ?? 'tcp'}`] = {};
  }
  return found;
}
