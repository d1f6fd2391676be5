#!/usr/bin/env node
/**
 * The tsswarm command. Only the group that the user names is loaded (commands.ts), so that a small
 * command starts in a few milliseconds. Errors end as one line on standard error and status 1.
 */
import { SystemClock } from '../base/clock.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import { VERSION } from '../base/version.ts';
import { ApiClient, DEFAULT_HOST } from './client.ts';
import { type Command, CommanderError, createCommand, errorLine } from './command.ts';
import { GROUPS, type Group } from './commands.ts';
import { type Context, EXIT_ERROR, type Run, type Terminal } from './context.ts';

/** As a shell reports a process that SIGINT ended. */
const EXIT_INTERRUPTED = 130;
const ABOUT = 'tsswarm: containers over many hosts, as one';

function terminal(stream: NodeJS.WriteStream): Terminal {
  return {
    isTty: stream.isTTY === true,
    get columns(): number {
      // A terminal may not know its size and say 0 (a serial console, script without one).
      return stream.columns || 80;
    },
    get rows(): number {
      return stream.rows || 24;
    },
    write: (text) => {
      stream.write(text);
    },
  };
}

/** Docker's users write --flag=true and --flag=false for flags without a value. */
const BOOLEAN_FLAG = /^--([a-z0-9-]+)=(true|false|1|0|t|f)$/i;

/** What a command knows of flags, however deep below `command` the words lead. */
function flagNamed(command: Command, argv: readonly string[], name: string): FlagKind {
  let found: FlagKind = 'unknown';
  let at: Command | undefined = command;
  for (const word of ['', ...argv]) {
    const below: Command | undefined = at?.commands.find(
      (item) => item.name() === word || item.aliases().includes(word),
    );
    if (word !== '' && below === undefined) continue;
    at = word === '' ? at : below;
    const own = at?.options.filter((option) => option.long === `--${name}`) ?? [];
    const [option] = own;
    if (option === undefined) continue;
    const hasOpposite = at?.options.some((item) => item.long === `--no-${name}`) === true;
    found = option.isBoolean() ? (hasOpposite ? 'both' : 'boolean') : 'value';
  }
  return found;
}

type FlagKind = 'unknown' | 'value' | 'boolean' | 'both';

function normalise(program: Command, argv: readonly string[]): string[] {
  const end = argv.indexOf('--');
  return argv.flatMap((arg, at) => {
    const match = end >= 0 && at > end ? null : BOOLEAN_FLAG.exec(arg);
    if (match === null) return [arg];
    const [, name, value] = match;
    const kind = flagNamed(program, argv, name);
    if (kind === 'unknown' || kind === 'value') return [arg];
    if (/^(true|1|t)$/i.test(value)) return [`--${name}`];
    return kind === 'both' ? [`--no-${name}`] : [];
  });
}

/** The first word that is no option of tsswarm itself: the group to load. */
function groupNamed(argv: readonly string[]): Group | undefined {
  for (let at = 0; at < argv.length; at += 1) {
    const arg = argv[at];
    if (arg === '-H' || arg === '--host') at += 1;
    else if (arg === 'help') continue;
    else if (!arg.startsWith('-')) return GROUPS.find((group) => group.name === arg);
  }
  return undefined;
}

/**
 * The words up to one that names no command, where help is asked for: the parser would show the
 * help of the command above it. Parsed without the asking, they end in the error that is true.
 */
function unknownHelped(program: Command, argv: readonly string[]): string[] | undefined {
  if (!argv.some((arg) => ['help', '-h', '--help'].includes(arg))) return undefined;
  const path: string[] = [];
  let command: Command | undefined = program;
  for (let at = 0; at < argv.length && command.commands.length > 0; at += 1) {
    const arg = argv[at];
    if (arg === '-H' || arg === '--host') at += 1;
    if (arg === 'help' || arg.startsWith('-')) continue;
    path.push(arg);
    command = command.commands.find((item) => item.name() === arg);
    if (command === undefined) return path;
  }
  return undefined;
}

/** 'help service update' is 'service update --help'; the parser knows one word after help only. */
function helpFirst(argv: readonly string[]): readonly string[] {
  const at = argv.indexOf('help');
  const isFirst = at >= 0 && argv.slice(0, at).every((arg) => arg.startsWith('-'));
  if (!isFirst || argv.length < at + 3) return argv;
  return [...argv.slice(0, at), ...argv.slice(at + 1), '--help'];
}

function createProgram(): Command {
  const program = createCommand('tsswarm').description(ABOUT);
  program.version(`tsswarm ${VERSION}`, '-v, --version', 'show the version of the command');
  program.option('-H, --host <address>', 'the daemon: unix:///path or tcp://host:port');
  program.helpCommand('help [command]', 'show help for a command');
  return program;
}

async function main(given: readonly string[]): Promise<number> {
  const argv = helpFirst(given);
  const program = createProgram();
  const interrupted = new AbortController();
  const out = terminal(process.stdout);
  const err = terminal(process.stderr);
  let exitCode = 0;
  const address = (): string =>
    program.opts<{ host?: string }>().host ??
    process.env.TSSWARM_HOST ??
    process.env.DOCKER_HOST ??
    DEFAULT_HOST;

  const run: Run = async (act) => {
    for (const name of ['SIGINT', 'SIGTERM'] as const) {
      process.once(name, () => interrupted.abort());
    }
    const client = new ApiClient(address(), process.env);
    const clock = new SystemClock();
    const context: Context = { client, clock, out, err, signal: interrupted.signal, exitCode: 0 };
    await act(context);
    exitCode = context.exitCode;
  };

  const wanted = groupNamed(argv);
  for (const group of GROUPS) {
    if (group === wanted) (await group.load())(program, run);
    else program.command(group.name, { hidden: group.hidden }).description(group.about);
  }
  try {
    const words = unknownHelped(program, argv) ?? normalise(program, argv);
    await program.parseAsync(words, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_ERROR;
    const asked = error instanceof SwarmError && error.code === 'cancelled';
    if (interrupted.signal.aborted && !asked) return EXIT_INTERRUPTED;
    err.write(errorLine(messageOf(error)));
    if (!(error instanceof SwarmError) && process.env.TSSWARM_DEBUG !== undefined) {
      err.write(`${error instanceof Error ? error.stack : ''}\n`);
    }
    return asked ? EXIT_INTERRUPTED : EXIT_ERROR;
  }
  return exitCode;
}

// A reader that stops early ('| head') is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? 0 : EXIT_ERROR);
});

const status = await main(process.argv.slice(2));
process.exitCode = status;
// A daemon that could not start may hold threads and locks open; it must not linger.
if (status !== 0) process.exit();
