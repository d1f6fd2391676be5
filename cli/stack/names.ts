/** What the conversions share: names and labels as docker's stacks have them, and small forms. */
import { msToNanoseconds, parseDuration } from '../../base/duration.ts';

export const NAMESPACE_LABEL = 'com.docker.stack.namespace';
export const IMAGE_LABEL = 'com.docker.stack.image';

type Labels = Readonly<Record<string, string>>;

export function stackLabels(stack: string, labels: Labels = {}): Record<string, string> {
  return { ...labels, [NAMESPACE_LABEL]: stack };
}

export function named(stack: string, key: string, object: { readonly name?: string }): string {
  return object.name ?? `${stack}_${key}`;
}

export const byText = (left: string, right: string): number =>
  left < right ? -1 : left > right ? 1 : 0;

/** Without the fields that are undefined. */
export function defined<T extends object>(fields: T): Partial<T> {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(given) as Partial<T>;
}

export function nanoseconds(text: string | undefined): number | undefined {
  return text === undefined ? undefined : msToNanoseconds(parseDuration(text));
}
