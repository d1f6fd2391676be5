/**
 * The command line's parser: commander's one door. Every command is made here, so that all of them
 * report a wrong flag or command in one line ("tsswarm: unknown option '--foo' (did you mean ...)")
 * and end with status 1.
 */
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { SwarmError } from '../base/errors.ts';

export type { Command };
export { CommanderError, Option };

/** The one prefix of every error line. */
export function errorLine(message: string): string {
  return `tsswarm: ${message}\n`;
}

function oneLine(text: string): string {
  return text
    .trim()
    .replace(/^error: /, '')
    .replace(/\.$/, '')
    .replace(/\n\(Did you mean (one of )?/, ' (did you mean $1')
    .replace(/\s*\n\s*/g, ' ');
}

/** What is looked for at the top and is a part of something. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  ca: 'swarm ca',
  df: 'system df',
  prune: 'system prune',
  scale: 'service scale',
  unlock: 'swarm unlock',
  'unlock-key': 'swarm unlock-key',
};

/** The parser's own lines say what is wrong; where none says what would be right, this does. */
function withRemedy(command: Command, line: string): string {
  // A list is given as a whole on create; on update items are added to it or removed.
  const option = /^unknown option '(--[\w-]+)/.exec(line)?.[1];
  if (command.options.some(({ long }) => long === `${option}-add`)) {
    return `unknown option '${option}' (did you mean ${option}-add?)`;
  }
  const word = /^unknown command '([\w-]+)'/.exec(line)?.[1] ?? '';
  if (command.parent === null && Object.hasOwn(ELSEWHERE, word)) {
    return `unknown command '${word}' (did you mean ${ELSEWHERE[word]}?)`;
  }
  if (line.includes('(did you mean')) return line;
  const names = [command.name()];
  for (let above = command.parent; above !== null; above = above.parent)
    names.unshift(above.name());
  const path = names.join(' ');
  if (/^missing required argument|^too many arguments/.test(line)) {
    return `${line}: write "${path} ${command.usage()}"`;
  }
  return /^unknown (option|command)/.test(line) ? `${line}: see "${path} --help"` : line;
}

/** A command whose errors are thrown (CommanderError) after their line has been written. */
export function createCommand(name: string): Command {
  const command = new Command(name);
  command.exitOverride();
  command.enablePositionalOptions();
  command.configureOutput({
    outputError: (text, write) => {
      // Help that is shown because a subcommand is missing is no error line.
      write(text.startsWith('error: ') ? errorLine(withRemedy(command, oneLine(text))) : text);
    },
  });
  return command;
}

/** Adds a subcommand with the settings of createCommand. */
export function addCommand(parent: Command, usage: string, description: string): Command {
  const [name, ...args] = usage.split(' ');
  const command = createCommand(name).description(description);
  for (const argument of args) command.argument(argument);
  parent.addCommand(command);
  return command;
}

/** A flag that docker has and that cannot be had here: it says why, and what to do instead. */
export function refused(command: Command, usage: string, why: string): void {
  const option = new Option(usage, `not supported: ${why}`).hideHelp();
  command.addOption(option);
  command.on(`option:${option.name()}`, () => {
    throw new SwarmError('unsupported', `${option.long} is not supported: ${why}`);
  });
}

/** '-u, --user-name <name>' -> 'userName', as the parser names the value; '--no-user' -> 'user'. */
export function optionKey(usage: string): string {
  return new Option(usage).attributeName();
}

/** For options that may be given many times; the value is the list in order. */
export function collect(value: string, previous: readonly string[] | undefined): string[] {
  return [...(previous ?? []), value];
}

/** For options that take a whole number >= 0. */
export function whole(value: string): number {
  if (!/^\d+$/.test(value)) throw new InvalidArgumentError('It must be a whole number.');
  return Number(value);
}

/** For --tail. */
export function lineCount(value: string): string {
  if (value !== 'all') whole(value);
  return value;
}

/** For options like '--tls=false'. */
export function truth(value: string): boolean {
  if (['true', '1'].includes(value)) return true;
  if (['false', '0'].includes(value)) return false;
  throw new InvalidArgumentError('It must be true or false.');
}
