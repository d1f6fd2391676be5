/**
 * What each line of a container's log is to say besides, by its log options: labels and variables
 * by name or pattern, and a tag from a template. Pure.
 */
import { SwarmError } from '../../base/errors.ts';
import { shortId } from '../../base/id.ts';
import type { ContainerConfig } from '../../runtime/container/types.ts';
import type { LogAttributes } from './types.ts';

type Described = Pick<
  ContainerConfig,
  'id' | 'name' | 'labels' | 'env' | 'image' | 'args' | 'hostname'
>;

const SHORT_ID_DIGITS = 12;

/** SwarmError invalid for a tag with a word that is not known. */
export function logAttributes(
  config: Described,
  wanted: LogAttributes,
): Readonly<Record<string, string>> {
  const variables = config.env.map((entry) => {
    const [name, ...value] = entry.split('=');
    return [name, value.join('=')] as const;
  });
  const tag = tagOf(config, wanted.tag);
  return {
    ...chosen(Object.entries(config.labels), wanted.labels, wanted.labelsPattern),
    ...chosen(variables, wanted.env, wanted.envPattern),
    ...(tag === '' ? {} : { tag }),
  };
}

function chosen(
  entries: readonly (readonly [string, string])[],
  names: readonly string[],
  pattern: string,
): Readonly<Record<string, string>> {
  const fits = pattern === '' ? undefined : new RegExp(pattern);
  return Object.fromEntries(
    entries.filter(([name]) => names.includes(name) || fits?.test(name) === true),
  );
}

/** Docker's words for a tag, as far as they are plain texts. */
function tagOf(config: Described, template: string): string {
  const { id, name, image, args, hostname } = config;
  const imageHex = image.id.replace(/^sha256:/, '');
  const words: Readonly<Record<string, string>> = {
    ID: shortId(id),
    FullID: id,
    Name: name,
    ImageID: imageHex.slice(0, SHORT_ID_DIGITS),
    ImageFullID: image.id,
    ImageName: image.reference,
    Hostname: hostname,
    Command: args.join(' '),
    DaemonName: 'docker',
  };
  return template.replace(/\{\{\s*(.*?)\s*\}\}/g, (whole, word: string) => {
    const known = word.startsWith('.') ? words[word.slice(1)] : undefined;
    if (known !== undefined) return known;
    throw new SwarmError(
      'invalid',
      `log opt tag: ${whole} is not known: use {{.${Object.keys(words).join('}}, {{.')}}}`,
    );
  });
}
