/**
 * Variables in the texts of a stack file: $NAME, ${NAME}, ${NAME:-default}, ${NAME-default},
 * ${NAME:?error}, ${NAME?error}, ${NAME:+other}, ${NAME+other}, nested in one another, and $$ for a
 * dollar. Pure: variables come in as a function. Keys of maps are never changed.
 */
import { SwarmError } from '../../base/errors.ts';

/** A variable's value; undefined when it is not set. */
export type Variables = (name: string) => string | undefined;

const NAME = /^[A-Za-z_][A-Za-z0-9_]*/;

/** Every text of `value`, however deep, with its variables replaced. */
export function interpolateAll(value: unknown, variables: Variables, path = ''): unknown {
  if (typeof value === 'string') return interpolate(value, variables, path);
  if (Array.isArray(value)) {
    return value.map((item, at) => interpolateAll(item, variables, `${path}[${at}]`));
  }
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [
      key,
      interpolateAll(item, variables, path === '' ? key : `${path}.${key}`),
    ]),
  );
}

/** SwarmError invalid with the path when a form is wrong or a variable that must be set is not. */
export function interpolate(text: string, variables: Variables, path: string): string {
  if (!text.includes('$')) return text;
  const wrong = (): SwarmError =>
    new SwarmError(
      'invalid',
      `${path}: invalid variable in "${text}": write $NAME or \${NAME}, and $$ for a dollar`,
    );
  let out = '';
  let at = 0;
  while (at < text.length) {
    const dollar = text.indexOf('$', at);
    if (dollar < 0) return out + text.slice(at);
    out += text.slice(at, dollar);
    const rest = text.slice(dollar + 1);
    if (rest.startsWith('$')) {
      out += '$';
      at = dollar + 2;
    } else if (rest.startsWith('{')) {
      const end = closing(text, dollar + 2);
      if (end < 0) throw wrong();
      out += braced(text.slice(dollar + 2, end), variables, path, wrong);
      at = end + 1;
    } else {
      const name = NAME.exec(rest)?.[0];
      if (name === undefined) throw wrong();
      out += variables(name) ?? '';
      at = dollar + 1 + name.length;
    }
  }
  return out;
}

/** Where the brace that was opened before `from` closes; -1 when it does not. */
function closing(text: string, from: number): number {
  let depth = 1;
  for (let at = from; at < text.length; at += 1) {
    if (text.startsWith('$$', at)) at += 1;
    else if (text.startsWith('${', at)) depth += 1;
    else if (text[at] === '}') depth -= 1;
    if (depth === 0) return at;
  }
  return -1;
}

function braced(body: string, variables: Variables, path: string, wrong: () => SwarmError): string {
  const name = NAME.exec(body)?.[0];
  if (name === undefined) throw wrong();
  const value = variables(name);
  const match = /^(:?[-?+])([\s\S]*)$/.exec(body.slice(name.length));
  if (match === null) {
    if (body !== name) throw wrong();
    return value ?? '';
  }
  const [, sign, operand] = match;
  // With a colon an empty variable counts as one that is not set.
  const isSet = value !== undefined && !(sign.startsWith(':') && value === '');
  const other = (): string => interpolate(operand, variables, path);
  switch (sign.at(-1)) {
    case '-':
      return isSet ? value : other();
    case '+':
      return isSet ? other() : '';
    default:
      if (isSet) return value;
      throw new SwarmError(
        'invalid',
        `${path}: the variable ${name} is required${operand === '' ? '' : `: ${other()}`}`,
      );
  }
}
