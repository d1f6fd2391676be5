/**
 * Readers of a stack file's values: each takes what YAML gave and its path, and returns it in the
 * one long form that the rest works with, or says what is wrong. Keys that are known but cannot be
 * had in a swarm, and keys that are unknown, are noted with their path and what to do instead:
 * strict deployment makes an error of the notes, --lax a warning.
 */
import { parseBytes } from '../../base/bytes.ts';
import { formatDuration, parseDuration } from '../../base/duration.ts';
import { messageOf, SwarmError } from '../../base/errors.ts';
import { splitCommand } from '../service/parse.ts';

/** What was passed over, one line each, beginning with its path. */
export type Notes = string[];

export type Reader<T> = (value: unknown, path: string, notes: Notes) => T;

export function wrong(path: string, what: string): SwarmError {
  return new SwarmError('invalid', `${path}: ${what}`);
}

type Results<T extends readonly (() => unknown)[]> = { [Key in keyof T]: ReturnType<T[Key]> };

/** What each gives. All that they say is wrong is told at once: one error, a line each. */
export function together<T extends readonly (() => unknown)[]>(...works: T): Results<T> {
  const results: unknown[] = [];
  const lines: string[] = [];
  for (const work of works) {
    try {
      results.push(work());
    } catch (error) {
      if (!(error instanceof SwarmError) || error.code !== 'invalid') throw error;
      lines.push(error.message);
    }
  }
  if (lines.length > 0) throw new SwarmError('invalid', lines.join('\n'));
  return results as Results<T>;
}

function shown(value: unknown): string {
  return JSON.stringify(value) ?? String(value);
}

export const text: Reader<string> = (value, path) => {
  if (typeof value === 'string') return value;
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  throw wrong(path, `${shown(value)} is no text`);
};

export const flag: Reader<boolean> = (value, path) => {
  if (typeof value === 'boolean') return value;
  if (typeof value === 'string' && /^(true|yes|y|on|1)$/i.test(value)) return true;
  if (typeof value === 'string' && /^(false|no|n|off|0)$/i.test(value)) return false;
  throw wrong(path, `${shown(value)} is neither true nor false`);
};

export const whole: Reader<number> = (value, path) => {
  if (typeof value === 'number' && Number.isSafeInteger(value)) return value;
  if (typeof value === 'string' && /^[+-]?\d+$/.test(value)) return Number(value);
  throw wrong(path, `${shown(value)} is no whole number`);
};

export const count: Reader<number> = (value, path, notes) => {
  const number = whole(value, path, notes);
  if (number < 0) throw wrong(path, `${number} is below 0`);
  return number;
};

/** A file mode: a number, or its octal digits as a text. */
export const mode: Reader<number> = (value, path) => {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0) return value;
  if (typeof value === 'string' && /^(0o?)?[0-7]{1,4}$/.test(value)) {
    return Number.parseInt(value.replace('o', ''), 8);
  }
  throw wrong(path, `${shown(value)} is no file mode: write it like 0440`);
};

export const ratio: Reader<number> = (value, path) => {
  const number = typeof value === 'string' && value !== '' ? Number(value) : value;
  if (typeof number === 'number' && number >= 0 && number <= 1) return number;
  throw wrong(path, `${shown(value)} is no ratio between 0 and 1`);
};

/** In Go's form, which is what `stack config` prints: 1m30s, 2m0s. */
export const duration: Reader<string> = (value, path, notes) => {
  try {
    return goDuration(parseDuration(text(value, path, notes)));
  } catch (error) {
    throw wrong(path, messageOf(error).replace(`${path}: `, ''));
  }
};

function goDuration(ms: number): string {
  const fraction = ms % 1000;
  if (ms < 1000 || fraction === 0) return ms === 0 ? '0s' : formatDuration(ms);
  return formatDuration(ms).replace(
    /(\d+)s$/,
    (_, seconds) => `${Number(seconds) + fraction / 1000}s`,
  );
}

export const bytes: Reader<number> = (value, path, notes) => {
  try {
    return parseBytes(text(value, path, notes));
  } catch (error) {
    throw wrong(path, messageOf(error).replace(`${path}: `, ''));
  }
};

export function choice<T extends string>(...words: readonly T[]): Reader<T> {
  return (value, path) => {
    const found = words.find((word) => word === value);
    if (found === undefined) throw wrong(path, `${shown(value)} is none of ${words.join(', ')}`);
    return found;
  };
}

export function list<T>(item: Reader<T>): Reader<T[]> {
  return (value, path, notes) => {
    if (!Array.isArray(value)) throw wrong(path, `${shown(value)} is no list`);
    return together(...value.map((one, at) => () => item(one, `${path}[${at}]`, notes)));
  };
}

/** A text alone is a list of one. */
export const texts: Reader<string[]> = (value, path, notes) =>
  Array.isArray(value) ? list(text)(value, path, notes) : [text(value, path, notes)];

