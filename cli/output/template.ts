/**
 * Go's text/template as people use it in --format: fields, variables, pipes, parentheses, range,
 * with, if / else if / else, define-free, and the functions of functions.ts. Values print as Go
 * prints them: [a b], map[k:v], <no value>.
 */
import { SwarmError } from '../../base/errors.ts';
import { callFunction, goText, isFunction, truthy } from './functions.ts';

export { goText } from './functions.ts';

/** The dot, '$' and variables. */
interface Scope {
  readonly dot: unknown;
  readonly root: unknown;
  readonly variables: Map<string, unknown>;
}

type Render = (scope: Scope) => string;
type Evaluate = (scope: Scope) => unknown;

/** `fields`: the names it may use, where they are known; SwarmError invalid for others. */
export function compileTemplate(
  source: string,
  fields?: readonly string[],
): (dot: unknown) => string {
  const parser = new Parser(withEscapes(source), fields);
  const render = parser.block([]);
  return (dot) => render({ dot, root: dot, variables: new Map() });
}

function bad(source: string, why: string): SwarmError {
  return new SwarmError('invalid', `invalid template "${source}": ${why}`);
}

/** \t and \n as people type them in a shell. */
function withEscapes(source: string): string {
  return source.replaceAll('\\t', '\t').replaceAll('\\n', '\n');
}

const TOKEN = /"(?:[^"\\]|\\.)*"|`[^`]*`|:=|\(|\)|\||,|\$[\w.]*|[^\s()|,]+/g;

class Parser {
  readonly #source: string;
  /** Fields of the dot itself; unknown inside range and with. */
  #fields: readonly string[] | undefined;
  readonly #parts: string[];
  #at = 0;
  /** The action that ended the last block: 'end', 'else', 'else if ...'; '' at the end. */
  #stopped = '';

  constructor(source: string, fields: readonly string[] | undefined) {
    this.#source = source;
    this.#fields = fields;
    // Odd items are actions; a dash beside the braces trims the text next to it.
    this.#parts = source
      .replace(/\s*\{\{-\s/g, '{{')
      .replace(/\s-\}\}\s*/g, '}}')
      .split(/\{\{([\s\S]*?)\}\}/);
  }

