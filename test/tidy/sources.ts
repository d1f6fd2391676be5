/** Reads the tree's own TypeScript sources for the tidy tests: paths, texts, imports. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The checkout: tests run from dist/test/tidy. */
export const TOP = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');

export const ROOMS = [
  'base',
  'model',
  'proto',
  'runtime',
  'agent',
  'manager',
  'daemon',
  'cli',
  'sim',
  'deploy',
  'test',
] as const;

export interface Source {
  /** Relative to the top, e.g. 'agent/step.ts'. */
  readonly path: string;
  readonly text: string;
  readonly lines: readonly string[];
  /** Targets relative to the top, or a package's name. `type`: erased when compiled. */
  readonly imports: readonly { readonly target: string; readonly type: boolean }[];
}

function walk(directory: string): string[] {
  return readdirSync(join(TOP, directory), { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) return path === join('proto', 'gen') ? [] : walk(path);
    return entry.name.endsWith('.ts') ? [path] : [];
  });
}

const IMPORT = /(?:^|\n)\s*(?:import|export)\s+(type\s)?(?:[^'";]*?\sfrom\s+)?'([^']+)'/g;
const DYNAMIC = /\bimport\(\s*'([^']+)'/g;

function parse(path: string): Source {
  const text = readFileSync(join(TOP, path), 'utf8');
  const resolve = (target: string): string =>
    target.startsWith('.') ? normalize(join(dirname(path), target)) : target;
  const imports = [...text.matchAll(IMPORT)].map((match) => ({
    target: resolve(match[2]),
    type: match[1] !== undefined,
  }));
  for (const match of text.matchAll(DYNAMIC)) {
    imports.push({ target: resolve(match[1]), type: false });
  }
  return { path, text, lines: text.split('\n'), imports };
}

export function sources(): Source[] {
  return ROOMS.filter((room) => existsSync(join(TOP, room)))
    .flatMap((room) => walk(room))
    .map(parse);
}

/** Text with comments, and the contents of strings, blanked; line breaks stay. */
export function codeOnly(text: string): string {
  const token = /\/\*[\s\S]*?\*\/|\/\/[^\n]*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"/g;
  return text.replace(token, (found) => found.replace(/[^\n]/g, ' '));
}
