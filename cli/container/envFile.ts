/**
 * Files that flags name: environment variables, as --env-file takes them, lines of NAME=value or
 * NAME; and others as they are.
 */
import { readFileSync } from 'node:fs';
import { SwarmError } from '../../base/errors.ts';
import { parseEnv } from '../service/parse.ts';

/** Lines that are not empty and no comment. `name` is the flag, for errors. */
export function readLines(file: string, name: string): string[] {
  return readText(file, name)
    .split(/\r?\n/)
    .map((line) => line.trimStart())
    .filter((line) => line !== '' && !line.startsWith('#'));
}

export function readText(file: string, name: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new SwarmError('invalid', `${name} ${file}: it cannot be read`, { cause });
  }
}

export function readEnvFile(file: string): string[] {
  return readLines(file, '--env-file').flatMap((line) => parseEnv(line) ?? []);
}
