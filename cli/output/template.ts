/**
 * The part of Go's text/template that people use in --format: fields, pipes, range, if/else/end,
 * and the functions json, upper, lower, title, join, split, len, index, println, eq, ne, not, and,
 * or. Values print as Go prints them: [a b], map[k:v], <no value>.
 */
import { SwarmError } from '../../base/errors.ts';

type Render = (dot: unknown) => string;
type Evaluate = (dot: unknown) => unknown;

/** `fields`: the names it may use, where they are known; SwarmError invalid for others. */
export function compileTemplate(source: string, fields?: readonly string[]): Render {
  const parser = new Parser(withEscapes(source), fields);
  const render = parser.block([]);
  if (parser.stopped !== '') throw bad(source, `unexpected {{${parser.stopped}}}`);
  return render;
}

function bad(source: string, why: string): SwarmError {
  return new SwarmError('invalid', `invalid template "${source}": ${why}`);
}

/** \t and \n as people type them in a shell. */
function withEscapes(source: string): string {
  return source.replaceAll('\\t', '\t').replaceAll('\\n', '\n');
}

class Parser {
  readonly #source: string;
  readonly #fields: readonly string[] | undefined;
  readonly #parts: string[];
  #at = 0;
  /** The keyword ('else', 'end') that ended the last block, '' at the end of the text. */
  stopped = '';

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
    for (; this.#at < this.#parts.length; this.#at += 1) {
      const part = this.#parts[this.#at];
      if (this.#at % 2 === 0) {
        if (part.includes('{{')) throw bad(this.#source, 'an action is not closed with }}');
        if (part !== '') renders.push(() => part);
        continue;
      }
      const action = part.trim();
      const [keyword] = action.split(/\s+/, 1);
      if (keyword === 'end' || keyword === 'else') {
        if (!stops.includes(keyword)) throw bad(this.#source, `unexpected {{${keyword}}}`);
        this.stopped = keyword;
        this.#at += 1;
        return joined(renders);
      }
      if (keyword === 'range' || keyword === 'if') {
        this.#at += 1;
        renders.push(this.#control(keyword, action.slice(keyword.length)));
        this.#at -= 1;
      } else {
        const evaluate = pipeline(this.#source, action, this.#fields);
        renders.push((dot) => goText(evaluate(dot)));
      }
    }
    if (stops.length > 0) throw bad(this.#source, 'an {{end}} is missing');
    this.stopped = '';
    return joined(renders);
  }

  #control(keyword: 'range' | 'if', condition: string): Render {
    const evaluate = pipeline(this.#source, condition, this.#fields);
    const body = this.block(['else', 'end']);
    let otherwise: Render = () => '';
    if (this.stopped === 'else') otherwise = this.block(['end']);
    this.stopped = '';
    if (keyword === 'if') {
      return (dot) => (truthy(evaluate(dot)) ? body(dot) : otherwise(dot));
    }
    return (dot) => {
      const value = evaluate(dot);
      const items = typeof value === 'object' && value !== null ? Object.values(value) : [];
      return items.length === 0 ? otherwise(dot) : items.map((item) => body(item)).join('');
    };
  }
}

function joined(renders: readonly Render[]): Render {
  return (dot) => renders.map((render) => render(dot)).join('');
}

function truthy(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0;
  if (typeof value === 'object' && value !== null) return Object.keys(value).length > 0;
  return Boolean(value);
}

const TOKEN = /"(?:[^"\\]|\\.)*"|`[^`]*`|\(|\)|\||[^\s()|]+/g;

function pipeline(source: string, text: string, fields?: readonly string[]): Evaluate {
  const tokens = text.match(TOKEN) ?? [];
  let at = 0;

  function operand(): Evaluate {
    const token = tokens[at];
    at += 1;
    if (token === '(') {
      const inner = pipe();
      if (tokens[at] !== ')') throw bad(source, 'a ) is missing');
      at += 1;
      return inner;
    }
    if (token.startsWith('"')) {
      const value: unknown = JSON.parse(token);
      return () => value;
    }
    if (token.startsWith('`')) return () => token.slice(1, -1);
    if (/^-?\d+(\.\d+)?$/.test(token)) return () => Number(token);
    if (token === 'true' || token === 'false') return () => token === 'true';
    if (token === '.' || token === '$') return (dot) => dot;
    if (token.startsWith('.')) {
      const path = token.slice(1).split('.');
      if (fields !== undefined && !fields.includes(path[0])) {
        throw bad(source, `${token} is unknown: use .${fields.join(', .')}`);
      }
      return (dot) => field(dot, path);
    }
    throw bad(source, `"${token}" is not known`);
  }

  function command(piped: Evaluate | undefined): Evaluate {
    if (at >= tokens.length) throw bad(source, 'an action is empty');
    const name = tokens[at];
    if (!Object.hasOwn(FUNCTIONS, name)) return operand();
    at += 1;
    const args: Evaluate[] = [];
    while (at < tokens.length && tokens[at] !== '|' && tokens[at] !== ')') args.push(operand());
    if (piped !== undefined) args.push(piped);
    const call = FUNCTIONS[name];
    return (dot) => call(...args.map((arg) => arg(dot)));
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

function at(value: unknown, key: unknown): unknown {
  return field(value, [String(key)]);
}

const FUNCTIONS: Readonly<Record<string, (...args: unknown[]) => unknown>> = {
  json: (value) => JSON.stringify(value ?? null),
  upper: (value) => goText(value).toUpperCase(),
  lower: (value) => goText(value).toLowerCase(),
  title: (value) => goText(value).replace(/\b\p{L}/gu, (letter) => letter.toUpperCase()),
  join: (list, separator) => (Array.isArray(list) ? list.map(goText).join(String(separator)) : ''),
  split: (value, separator) => goText(value).split(String(separator)),
  len: (value) => (typeof value === 'string' ? value.length : Object.keys(value ?? {}).length),
  index: (value, ...keys) => keys.reduce((item: unknown, key) => at(item, key), value),
  println: (...values) => `${values.map(goText).join(' ')}\n`,
  eq: (first, ...others) => others.some((other) => other === first),
  ne: (first, second) => first !== second,
  not: (value) => !truthy(value),
  and: (...values) => values.find((value) => !truthy(value)) ?? values[values.length - 1],
  or: (...values) => values.find(truthy) ?? values[values.length - 1],
};

/** As Go's %v prints it. */
export function goText(value: unknown): string {
  if (value === undefined) return '<no value>';
  if (value === null) return '<nil>';
  if (Array.isArray(value)) return `[${value.map(goText).join(' ')}]`;
  if (typeof value === 'object') {
    const entries = Object.entries(value).map(([key, item]) => `${key}:${goText(item)}`);
    return `map[${entries.sort().join(' ')}]`;
  }
  return String(value);
}
