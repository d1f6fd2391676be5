/**
 * Lists as commands print them: a table with Docker's spacing, only ids (-q), a template
 * (--format, also 'table ...' and 'json'), or the API's own objects (--json).
 */
import type { Context } from '../context.ts';
import { compileTemplate } from './template.ts';

const MINIMUM_WIDTH = 10;
const GAP = 3;

export interface Column<T> {
  readonly header: string;
  /** Name in templates. */
  readonly field: string;
  readonly value: (row: T) => string;
  /** Only for templates, not in the default table. */
  readonly hidden?: boolean;
}

export interface ListOptions {
  readonly format?: string;
  readonly quiet?: boolean;
  readonly json?: boolean;
}

export interface InspectFlags {
  readonly format?: string;
  /** What is printed anyway; it wins over the others. */
  readonly json?: boolean;
  readonly pretty?: boolean;
}

/** Cells padded to Docker's widths; the last one of a line is not padded. */
export function tableText(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, index) => {
      widths[index] = Math.max(widths[index] ?? MINIMUM_WIDTH - GAP, cell.length);
    });
  }
  return rows
    .map((row) => {
      const cells = row.map((cell, index) =>
        index === row.length - 1 ? cell : cell.padEnd(widths[index] + GAP),
      );
      return `${cells.join('')}\n`;
    })
    .join('');
}

export function printList<T>(
  context: Context,
  rows: readonly T[],
  columns: readonly Column<T>[],
  options: ListOptions,
  id: (row: T) => string,
): void {
  const { out } = context;
  if (options.json === true) {
    out.write(`${JSON.stringify(rows, undefined, 2)}\n`);
    return;
  }
  if (options.quiet === true && options.format === undefined) {
    for (const row of rows) out.write(`${id(row)}\n`);
    return;
  }
  const format = options.format ?? '';
  if (format === '' || format === 'table') {
    const shown = columns.filter((column) => column.hidden !== true);
    const cells = rows.map((row) => shown.map((column) => column.value(row)));
    out.write(tableText([shown.map((column) => column.header), ...cells]));
    return;
  }
  const fieldsOf = (row: T): Record<string, string> =>
    Object.fromEntries(columns.map((column) => [column.field, column.value(row)]));
  if (format === 'json') {
    for (const row of rows) out.write(`${JSON.stringify(fieldsOf(row))}\n`);
    return;
  }
  const isTable = format.startsWith('table ');
  const names = columns.map((column) => column.field);
  const render = compileTemplate(isTable ? format.slice('table '.length) : format, names);
  const lines = rows.map((row) => render(fieldsOf(row)));
  if (!isTable) {
    for (const line of lines) out.write(`${line}\n`);
    return;
  }
  const headers = Object.fromEntries(columns.map((column) => [column.field, column.header]));
  out.write(tableText([render(headers), ...lines].map((line) => line.split('\t'))));
}

/** What inspect prints: the objects as JSON, or one line each by a template. */
export function printObjects(
  context: Context,
  objects: readonly unknown[],
  flags: InspectFlags,
): void {
  // Nothing was found: the errors have been told already.
  if (objects.length === 0) return;
  const { format } = flags;
  if (flags.json === true || format === undefined || format === '') {
    context.out.write(`${JSON.stringify(objects, undefined, 4)}\n`);
    return;
  }
  if (format === 'json') {
    context.out.write(`${JSON.stringify(objects)}\n`);
    return;
  }
  const render = compileTemplate(format);
  for (const object of objects) context.out.write(`${render(object)}\n`);
}

/** Labels and options as lists show them: 'a=1,b=2'. */
export function pairsText(
  pairs: Readonly<Record<string, string>> | null = {},
  separator = ',',
): string {
  return Object.entries(pairs ?? {})
    .map(([key, value]) => `${key}=${value}`)
    .join(separator);
}

/** '  Label:   value' lines for --pretty. */
export function prettyText(
  lines: readonly (readonly [string, string | number | undefined])[],
): string {
  return lines
    .filter(([, value]) => value !== undefined && value !== '')
    .map(([label, value]) => `${`${label}:`.padEnd(24)} ${value}\n`)
    .join('');
}
