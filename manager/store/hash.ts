/**
 * A digest of everything a view holds, the same on every replica that applied the same entries,
 * whatever the order of records or fields. For checkers and tests: it reads every record.
 */
import { createHash } from 'node:crypto';
import { TABLES } from './contents.ts';
import type { View } from './types.ts';

/** 64 hex digits. */
export function hashView(view: View): string {
  const hash = createHash('sha256');
  for (const table of TABLES) {
    const lines: string[] = [];
    for (const object of view.all(table)) lines.push(canonical(object));
    hash.update(`${table} ${lines.length}\n`);
    for (const line of lines.sort()) hash.update(`${line}\n`);
  }
  return hash.digest('hex');
}

/** JSON with sorted fields, without those that are undefined. */
function canonical(value: unknown): string {
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
