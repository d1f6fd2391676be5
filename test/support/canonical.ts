/**
 * A view as text, the same for equal contents whatever the order of records or fields: what the
 * store's hash is checked against. It shares nothing with how that is made.
 */
import { TABLES } from '../../manager/store/contents.ts';
import type { View } from '../../manager/store/types.ts';

export function canonicalText(view: View): string {
  return TABLES.map((table) => {
    const lines = Array.from(view.all(table), canonical);
    return `${table}\n${lines.sort().join('\n')}`;
  }).join('\n');
}

/** JSON with sorted fields, without those that are undefined. */
export function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) => {
    if (typeof inner !== 'object' || inner === null || Array.isArray(inner)) return inner;
    const fields = inner as Record<string, unknown>;
    return Object.fromEntries(
      Object.keys(fields)
        .sort()
        .map((key) => [key, fields[key]]),
    );
  });
}