export function map<T>(item: Reader<T>): Reader<Record<string, T>> {
  return (value, path, notes) => eachOf(value, path, (one, at) => item(one, at, notes));
}

/** A map of names with what `read` makes of each value; it is told the value's path and name. */
export function eachOf<T>(
  value: unknown,
  path: string,
  read: (item: unknown, at: string, key: string) => T,
): Record<string, T> {
  const works = entries(value, path).map(([key, item]) => (): [string, T] => [
    key,
    read(item, `${path}.${key}`, key),
  ]);
  return Object.fromEntries(together(...works));
}

/** An object's own entries. */
export function entries(value: unknown, path: string): [string, unknown][] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw wrong(path, `${shown(value)} is no map of names to values`);
  }
  return Object.entries(value);
}

/** 'a=b' in a list or a: b in a map; `bare` is what a name without a value has. */
function pairs<T>(bare: T, separator = '='): Reader<Record<string, string | T>> {
  return (value, path, notes) => {
    const out: Record<string, string | T> = {};
    if (Array.isArray(value)) {
      for (const line of list(text)(value, path, notes)) {
        const at = line.indexOf(separator);
        out[at < 0 ? line : line.slice(0, at)] = at < 0 ? bare : line.slice(at + 1);
      }
      return out;
    }
    for (const [key, item] of entries(value, path)) {
      out[key] = item === null ? bare : text(item, `${path}.${key}`, notes);
    }
    return out;
  };
}

export const labels: Reader<Record<string, string>> = pairs('');
/** A variable without a value (null) takes it from the caller's environment. */
export const environment: Reader<Record<string, string | null>> = pairs<null>(null);

/** 'name:address' or 'name=address' in a list, or a map; as 'name:address', in order. */
export const hosts: Reader<string[]> = (value, path, notes) => {
  if (!Array.isArray(value)) {
    return entries(value, path).flatMap(([name, address]) =>
      texts(address, `${path}.${name}`, notes).map((one) => `${name}:${one}`),
    );
  }
  return list(text)(value, path, notes).map((line, at) => {
    const match = /^([^=:]+)[=:](.+)$/.exec(line);
    if (match === null) throw wrong(`${path}[${at}]`, `"${line}": write NAME:ADDRESS`);
    return `${match[1].trim()}:${match[2].trim().replace(/^\[(.*)\]$/, '$1')}`;
  });
};

/** A text is split as a shell does; null empties what the image says. */
export const command: Reader<string[]> = (value, path, notes) => {
  if (value === null) return [];
  if (Array.isArray(value)) return list(text)(value, path, notes);
  try {
    return splitCommand(text(value, path, notes));
  } catch (error) {
    throw wrong(path, messageOf(error).replace(`${path}: `, ''));
  }
};

/** What may be in an object: each key's reader. */
export type Table<T> = { readonly [Key in keyof T]-?: Reader<NonNullable<T[Key]>> };

/** Why a key that Compose knows cannot be had, and what to do instead. */
export type Refusals = Readonly<Record<string, string>>;

export function object<T>(table: Table<T>, refusals: Refusals = {}): Reader<T> {
  return (value, path, notes) => {
    const out: Record<string, unknown> = {};
    const reads: (() => void)[] = [];
    for (const [key, item] of entries(value, path)) {
      const at = path === '' ? key : `${path}.${key}`;
      if (Object.hasOwn(table, key)) {
        const read = table[key as keyof T] as Reader<unknown>;
        // An empty key says nothing, but for commands, where it empties.
        if (item === null && (read as unknown) !== command) continue;
        reads.push(() => {
          out[key] = read(item, at, notes);
        });
      } else if (Object.hasOwn(refusals, key)) notes.push(`${at}: ${refusals[key]}`);
      else if (!key.startsWith('x-')) notes.push(`${at}: ${unknownKey(key, Object.keys(table))}`);
    }
    together(...reads);
    return out as T;
  };
}

function unknownKey(key: string, known: readonly string[]): string {
  const near = known.find((word) => isNear(word, key.toLowerCase().replaceAll('-', '_')));
  return near === undefined ? 'this key is not known' : `not known (did you mean ${near}?)`;
}

/** Whether one letter more, less, other, or two swapped make one of the other. */
function isNear(word: string, other: string): boolean {
  if (word === other) return true;
  if (Math.abs(word.length - other.length) > 1) return false;
  let at = 0;
  while (at < word.length && word[at] === other[at]) at += 1;
  const tails = [
    [word.slice(at + 1), other.slice(at)],
    [word.slice(at), other.slice(at + 1)],
    [word.slice(at + 1), other.slice(at + 1)],
    [word[at + 1] + word[at] + word.slice(at + 2), other.slice(at)],
  ];
  return tails.some(([left, right]) => left === right);
}
