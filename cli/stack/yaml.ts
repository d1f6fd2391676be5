/**
 * YAML of stack files: the yaml package's one door. Reads YAML 1.2 with merge keys (<<), anchors
 * and Go's old octal numbers (0440), because that is what Compose files are written in; writes what
 * `stack config` prints. Says where a file is wrong, by file, line and column.
 */
import {
  type Document,
  isCollection,
  isScalar,
  parseDocument,
  type ScalarTag,
  stringify,
  visit,
} from 'yaml';
import { SwarmError } from '../../base/errors.ts';

/** 'mode: 0440' is a number in octal, as every Compose file means it. */
const OLD_OCTAL: ScalarTag = {
  tag: 'tag:yaml.org,2002:int',
  default: true,
  identify: () => false,
  test: /^0[0-7]+$/,
  resolve: (text) => Number.parseInt(text, 8),
};

/** How often one anchor may be used: beyond it a file is an attack on memory. */
const ALIAS_LIMIT = 10_000;

/** Far beyond any stack: what is deeper has an anchor in itself, or was made to exhaust us. */
const MAX_DEPTH = 64;

/** One document; undefined for an empty one. SwarmError invalid with the place. */
export function parseYaml(text: string, file: string): unknown {
  try {
    const value = contentOf(documentOf(text, file));
    checkDepth(value, file, 0);
    return value;
  } catch (cause) {
    if (cause instanceof SwarmError) throw cause;
    if (cause instanceof RangeError) throw tooDeep(file); // the parser's own recursion
    const what = cause instanceof Error ? cause.message : String(cause);
    throw new SwarmError('invalid', `${file}: ${what}`, { cause });
  }
}

function tooDeep(file: string): SwarmError {
  return new SwarmError(
    'invalid',
    `${file}: lists and maps are nested more than ${MAX_DEPTH} deep, or hold themselves`,
  );
}

/** What ends is walked to its end, what holds itself only until it is too deep. */
function checkDepth(value: unknown, file: string, depth: number): void {
  if (typeof value !== 'object' || value === null) return;
  if (depth >= MAX_DEPTH) throw tooDeep(file);
  for (const item of Object.values(value)) checkDepth(item, file, depth + 1);
}

function documentOf(text: string, file: string): Document.Parsed {
  const document = parseDocument(text, {
    version: '1.2',
    merge: true,
    customTags: (tags) => [OLD_OCTAL, ...tags],
    prettyErrors: true,
    uniqueKeys: true,
  });
  const [wrong] = [...document.errors, ...document.warnings];
  if (wrong !== undefined) {
    const { line, col } = wrong.linePos?.[0] ?? { line: 1, col: 1 };
    const what = wrong.message.split(/ at line \d+/)[0].split('\n')[0];
    throw new SwarmError('invalid', `${file}:${line}:${col}: ${what}`);
  }
  visit(document, {
    Pair(_, { key }) {
      if (isCollection(key)) {
        throw new SwarmError('invalid', `${file}: a list or a map cannot be a key`);
      }
    },
  });
  return document;
}

function contentOf(document: Document.Parsed): unknown {
  if (isScalar(document.contents) && document.contents.value === null) return undefined;
  return document.toJS({ maxAliasCount: ALIAS_LIMIT }) ?? undefined;
}

/** As `stack config` prints it. */
export function yamlText(value: unknown): string {
  return stringify(value, { version: '1.1', lineWidth: 0, aliasDuplicateObjects: false });
}
