/**
 * Arguments as OCI runtimes take them: global flags, a command, its flags in any place (or, where
 * a program's own arguments follow, only before the first word). node:util's parseArgs does the
 * reading; this prepares for it what its strictness would refuse, and draws the help.
 */
import { parseArgs } from 'node:util';
import { SwarmError } from '../../base/errors.ts';

export interface Flag {
  readonly name: string;
  readonly short?: string;
  /** Takes a value; else it is there or not. */
  readonly value?: boolean;
  readonly multiple?: boolean;
  readonly help: string;
  /** Shown, and taken. */
  readonly byDefault?: string;
  /** Other runtimes' spellings, not shown. */
  readonly hidden?: boolean;
}

export class Arguments {
  readonly words: readonly string[];
  readonly #values: Readonly<Record<string, unknown>>;

  constructor(values: Readonly<Record<string, unknown>>, words: readonly string[]) {
    this.#values = values;
    this.words = words;
  }

  has(name: string): boolean {
    return this.#values[name] !== undefined;
  }

  flag(name: string): boolean {
    return this.#values[name] === true;
  }

  text(name: string): string | undefined {
    const value = this.#values[name];
    return typeof value === 'string' ? value : undefined;
  }

  texts(name: string): readonly string[] {
    const value = this.#values[name];
    return Array.isArray(value) ? (value as string[]) : [];
  }

  /** SwarmError invalid unless it is a whole number from 0 on; 0 without it. */
  count(name: string): number {
    const text = this.text(name) ?? '0';
    if (/^\d{1,9}$/.test(text)) return Number(text);
    throw new SwarmError('invalid', `--${name}: "${text}" is not a number from 0 on`);
  }
}

const HELP: Flag = { name: 'help', short: 'h', help: 'show help' };

/** `--name value` as `--name=value`, as a value may begin with a dash; long names for short. */
function prepare(args: readonly string[], flags: readonly Flag[], stopsEarly: boolean): string[] {
  const prepared: string[] = [];
  for (let at = 0; at < args.length; at += 1) {
    const arg = args[at] ?? '';
    if (arg === '--') return [...prepared, ...args.slice(at)];
    if (!/^-./.test(arg)) {
      if (stopsEarly) return [...prepared, '--', ...args.slice(at)];
      prepared.push(arg);
      continue;
    }
    const [, dashes = '', name = '', own] = /^(--?)([^=]+)(?:=(.*))?$/s.exec(arg) ?? [];
    const flag = flags.find((one) => one.name === name || (dashes === '-' && one.short === name));
    if (flag === undefined) {
      throw new SwarmError('invalid', `flag provided but not defined: -${name || arg}`);
    }
    if (flag.value !== true) {
      if (own !== 'false') prepared.push(`--${flag.name}`);
      continue;
    }
    if (own === undefined) at += 1;
    const value = own ?? args[at];
    if (value === undefined) {
      throw new SwarmError('invalid', `flag needs an argument: -${flag.name}`);
    }
    prepared.push(`--${flag.name}=${value}`);
  }
  return prepared;
}

/** SwarmError invalid for a flag that is not there, or that wants a value. */
export function readArguments(
  args: readonly string[],
  own: readonly Flag[],
  stopsEarly: boolean,
): Arguments {
  const flags = [...own, HELP];
  const options: NonNullable<Parameters<typeof parseArgs>[0]>['options'] = {};
  for (const flag of flags) {
    options[flag.name] = {
      type: flag.value === true ? 'string' : 'boolean',
      multiple: flag.multiple === true,
    };
  }
  const { values, positionals } = parseArgs({
    args: prepare(args, flags, stopsEarly),
    options,
    allowPositionals: true,
  });
  return new Arguments(values, positionals);
}

/** The lines of an OPTIONS section. */
export function optionLines(flags: readonly Flag[]): readonly string[] {
  const shown = flags.filter(({ hidden }) => hidden !== true);
  const heads = shown.map(({ name, short, value }) => {
    const word = value === true ? ' value' : '';
    return `--${name}${word}${short === undefined ? '' : `, -${short}${word}`}`;
  });
  const width = Math.max(...heads.map((head) => head.length));
  return shown.map(({ help, byDefault }, at) => {
    const note = byDefault === undefined ? '' : ` (default: ${byDefault})`;
    return `   ${(heads[at] ?? '').padEnd(width)}  ${help}${note}`;
  });
}
