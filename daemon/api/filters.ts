/**
 * Docker's `?filters=`: {"name":["a","b"]} or the older {"name":{"a":true}}. Several values of one
 * key are alternatives, several keys must all hold. An unknown key is refused.
 */
import { SwarmError } from '../../base/errors.ts';
import type { Labels } from '../../model/types.ts';
import { isRecord } from './fields.ts';

export class Filters {
  readonly #values: ReadonlyMap<string, readonly string[]>;

  private constructor(values: ReadonlyMap<string, readonly string[]>) {
    this.#values = values;
  }

  static parse(text: string | null, allowed: readonly string[]): Filters {
    const values = new Map<string, readonly string[]>();
    if (text === null || text === '') return new Filters(values);
    let parsed: unknown;
    try {
      parsed = JSON.parse(text);
    } catch (cause) {
      throw new SwarmError('invalid', 'filters is not valid JSON', { cause });
    }
    if (!isRecord(parsed)) throw new SwarmError('invalid', 'filters must be a JSON object');
    for (const [key, value] of Object.entries(parsed)) {
      if (!allowed.includes(key)) {
        const known = allowed.filter((name) => !name.startsWith('_')).join(', ');
        throw new SwarmError('invalid', `invalid filter '${key}': use one of ${known}`);
      }
      if (Array.isArray(value)) values.set(key, value.map(String));
      else if (isRecord(value))
        values.set(
          key,
          Object.keys(value).filter((name) => value[name]),
        );
      else throw new SwarmError('invalid', `invalid filter '${key}': give it a list`);
    }
    return new Filters(values);
  }

  has(key: string): boolean {
    return (this.#values.get(key)?.length ?? 0) > 0;
  }

  values(key: string): readonly string[] {
    return this.#values.get(key) ?? [];
  }

  /** No such filter, or some value for which `fits` holds. */
  some(key: string, fits: (value: string) => boolean): boolean {
    const values = this.values(key);
    return values.length === 0 || values.some(fits);
  }

  is(key: string, actual: string): boolean {
    return this.some(key, (value) => value === actual);
  }

  startsWith(key: string, actual: string): boolean {
    return this.some(key, (value) => actual.startsWith(value));
  }

  /** Every value ('key' or 'key=value') must be among the labels. */
  labels(key: string, labels: Labels): boolean {
    return this.values(key).every((wanted) => {
      const equals = wanted.indexOf('=');
      if (equals < 0) return Object.hasOwn(labels, wanted);
      return labels[wanted.slice(0, equals)] === wanted.slice(equals + 1);
    });
  }

  /** Whether a prune takes it: it has every `label`, and not every `label!` if there are any. */
  prunes(labels: Labels): boolean {
    return this.labels('label', labels) && !(this.has('label!') && this.labels('label!', labels));
  }

  /** 'true' or '1' given, 'false' or '0' given, or undefined when there is no such filter. */
  flag(key: string): boolean | undefined {
    const [value] = this.values(key);
    if (value === undefined) return undefined;
    if (['1', 'true'].includes(value)) return true;
    if (['0', 'false'].includes(value)) return false;
    throw new SwarmError('invalid', `invalid filter '${key}=${value}': use true or false`);
  }
}
