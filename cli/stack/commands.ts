/** stack: deploy, ls, ps, services, config, rm. */
import { SwarmError } from '../../base/errors.ts';
import { addCommand, type Command, collect } from '../command.ts';
import type { Context, Run } from '../context.ts';
import { readStdin } from '../input.ts';
import type { ListOptions } from '../output/list.ts';
import { checkStackName, type DeployOptions, deployStack, type ResolveImage } from './deploy.ts';
import { listStacks, removeStacks, stackPs, stackServiceList } from './lists.ts';
import { loadStack } from './load.ts';
import { configText } from './text.ts';

interface FileFlags {
  readonly composeFile?: readonly string[];
  readonly lax?: boolean;
  readonly skipInterpolation?: boolean;
}

interface DeployFlags extends FileFlags, Omit<DeployOptions, 'prune' | 'detach' | 'quiet'> {
  readonly prune?: boolean;
  readonly detach?: boolean;
  readonly quiet?: boolean;
}

const RESOLVE: readonly string[] = ['always', 'changed', 'never'];

export function registerStack(program: Command, run: Run): void {
  const stack = addCommand(program, 'stack', 'services deployed together, from a Compose file');
  registerWrites(stack, run);
  registerReads(stack, run);
}

function registerWrites(stack: Command, run: Run): void {
  addCommand(stack, 'deploy <stack>', 'make what a Compose file says')
    .alias('up')
    .option('-c, --compose-file <file>', 'the file, "-" for standard input (repeatable)', files)
    .option('-d, --detach', 'do not wait until all services run')
    .option('--lax', 'warn about keys that are not supported instead of refusing them')
    .option('--prune', 'remove services of the stack that are not in the file')
    .option('-q, --quiet', 'no progress')
    .option(
      '--resolve-image <word>',
      'when to ask for the digest: always, changed or never',
      'always',
    )
    .option('--with-registry-auth', 'give the hosts what "docker login" keeps')
    .action((name: string, flags: DeployFlags) =>
      run(async (context) => {
        checkStackName(name);
        if (!RESOLVE.includes(flags.resolveImage)) {
          throw new SwarmError(
            'invalid',
            `--resolve-image: "${flags.resolveImage}" is none of ${RESOLVE.join(', ')}`,
          );
        }
        await deployStack(context, name, await load(context, flags), {
          prune: flags.prune === true,
          detach: flags.detach === true,
          quiet: flags.quiet === true,
          resolveImage: flags.resolveImage as ResolveImage,
          withRegistryAuth: flags.withRegistryAuth === true,
        });
      }),
    );
  addCommand(stack, 'rm <stack...>', 'stop stacks and forget them')
    .aliases(['remove', 'down'])
    .option('-d, --detach', 'do not wait until their tasks have stopped')
    .action((names: string[], flags: { detach?: boolean }) =>
      run((context) => removeStacks(context, names, flags.detach === true)),
    );
  addCommand(stack, 'config', 'print what files say, merged and with variables replaced')
    .option('-c, --compose-file <file>', 'the file, "-" for standard input (repeatable)', files)
    .option('--lax', 'warn about keys that are not supported instead of refusing them')
    .option('--skip-interpolation', 'leave variables as they are')
    .action((flags: FileFlags) =>
      run(async (context) => {
        const { file } = await load(context, flags);
        context.out.write(configText(file, flags.skipInterpolation !== true));
      }),
    );
}

function registerReads(stack: Command, run: Run): void {
  addCommand(stack, 'ls', 'list them')
    .alias('list')
    .option('--format <template>', 'a Go template, "table ..." or "json"')
    .option('--json', 'as JSON')
    .action((flags: ListOptions) => run((context) => listStacks(context, flags)));
  addCommand(stack, 'services <stack>', 'services of a stack')
    .option('-f, --filter <key=value>', 'id, name, label, mode', collect)
    .option('--format <template>', 'a Go template, "table ..." or "json"')
    .option('-q, --quiet', 'only ids')
    .option('--json', 'the API’s objects')
    .action((name: string, flags: ListOptions & { filter?: string[] }) =>
      run((context) => stackServiceList(context, name, flags)),
    );
  addCommand(stack, 'ps <stack>', 'tasks of a stack')
    .option('-f, --filter <key=value>', 'id, name, node, desired-state', collect)
    .option('--format <template>', 'a Go template, "table ..." or "json"')
    .option('--no-resolve', 'ids instead of names')
    .option('--no-trunc', 'nothing is cut')
    .option('-q, --quiet', 'only ids')
    .option('--json', 'the API’s objects')
    .action(
      (
        name: string,
        flags: ListOptions & { filter?: string[]; resolve: boolean; trunc: boolean },
      ) => run((context) => stackPs(context, name, flags)),
    );
}

/** As often as given, and with commas, as docker's. */
function files(value: string, previous: readonly string[] | undefined): string[] {
  return [...(previous ?? []), ...value.split(',')];
}

async function load(context: Context, flags: FileFlags): ReturnType<typeof loadStack> {
  const loaded = await loadStack({
    files: flags.composeFile ?? [],
    lax: flags.lax === true,
    skipInterpolation: flags.skipInterpolation === true,
    environment: process.env,
    stdin: async () => (await readStdin()).toString('utf8'),
  });
  for (const line of loaded.warnings) context.err.write(`warning: ${line}\n`);
  return loaded;
}
