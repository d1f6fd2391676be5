/**
 * Functions of --format templates: Go's own (printf, index, len, eq, lt, and, ...) and docker's
 * (json, upper, lower, title, join, split, truncate, pad, table's println), over plain JSON values.
 */

type Call = (...args: unknown[]) => unknown;

export function truthy(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0;
  if (typeof value === 'object' && value !== null) return Object.keys(value).length > 0;
  return Boolean(value);
}

function at(value: unknown, key: unknown): unknown {
  if (typeof value !== 'object' || value === null) return undefined;
  const name = String(key);
  return Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : undefined;
}

function less(left: unknown, right: unknown): boolean {
  const isNumber = typeof left === 'number' && typeof right === 'number';
  return isNumber ? left < right : goText(left) < goText(right);
}

/** %s %v %d %q %x %t %f and %%, with width and precision. */
function printf(format: unknown, ...values: unknown[]): string {
  let next = 0;
  return goText(format).replace(/%([-+ #0]*)(\d*)(?:\.(\d+))?([a-zA-Z%])/g, (...match) => {
    const [, flags, width, precision, verb] = match as string[];
    if (verb === '%') return '%';
    const text = formatted(values[next], verb, precision);
    next += 1;
    const wide = Number(width || 0);
    if (flags.includes('-')) return text.padEnd(wide);
    return text.padStart(wide, flags.includes('0') ? '0' : ' ');
  });
}

function formatted(value: unknown, verb: string, precision: string | undefined): string {
  switch (verb) {
    case 'q':
      return JSON.stringify(goText(value));
    case 'd':
      return String(Math.trunc(Number(value)));
    case 'x':
      return typeof value === 'number'
        ? value.toString(16)
        : Buffer.from(goText(value)).toString('hex');
    case 'f':
    case 'g':
      return Number(value).toFixed(Number(precision ?? 6));
    default: {
      const text = goText(value);
      return precision === undefined ? text : text.slice(0, Number(precision));
    }
  }
}

function escapeHtml(text: string): string {
  const names: Readonly<Record<string, string>> = {
    '&': '&amp;',
    '<': '&lt;',
    '>': '&gt;',
    '"': '&#34;',
    "'": '&#39;',
  };
  return text.replace(/[&<>"']/g, (letter) => names[letter]);
}

const FUNCTIONS: Readonly<Record<string, Call>> = {
  json: (value) => JSON.stringify(value ?? null),
  upper: (value) => goText(value).toUpperCase(),
  lower: (value) => goText(value).toLowerCase(),
  title: (value) => goText(value).replace(/\b\p{L}/gu, (letter) => letter.toUpperCase()),
  join: (list, separator) => (Array.isArray(list) ? list.map(goText).join(String(separator)) : ''),
  split: (value, separator) => goText(value).split(String(separator)),
  truncate: (value, length) => goText(value).slice(0, Number(length)),
  pad: (value, before, after) =>
    goText(value) === ''
      ? ''
      : ' '.repeat(Number(before)) + goText(value) + ' '.repeat(Number(after)),
  len: (value) => (typeof value === 'string' ? value.length : Object.keys(value ?? {}).length),
  index: (value, ...keys) => keys.reduce((item: unknown, key) => at(item, key), value),
  slice: (value, from = 0, to = undefined) =>
    Array.isArray(value) || typeof value === 'string'
      ? value.slice(Number(from), to === undefined ? undefined : Number(to))
      : value,
  print: (...values) => values.map(goText).join(' '),
  printf: (format, ...values) => printf(format, ...values),
  println: (...values) => `${values.map(goText).join(' ')}\n`,
  html: (value) => escapeHtml(goText(value)),
  urlquery: (value) => encodeURIComponent(goText(value)).replaceAll('%20', '+'),
  eq: (first, ...others) => others.some((other) => other === first),
  ne: (first, second) => first !== second,
  lt: (first, second) => less(first, second),
  le: (first, second) => !less(second, first),
  gt: (first, second) => less(second, first),
  ge: (first, second) => !less(first, second),
  not: (value) => !truthy(value),
  and: (...values) => values.find((value) => !truthy(value)) ?? values[values.length - 1],
  or: (...values) => values.find(truthy) ?? values[values.length - 1],
};

export function isFunction(name: string): boolean {
  return Object.hasOwn(FUNCTIONS, name);
}

export function callFunction(name: string, args: readonly unknown[]): unknown {
  return FUNCTIONS[name](...args);
}

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