  block(stops: readonly string[]): Render {
    const renders: Render[] = [];
    while (this.#at < this.#parts.length) {
      const part = this.#parts[this.#at];
      const isText = this.#at % 2 === 0;
      this.#at += 1;
      if (isText) {
        if (part.includes('{{')) throw bad(this.#source, 'an action is not closed with }}');
        if (part !== '') renders.push(() => part);
        continue;
      }
      const action = part.trim();
      if (action.startsWith('/*')) continue;
      const [keyword] = action.split(/\s+/, 1);
      if (keyword === 'end' || keyword === 'else') {
        if (!stops.includes(keyword)) throw bad(this.#source, `unexpected {{${keyword}}}`);
        this.#stopped = action;
        return joined(renders);
      }
      if (keyword === 'range' || keyword === 'if' || keyword === 'with') {
        renders.push(this.#control(keyword, action.slice(keyword.length)));
      } else renders.push(this.#action(action));
    }
    if (stops.length > 0) throw bad(this.#source, 'an {{end}} is missing');
    return joined(renders);
  }

  #action(action: string): Render {
    const tokens: string[] = [...(action.match(TOKEN) ?? [])];
    if (tokens[1] === ':=' || tokens[1] === '=') {
      const evaluate = pipeline(this.#source, tokens.slice(2), this.#fields);
      return (scope) => {
        scope.variables.set(tokens[0], evaluate(scope));
        return '';
      };
    }
    const evaluate = pipeline(this.#source, tokens, this.#fields);
    return (scope) => goText(evaluate(scope));
  }

  #control(keyword: 'range' | 'if' | 'with', condition: string): Render {
    const tokens: string[] = [...(condition.match(TOKEN) ?? [])];
    const assign = tokens.indexOf(':=');
    const names = tokens.slice(0, Math.max(assign, 0)).filter((token) => token !== ',');
    const evaluate = pipeline(this.#source, tokens.slice(assign + 1), this.#fields);
    const outer = this.#fields;
    if (keyword !== 'if') this.#fields = undefined;
    const body = this.block(['else', 'end']);
    this.#fields = outer;
    const otherwise = this.#otherwise();
    if (keyword === 'range') return (scope) => ranged(scope, evaluate, names, body, otherwise);
    return (scope) => {
      const value = evaluate(scope);
      if (!truthy(value)) return otherwise(scope);
      const variables = new Map(scope.variables);
      if (names.length > 0) variables.set(names[0], value);
      return body({ ...scope, variables, dot: keyword === 'with' ? value : scope.dot });
    };
  }

  #otherwise(): Render {
    const stopped = this.#stopped;
    if (stopped === 'end') return () => '';
    const match = /^else\s+(if|with)\b(.*)$/s.exec(stopped);
    // 'else if' opens a block that the same {{end}} closes.
    if (match !== null) return this.#control(match[1] as 'if' | 'with', match[2]);
    return this.block(['end']);
  }
}

function ranged(
  scope: Scope,
  evaluate: Evaluate,
  names: readonly string[],
  body: Render,
  otherwise: Render,
): string {
  const value = evaluate(scope);
  const isList = Array.isArray(value);
  const entries: [unknown, unknown][] =
    typeof value !== 'object' || value === null
      ? []
      : Object.entries(value).map(([key, item]) => [isList ? Number(key) : key, item]);
  // Go goes through maps by their sorted keys.
  if (!isList) entries.sort(([left], [right]) => (String(left) < String(right) ? -1 : 1));
  if (entries.length === 0) return otherwise(scope);
  return entries
    .map(([key, item]) => {
      const variables = new Map(scope.variables);
      if (names.length === 1) variables.set(names[0], item);
      else if (names.length === 2) variables.set(names[0], key).set(names[1], item);
      return body({ ...scope, variables, dot: item });
    })
    .join('');
}

function joined(renders: readonly Render[]): Render {
  return (scope) => renders.map((render) => render(scope)).join('');
}

function pipeline(
  source: string,
  tokens: readonly string[],
  fields: readonly string[] | undefined,
): Evaluate {
  let at = 0;

  function parenthesized(): Evaluate {
    const inner = pipe();
    if (tokens[at] !== ')') throw bad(source, 'a ) is missing');
    at += 1;
    const after = tokens[at];
    // '(index .List 0).Name'
    if (after?.startsWith('.') !== true || after === '.') return inner;
    at += 1;
    const path = after.slice(1).split('.');
    return (scope) => field(inner(scope), path);
  }

  function operand(): Evaluate {
    const token = tokens[at];
    at += 1;
    if (token === '(') return parenthesized();
    if (token.startsWith('"')) {
      const value: unknown = JSON.parse(token);
      return () => value;
    }
    if (token.startsWith('`')) return () => token.slice(1, -1);
    if (/^-?\d+(\.\d+)?$/.test(token)) return () => Number(token);
    if (token === 'true' || token === 'false') return () => token === 'true';
    if (token === 'nil') return () => null;
    if (token === '.') return ({ dot }) => dot;
    if (token.startsWith('$')) {
      const [name, ...path] = token.split('.');
      return ({ root, variables }) => field(name === '$' ? root : variables.get(name), path);
    }
    if (token.startsWith('.')) {
      const path = token.slice(1).split('.');
      if (fields !== undefined && !fields.includes(path[0])) {
        throw bad(source, `${token} is unknown: use .${fields.join(', .')}`);
      }
      return ({ dot }) => field(dot, path);
    }
    if (isFunction(token)) return () => callFunction(token, []);
    throw bad(source, `"${token}" is not known`);
  }

  function command(piped: Evaluate | undefined): Evaluate {
    if (at >= tokens.length) throw bad(source, 'an action is empty');
    const name = tokens[at];
    if (!isFunction(name)) return operand();
    at += 1;
    const args: Evaluate[] = [];
    while (at < tokens.length && tokens[at] !== '|' && tokens[at] !== ')') args.push(operand());
    if (piped !== undefined) args.push(piped);
    return (scope) =>
      callFunction(
        name,
        args.map((arg) => arg(scope)),
      );
  }

  function pipe(): Evaluate {
    let value = command(undefined);
    while (tokens[at] === '|') {
      at += 1;
      value = command(value);
    }
    return value;
  }

  const result = pipe();
  if (at < tokens.length) throw bad(source, `"${tokens[at]}" is not expected there`);
  return result;
}

function field(dot: unknown, path: readonly string[]): unknown {
  let value = dot;
  for (const name of path) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : undefined;
  }
  return value;
}
