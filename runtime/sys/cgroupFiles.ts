/**
 * Reading the small files of control groups; synchronous, they are answered by the kernel at once.
 */
import { readFileSync } from 'node:fs';

export function readText(path: string): string {
  return readFileSync(path, 'utf8').trim();
}

/** The words of a file; none when it is not there. */
export function readWords(path: string): readonly string[] {
  try {
    return readText(path).split(/\s+/).filter(Boolean);
  } catch {
    return []; // not there (or gone meanwhile): nothing listed
  }
}

/** A number of a "key value" file; 0 when the key is not there. */
export function readKey(path: string, key: string): number {
  const line = readText(path)
    .split('\n')
    .find((candidate) => candidate.startsWith(`${key} `));
  return line === undefined ? 0 : Number(line.slice(key.length + 1));
}

/** '' where the kernel has no such file. */
export function textOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // not counted here, or the container is just ending
  }
}

/** 0 for 'max' and where there is no such file. */
export function readNumber(path: string): number {
  const value = Number(textOrEmpty(path).trim());
  return Number.isFinite(value) ? value : 0;
}

/** v1 has no word for "no limit": a number near 2^63. */
const UNLIMITED_FROM = 2 ** 60;

/** undefined when there is no limit. */
export function readLimit(path: string): number | undefined {
  const text = textOrEmpty(path).trim();
  const value = Number(text);
  return text === '' || !(value < UNLIMITED_FROM) ? undefined : value;
}

/** A file of "key value" lines. */
export function readKeys(path: string): ReadonlyMap<string, number> {
  const found = new Map<string, number>();
  for (const line of textOrEmpty(path).split('\n')) {
    const space = line.indexOf(' ');
    if (space > 0) found.set(line.slice(0, space), Number(line.slice(space + 1)));
  }
  return found;
}
