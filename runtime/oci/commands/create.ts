/** create, run and start: from a bundle to a running program. */
import { rmSync } from 'node:fs';
import { setSubreaper } from '../../sys/process.ts';
import type { Arguments, Flag } from '../arguments.ts';
import { firstWord, type OciCommand } from '../command.ts';
import { relayTerminal } from '../console.ts';
import type { OciContext } from '../context.ts';
import { type CreateOptions, createContainer } from '../create.ts';
import { deleteContainer, openGate, waitForChild } from '../lifecycle.ts';

const PLACE =
  'Where "<container-id>" is your name for the instance of the container that you\n' +
  'are starting. The name you provide for the container instance must be unique on\nyour host.';
const BUNDLE =
  'The bundle is a directory with a specification file named "config.json" and a\n' +
  'root filesystem.';

const FLAGS: readonly Flag[] = [
  {
    name: 'bundle',
    short: 'b',
    value: true,
    help: 'path to the root of the bundle directory, defaults to the current directory',
  },
  {
    name: 'console-socket',
    value: true,
    help: "path to an AF_UNIX socket which will receive the console's master end",
  },
  { name: 'pid-file', value: true, help: 'specify the file to write the process id to' },
  { name: 'no-pivot', help: 'do not use pivot root: for a rootfs on top of a ramdisk' },
  { name: 'no-new-keyring', help: 'do not create a new session keyring for the container' },
  {
    name: 'preserve-fds',
    value: true,
    help: 'Pass N additional file descriptors to the container (stdio + $LISTEN_FDS + N in total)',
    byDefault: '0',
  },
  { name: 'config', short: 'f', value: true, help: 'the specification file', hidden: true },
];

function optionsOf(args: Arguments, foreground: boolean): CreateOptions {
  return {
    bundle: args.text('bundle') ?? '.',
    configFile: args.text('config') ?? 'config.json',
    consoleSocket: args.text('console-socket'),
    pidFile: args.text('pid-file'),
    noPivot: args.flag('no-pivot'),
    noNewKeyring: args.flag('no-new-keyring'),
    preserveFds: args.count('preserve-fds'),
    foreground,
  };
}

export const create: OciCommand = {
  name: 'create',
  summary: 'create a container',
  words: '<container-id>',
  description: `${PLACE}\n\n${BUNDLE}`,
  flags: FLAGS,
  least: 1,
  most: 1,
  run: async (context, args) => {
    await createContainer(context, firstWord(args), optionsOf(args, false));
    return 0;
  },
};

export const start: OciCommand = {
  name: 'start',
  summary: 'executes the user defined process in a created container',
  words: '<container-id>',
  flags: [],
  least: 1,
  most: 1,
  run: (context, args) => {
    openGate(context, context.store.load(firstWord(args)));
    return 0;
  },
};

export const run: OciCommand = {
  name: 'run',
  summary: 'create and run a container',
  words: '<container-id>',
  description: `${PLACE}\n\n${BUNDLE}`,
  flags: [
    ...FLAGS,
    { name: 'detach', short: 'd', help: "detach from the container's process" },
    { name: 'keep', help: 'do not delete the container after it exits' },
    { name: 'no-subreaper', help: 'do not become the parent of orphaned processes' },
  ],
  least: 1,
  most: 1,
  run: async (context, args) =>
    args.flag('detach') ? await runDetached(context, args) : await runHere(context, args),
};

async function runDetached(context: OciContext, args: Arguments): Promise<number> {
  const { container } = await createContainer(context, firstWord(args), optionsOf(args, false));
  try {
    openGate(context, container);
  } catch (error) {
    removePidFile(args);
    await deleteContainer(context, container, true);
    throw error;
  }
  return 0;
}

async function runHere(context: OciContext, args: Arguments): Promise<number> {
  setSubreaper(true);
  const { container, master } = await createContainer(
    context,
    firstWord(args),
    optionsOf(args, args.text('console-socket') === undefined),
  );
  // Its first process is ours by now; others are not to be.
  if (args.flag('no-subreaper')) setSubreaper(false);
  const relay = master === undefined ? undefined : relayTerminal(master);
  let code: number;
  try {
    openGate(context, container);
    code = await waitForChild(context, container.pid, relay);
  } catch (error) {
    removePidFile(args);
    await deleteContainer(context, container, true);
    await relay?.finish();
    throw error;
  }
  if (!args.flag('keep')) await deleteContainer(context, container, true);
  return code;
}

function removePidFile(args: Arguments): void {
  const path = args.text('pid-file');
  if (path !== undefined) rmSync(path, { force: true });
}
