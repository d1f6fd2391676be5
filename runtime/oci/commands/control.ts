/** kill, delete, pause, resume: what is done to a running container. */
import { hasCode, messageOf, SwarmError } from '../../../base/errors.ts';
import { firstWord, type OciCommand } from '../command.ts';
import type { OciContext } from '../context.ts';
import { checkRunning, deleteContainer, signalContainer, signalNumber } from '../lifecycle.ts';

export const kill: OciCommand = {
  name: 'kill',
  summary: "kill sends the specified signal (default: SIGTERM) to the container's init process",
  words: '<container-id> [signal]',
  flags: [
    {
      name: 'all',
      short: 'a',
      help: 'send the specified signal to all processes inside the container',
    },
  ],
  least: 1,
  most: 2,
  run: (context, args) => {
    const container = context.store.load(firstWord(args));
    const signal = signalNumber(args.words[1] ?? 'SIGTERM');
    signalContainer(container, signal, args.flag('all'));
    return 0;
  },
};

export const remove: OciCommand = {
  name: 'delete',
  summary: 'delete any resources held by the container often used with detached container',
  words: '<container-id>',
  flags: [
    {
      name: 'force',
      short: 'f',
      help: 'Forcibly deletes the container if it is still running (uses SIGKILL)',
    },
    { name: 'regex', help: 'the name is a regular expression', hidden: true },
  ],
  least: 1,
  most: 1,
  run: async (context, args) => {
    const force = args.flag('force');
    if (args.flag('regex')) await removeMatching(context, firstWord(args), force);
    else await removeOne(context, firstWord(args), force);
    return 0;
  },
};

async function removeMatching(context: OciContext, text: string, force: boolean): Promise<void> {
  let pattern: RegExp;
  try {
    pattern = new RegExp(text);
  } catch (error) {
    throw new SwarmError('invalid', messageOf(error), { cause: error });
  }
  for (const { id } of context.store.list()) {
    if (pattern.test(id)) await removeOne(context, id, force);
  }
}

async function removeOne(context: OciContext, id: string, force: boolean): Promise<void> {
  try {
    await deleteContainer(context, context.store.load(id), force);
  } catch (error) {
    if (!force || !hasCode(error, 'not_found')) throw error;
    // What a crash left before there was a state.
    context.store.remove(id);
  }
}

export const pause: OciCommand = {
  name: 'pause',
  summary: 'pause suspends all processes inside the container',
  words: '<container-id>',
  flags: [],
  least: 1,
  most: 1,
  run: async (context, args) => {
    const container = context.store.load(firstWord(args));
    checkRunning(container);
    await container.cgroups.freeze(true);
    return 0;
  },
};

export const resume: OciCommand = {
  name: 'resume',
  summary: 'resumes all processes that have been previously paused',
  words: '<container-id>',
  flags: [],
  least: 1,
  most: 1,
  run: async (context, args) => {
    const container = context.store.load(firstWord(args));
    if (container.status !== 'paused') throw new SwarmError('conflict', 'container not paused');
    await container.cgroups.freeze(false);
    return 0;
  },
};
