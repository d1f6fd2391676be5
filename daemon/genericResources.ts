/**
 * What a host offers besides processors and memory, as its daemon is told: 'gpu=3' for an amount,
 * 'gpu=UUID-1' for a named unit, several with commas or repeated. Reads text; looks at no hardware.
 */
import { SwarmError } from '../base/errors.ts';
import type { GenericResource } from '../model/types.ts';

const KIND = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;
const WHOLE = /^\d{1,9}$/;

/** SwarmError invalid names what is wrong. */
export function parseGenericResources(texts: readonly string[]): readonly GenericResource[] {
  const resources: GenericResource[] = [];
  for (const text of texts.flatMap((item) => item.split(','))) {
    const [kind, value, more] = text.trim().split('=');
    if (!KIND.test(kind) || value === undefined || value === '' || more !== undefined) {
      throw new SwarmError(
        'invalid',
        `invalid generic resource "${text}": write KIND=AMOUNT or KIND=NAME`,
      );
    }
    const isAmount = WHOLE.test(value);
    const same = resources.filter((other) => other.kind === kind);
    if (same.some(({ name }) => isAmount || name === '' || name === value)) {
      throw new SwarmError(
        'invalid',
        `generic resource ${kind} is given twice: give one amount, or names that differ`,
      );
    }
    resources.push(
      isAmount ? { kind, name: '', amount: Number(value) } : { kind, name: value, amount: 1 },
    );
  }
  return resources;
}
