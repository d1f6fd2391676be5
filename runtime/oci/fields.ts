/**
 * Reading JSON strictly: every value has the type its field wants, or there is one error that says
 * where and what. Properties nobody asks for are left alone, as the OCI specification wants.
 */
import { SwarmError } from '../../base/errors.ts';

function wrong(path: string, wanted: string): SwarmError {
  return new SwarmError('invalid', `${path}: expected ${wanted}`);
}

export class Fields {
  /** As written in messages, e.g. 'linux.resources'. */
  readonly path: string;
  readonly #values: Readonly<Record<string, unknown>>;

  /** SwarmError invalid unless `value` is an object. */
  constructor(value: unknown, path: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw wrong(path === '' ? 'the file' : path, 'an object');
    }
    this.path = path;
    this.#values = value as Readonly<Record<string, unknown>>;
  }

  at(name: string): string {
    return this.path === '' ? name : `${this.path}.${name}`;
  }

  /** null counts as not there, as in Go's encoder. */
  #value(name: string): unknown {
    return this.#values[name] ?? undefined;
  }

  has(name: string): boolean {
    return this.#value(name) !== undefined;
  }

  text(name: string): string | undefined {
    const value = this.#value(name);
    if (value !== undefined && typeof value !== 'string') throw wrong(this.at(name), 'a string');
    return value;
  }

  needText(name: string): string {
    const value = this.text(name);
    if (value === undefined || value === '') throw wrong(this.at(name), 'a string');
    return value;
  }

  boolean(name: string): boolean | undefined {
    const value = this.#value(name);
    if (value !== undefined && typeof value !== 'boolean') throw wrong(this.at(name), 'a boolean');
    return value;
  }

  number(name: string, least = Number.MIN_SAFE_INTEGER): number | undefined {
    const value = this.#value(name);
    if (value === undefined) return undefined;
    if (typeof value !== 'number' || !Number.isInteger(value) || value < least) {
      throw wrong(this.at(name), least === 0 ? 'a whole number from 0 on' : 'a whole number');
    }
    return value;
  }

  needNumber(name: string, least = Number.MIN_SAFE_INTEGER): number {
    const value = this.number(name, least);
    if (value === undefined) throw wrong(this.at(name), 'a whole number');
    return value;
  }

  object(name: string): Fields | undefined {
    const value = this.#value(name);
    return value === undefined ? undefined : new Fields(value, this.at(name));
  }

  /** undefined when it is not there, which may mean something else than an empty list. */
  #list(name: string): readonly unknown[] | undefined {
    const value = this.#value(name);
    if (value !== undefined && !Array.isArray(value)) throw wrong(this.at(name), 'a list');
    return value;
  }

  texts(name: string): readonly string[] | undefined {
    return this.#list(name)?.map((value, at) => {
      if (typeof value !== 'string') throw wrong(`${this.at(name)}[${at}]`, 'a string');
      return value;
    });
  }

  numbers(name: string): readonly number[] | undefined {
    return this.#list(name)?.map((value, at) => {
      if (typeof value === 'number' && Number.isInteger(value) && value >= 0) return value;
      throw wrong(`${this.at(name)}[${at}]`, 'a whole number from 0 on');
    });
  }

  objects<T>(name: string, read: (fields: Fields) => T): readonly T[] | undefined {
    return this.#list(name)?.map((value, at) => read(new Fields(value, `${this.at(name)}[${at}]`)));
  }

  /** A map of strings. */
  map(name: string): Readonly<Record<string, string>> | undefined {
    const fields = this.object(name);
    if (fields === undefined) return undefined;
    const names = Object.keys(fields.#values);
    return Object.fromEntries(names.map((key) => [key, fields.text(key) ?? '']));
  }

  /** A map of objects. */
  mapOf<T>(name: string, read: (fields: Fields) => T): ReadonlyMap<string, T> | undefined {
    const fields = this.object(name);
    if (fields === undefined) return undefined;
    const entries = new Map<string, T>();
    for (const key of Object.keys(fields.#values)) {
      entries.set(key, read(new Fields(fields.#values[key], fields.at(key))));
    }
    return entries;
  }

  /** One of `allowed`; SwarmError invalid names them. */
  choice<T extends string>(name: string, allowed: readonly T[]): T | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    const found = allowed.find((candidate) => candidate === value);
    if (found === undefined) throw wrong(this.at(name), `one of ${allowed.join(', ')}`);
    return found;
  }
}
