/**
 * Completion for bash, zsh and fish. The scripts ask `tsswarm __complete -- words...` what may
 * follow; it answers from the same command tree that parses, and with names from the daemon where
 * a host, service, network or image is wanted.
 */
import { SwarmError } from '../base/errors.ts';
import { addCommand, type Command, createCommand } from './command.ts';
import { GROUPS } from './commands.ts';
import type { Context, Run } from './context.ts';

const SCRIPTS: Readonly<Record<string, string>> = {
  bash: `_tsswarm() {
  local IFS=$'\\n'
  COMPREPLY=($(compgen -W "$(tsswarm __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" \\
    -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _tsswarm tsswarm
`,
  zsh: `#compdef tsswarm
_tsswarm() {
  local -a found
  found=("\${(@f)$(tsswarm __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  compadd -a found
}
compdef _tsswarm tsswarm
`,
  fish: `function __tsswarm_complete
  set -l words (commandline -opc) (commandline -ct)
  tsswarm __complete -- $words[2..-1] 2>/dev/null
end
complete -c tsswarm -f -a '(__tsswarm_complete)'
`,
};

export function registerCompletion(program: Command, run: Run): void {
  addCommand(program, 'completion <shell>', 'completion for bash, zsh or fish').action(
    (shell: string) =>
      run(async (context) => {
        const script = Object.hasOwn(SCRIPTS, shell) ? SCRIPTS[shell] : undefined;
        if (script === undefined) {
          throw new SwarmError('invalid', `unknown shell "${shell}": use bash, zsh or fish`);
        }
        context.out.write(script);
      }),
  );
}

export function registerComplete(program: Command, run: Run): void {
  addCommand(program, '__complete [words...]', 'what may follow the words').action(
    (words: string[]) =>
      run(async (context) => {
        for (const word of await candidates(context, words, run)) context.out.write(`${word}\n`);
      }),
  );
}

/** Where names of objects come from, by command group. */
const NAMES: Readonly<Record<string, (context: Context) => Promise<string[]>>> = {
  node: async ({ client }) =>
    (await client.get<{ Description: { Hostname: string } }[]>('/nodes')).map(
      (item) => item.Description.Hostname,
    ),
  service: async ({ client }) =>
    (await client.get<{ Spec: { Name: string } }[]>('/services')).map((item) => item.Spec.Name),
  network: async ({ client }) =>
    (await client.get<{ Name: string }[]>('/networks')).map((item) => item.Name),
  image: async ({ client }) =>
    (await client.get<{ RepoTags: string[] }[]>('/images/json')).flatMap((item) => item.RepoTags),
};

async function candidates(
  context: Context,
  words: readonly string[],
  run: Run,
): Promise<readonly string[]> {
  const typed = words[words.length - 1] ?? '';
  const done = words.slice(0, -1).filter((word) => !word.startsWith('-'));
  const fits = (list: readonly string[]): string[] =>
    list.filter((word) => word.startsWith(typed)).sort();
  const [first] = done;
  const group = GROUPS.find((item) => item.name === first && item.hidden !== true);
  if (group === undefined) {
    return fits(GROUPS.filter((item) => item.hidden !== true).map((item) => item.name));
  }
  const root = createCommand('tsswarm');
  (await group.load())(root, run);
  let command = root.commands[0];
  for (const word of done.slice(1)) {
    command = command.commands.find((item) => item.name() === word) ?? command;
  }
  if (typed.startsWith('-')) return fits(command.options.map((option) => option.long ?? ''));
  if (command.commands.length > 0) return fits(command.commands.map((item) => item.name()));
  if (command.registeredArguments.length === 0 || !Object.hasOwn(NAMES, group.name)) return [];
  try {
    return fits(await NAMES[group.name](context));
  } catch (error) {
    // Completion must not print errors into the line that is being typed.
    if (error instanceof SwarmError) return [];
    throw error;
  }
}
