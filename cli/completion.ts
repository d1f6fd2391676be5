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

type Names = (context: Context) => Promise<string[]>;

interface Named {
  readonly Name: string;
}

const services: Names = async ({ client }) =>
  (await client.get<{ Spec: Named }[]>('/services')).map((item) => item.Spec.Name);
const images: Names = async ({ client }) =>
  (await client.get<{ RepoTags: string[] | null }[]>('/images/json')).flatMap(
    (item) => item.RepoTags ?? [],
  );
const containers: Names = async ({ client }) =>
  (await client.get<{ Names: string[] }[]>('/containers/json', { all: true })).map((item) =>
    (item.Names[0] ?? '').replace(/^\//, ''),
  );
const data =
  (path: string): Names =>
  async ({ client }) =>
    (await client.get<{ Spec: Named }[]>(path)).map((item) => item.Spec.Name);
const stacks: Names = async ({ client }) => {
  const found = await client.get<{ Spec: { Labels: Record<string, string> } }[]>('/services');
  const names = found.map((item) => item.Spec.Labels['com.docker.stack.namespace']);
  return [...new Set(names.filter((name) => name !== undefined))];
};
/** Services are found too by what works on any task. */
const targets: Names = async (context) => [
  ...(await containers(context)),
  ...(await services(context).catch(() => [])),
];

/** Where names of objects come from, by command group. */
const NAMES: Readonly<Record<string, Names>> = {
  node: async ({ client }) =>
    (await client.get<{ Description: { Hostname: string } }[]>('/nodes')).map(
      (item) => item.Description.Hostname,
    ),
  service: services,
  stack: stacks,
  why: services,
  network: async ({ client }) => (await client.get<Named[]>('/networks')).map((item) => item.Name),
  volume: async ({ client }) =>
    ((await client.get<{ Volumes: Named[] | null }>('/volumes')).Volumes ?? []).map(
      (item) => item.Name,
    ),
  secret: data('/secrets'),
  config: data('/configs'),
  ...Object.fromEntries(
    ['image', 'run', 'create', 'push', 'rmi', 'save', 'tag', 'history'].map((name) => [
      name,
      images,
    ]),
  ),
  ...Object.fromEntries(
    [
      ...['container', 'attach', 'start', 'stop', 'restart', 'kill', 'pause', 'unpause', 'wait'],
      ...['rm', 'rename', 'port', 'export'],
    ].map((name) => [name, containers]),
  ),
  ...Object.fromEntries(
    ['exec', 'logs', 'cp', 'stats', 'top', 'diff', 'inspect'].map((name) => [name, targets]),
  ),
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
    command =
      command.commands.find((item) => item.name() === word || item.aliases().includes(word)) ??
      command;
  }
  if (typed.startsWith('-'))
    return fits(
      command.options.filter((option) => !option.hidden).map((option) => option.long ?? ''),
    );
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
