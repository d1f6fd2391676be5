/**
 * YAML of stack files: the yaml package's one door. Reads YAML 1.2 with merge keys (<<), anchors
 * and Go's old octal numbers (0440), because that is what Compose files are written in; writes what
 * `stack config` prints. Says where a file is wrong, by file, line and column.
 */
import { isScalar, parseDocument, type ScalarTag, stringify } from 'yaml';
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

/** One document; undefined for an empty one. SwarmError invalid with the place. */
export function parseYaml(text: string, file: string): unknown {
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
  if (isScalar(document.contents) && document.contents.value === null) return undefined;
  try {
    return document.toJS({ maxAliasCount: ALIAS_LIMIT }) ?? undefined;
  } catch (cause) {
    const what = cause instanceof Error ? cause.message : String(cause);
    throw new SwarmError('invalid', `${file}: ${what}`, { cause });
  }
}

/** As `stack config` prints it. */
export function yamlText(value: unknown): string {
  return stringify(value, { version: '1.1', lineWidth: 0, aliasDuplicateObjects: false });
}
