/**
 * Reading JSON that came from outside: an object whose fields are asked for by name and type. A
 * field of the wrong type is refused with its path ('Spec.TaskTemplate.Placement'); null and absent
 * are the same, as in Go; unknown fields are not looked at. A field that is known but not built is
 * refused with `refuse`, so that nothing is stored and then ignored.
 */
import { SwarmError } from '../../base/errors.ts';
import type { Labels } from '../../model/types.ts';

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function wrong(path: string, wanted: string): never {
  throw new SwarmError('invalid', `${path === '' ? 'the body' : path} must be ${wanted}`);
}

/** Deeper than any specification: what lies there was meant to be something. */
const EMPTY_DEPTH_MAX = 32;

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROL = /[\u0000-\u001f\u007f]/;
const WIDEST = 2 ** 63;

/** Go's zero value: what clients send for a field that was not set. */
function isEmpty(value: unknown, depth = 0): boolean {
  if (value === undefined || value === null || value === false) return true;
  if (value === 0 || value === '') return true;
  if (Array.isArray(value)) return value.length === 0;
  if (!isRecord(value) || depth > EMPTY_DEPTH_MAX) return false;
  return Object.values(value).every((item) => isEmpty(item, depth + 1));
}

export class Fields {
  readonly path: string;
  readonly #record: Record<string, unknown>;

  constructor(value: unknown, path = '') {
    if (!isRecord(value)) wrong(path, 'an object');
    this.#record = value;
    this.path = path;
  }

  at(name: string): string {
    return this.path === '' ? name : `${this.path}.${name}`;
  }

  /** As Go reads JSON: the name as it is, else whatever its case. */
  raw(name: string): unknown {
    if (Object.hasOwn(this.#record, name)) return this.#record[name] ?? undefined;
    const folded = name.toLowerCase();
    const found = Object.keys(this.#record).find((key) => key.toLowerCase() === folded);
    return found === undefined ? undefined : (this.#record[found] ?? undefined);
  }

  has(name: string): boolean {
    return this.raw(name) !== undefined;
  }

  /** Absent, or Go's zero value. */
  isEmpty(name: string): boolean {
    return isEmpty(this.raw(name));
  }

  text(name: string, fallback = ''): string {
    const value = this.raw(name);
    if (value === undefined) return fallback;
    return typeof value === 'string' ? value : wrong(this.at(name), 'a string');
  }

  flag(name: string, fallback = false): boolean {
    const value = this.raw(name);
    if (value === undefined) return fallback;
    return typeof value === 'boolean' ? value : wrong(this.at(name), 'true or false');
  }

  number(name: string, fallback: number): number {
    const value = this.raw(name);
    if (value === undefined) return fallback;
    return typeof value === 'number' ? value : wrong(this.at(name), 'a number');
  }

  /** Text for a file of lines: no control characters. */
  line(name: string): string {
    const value = this.text(name);
    return CONTROL.test(value) ? wrong(this.at(name), 'one line of text') : value;
  }

  lines(name: string): string[] {
    return this.texts(name).map((value, index) =>
      CONTROL.test(value) ? wrong(`${this.at(name)}[${index}]`, 'one line of text') : value,
    );
  }

  /** A whole number as 64 bits hold it; beyond 2^53 as near as JSON's readers come. */
  wide(name: string, fallback: number): number {
    const value = this.number(name, fallback);
    if (!Number.isInteger(value) || Math.abs(value) > WIDEST)
      wrong(this.at(name), 'a whole number');
    return value;
  }

  /** Rows and columns of a terminal; 0, 0 when absent. */
  size(name: string): readonly [number, number] {
    const value = this.raw(name);
    if (value === undefined) return [0, 0];
    const isSide = (side: unknown): side is number =>
      Number.isSafeInteger(side) && Number(side) >= 0;
    const [rows, columns] = Array.isArray(value) && value.length === 2 ? value : [];
    if (isSide(rows) && isSide(columns)) return [rows, columns];
    return wrong(this.at(name), 'two whole numbers: rows and columns');
  }

  /** A whole number of either sign. */
  integer(name: string, fallback: number): number {
    const value = this.number(name, fallback);
    if (!Number.isSafeInteger(value)) wrong(this.at(name), 'a whole number');
    return value;
  }

  /** A whole number >= 0. */
  whole(name: string, fallback: number): number {
    const value = this.number(name, fallback);
    if (!Number.isSafeInteger(value) || value < 0)
      wrong(this.at(name), 'a whole number, 0 or more');
    return value;
  }

  texts(name: string): string[] {
    const value = this.raw(name);
    if (value === undefined) return [];
    if (!Array.isArray(value)) wrong(this.at(name), 'a list of strings');
    return value.map((item, index) =>
      typeof item === 'string' ? item : wrong(`${this.at(name)}[${index}]`, 'a string'),
    );
  }

  labels(name: string): Labels {
    const value = this.raw(name);
    if (value === undefined) return {};
    if (!isRecord(value)) wrong(this.at(name), 'an object of strings');
    const out: Record<string, string> = {};
    for (const [key, item] of Object.entries(value)) {
      out[key] = typeof item === 'string' ? item : wrong(`${this.at(name)}.${key}`, 'a string');
    }
    return out;
  }

  /** undefined when absent. */
  object(name: string): Fields | undefined {
    const value = this.raw(name);
    return value === undefined ? undefined : new Fields(value, this.at(name));
  }

  /** An absent object reads as an empty one. */
  objectOrEmpty(name: string): Fields {
    return new Fields(this.raw(name) ?? {}, this.at(name));
  }

  objects(name: string): Fields[] {
    const value = this.raw(name);
    if (value === undefined) return [];
    if (!Array.isArray(value)) wrong(this.at(name), 'a list');
    return value.map((item, index) => new Fields(item, `${this.at(name)}[${index}]`));
  }

  /** One of `allowed`; absent and '' give `fallback`. */
  choice<T extends string>(name: string, allowed: readonly T[], fallback: T): T {
    const value = this.text(name);
    if (value === '') return fallback;
    const found = allowed.find((item) => item === value);
    if (found === undefined) {
      throw new SwarmError(
        'invalid',
        `${this.at(name)}: "${value}" is none of ${allowed.join(', ')}`,
      );
    }
    return found;
  }

  /** Refuses known fields that are not built, unless they are absent or Go's zero value. */
  refuse(...names: string[]): void {
    for (const name of names) {
      if (!isEmpty(this.raw(name))) this.refused(name);
    }
  }

  refused(name: string, hint = 'leave it out'): never {
    throw new SwarmError('unsupported', `${this.at(name)} is not supported by tsswarm: ${hint}`);
  }
}
