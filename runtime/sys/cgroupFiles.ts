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
