/** exec: a further program in a container. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { SwarmError } from '../../../base/errors.ts';
import type { CgroupGroup } from '../../sys/cgroup.ts';
import { setSubreaper } from '../../sys/process.ts';
import type { Arguments } from '../arguments.ts';
import { firstWord, type OciCommand } from '../command.ts';
import type { OciProcess } from '../config.ts';
import { readJson, readProcess } from '../configRead.ts';
import { relayTerminal } from '../console.ts';
import type { OciContext } from '../context.ts';
import { stateOf, systemdDescriptors, withConsole, writePidFile } from '../create.ts';
import { Fields } from '../fields.ts';
import { buildExecLaunch } from '../launch.ts';
import { launch, preservedDescriptors } from '../launcher.ts';
import { waitForChild } from '../lifecycle.ts';
import type { StoredContainer } from '../store.ts';

/** As other runtimes: below, it is the program's own. */
const EXIT_FAILED = 255;

export const exec: OciCommand = {
  name: 'exec',
  summary: 'execute new process inside the container',
  words: '<container-id> <command> [command options]  || -p process.json <container-id>',
  flags: [
    {
      name: 'console-socket',
      value: true,
      help: "path to an AF_UNIX socket which will receive the console's master end",
    },
    { name: 'cwd', value: true, help: 'current working directory in the container' },
    { name: 'env', short: 'e', value: true, multiple: true, help: 'set environment variables' },
    { name: 'tty', short: 't', help: 'allocate a pseudo-TTY' },
    { name: 'user', short: 'u', value: true, help: 'UID (format: <uid>[:<gid>])' },
    {
      name: 'additional-gids',
      short: 'g',
      value: true,
      multiple: true,
      help: 'additional gids',
    },
    { name: 'process', short: 'p', value: true, help: 'path to the process.json' },
    { name: 'detach', short: 'd', help: "detach from the container's process" },
    { name: 'pid-file', value: true, help: 'specify the file to write the process id to' },
    { name: 'process-label', value: true, help: 'set the SELinux label of the process' },
    { name: 'apparmor', value: true, help: 'set the apparmor profile for the process' },
    { name: 'no-new-privs', help: 'set the no new privileges value for the process' },
    {
      name: 'cap',
      short: 'c',
      value: true,
      multiple: true,
      help: 'add a capability to the bounding set for the process',
    },
    {
      name: 'preserve-fds',
      value: true,
      help: 'Pass N additional file descriptors to the container',
      byDefault: '0',
    },
    {
      name: 'cgroup',
      value: true,
      multiple: true,
      help: 'run the process in an (existing) sub-cgroup(s). Format is [<controller>:]<cgroup>.',
    },
    { name: 'ignore-paused', help: 'allow exec in a paused container' },
  ],
  stopsEarly: true,
  least: 1,
  most: Number.POSITIVE_INFINITY,
  failure: EXIT_FAILED,
  run: async (context, args) => {
    const container = context.store.load(firstWord(args));
    const { status } = container;
    if (status === 'stopped' || status === 'creating') {
      throw new SwarmError('conflict', 'cannot exec in a stopped container');
    }
    if (status === 'paused' && !args.flag('ignore-paused')) {
      throw new SwarmError(
        'conflict',
        'cannot exec in a paused container (use --ignore-paused to override)',
      );
    }
    return await runProgram(context, container, programOf(container, args), args);
  },
};

async function runProgram(
  context: OciContext,
  container: StoredContainer,
  program: OciProcess,
  args: Arguments,
): Promise<number> {
  const socket = args.text('console-socket');
  const isDetached = args.flag('detach');
  if (isDetached && program.terminal && socket === undefined) {
    throw new SwarmError('invalid', 'a detached terminal has nowhere to go: use --console-socket');
  }
  if (!isDetached) setSubreaper(true);
  const extra = systemdDescriptors();
  const preserved = preservedDescriptors(args.count('preserve-fds') + extra);
  const { id, config, kept, pid } = container;
  const { bytes, notes } = buildExecLaunch(config, program, {
    id,
    pid,
    startTicks: BigInt(kept.startTicks),
    groups: groupsFor(container, args.texts('cgroup')),
    hasConsole: program.terminal,
    preserveFds: preserved.length,
    hookState: stateOf(config, id, kept.bundle),
  });
  for (const note of notes) context.log.warn(note);
  const { launched, master } = await withConsole(
    program.terminal,
    socket,
    async (consoleFd) => await launch({ kind: 'exec', id, bytes, preserved, consoleFd }),
  );
  const pidFile = args.text('pid-file');
  try {
    if (pidFile !== undefined) writePidFile(pidFile, launched.pid);
  } catch (error) {
    process.kill(launched.pid, 'SIGKILL');
    throw error;
  }
  if (isDetached) return 0;
  const relay = master === undefined ? undefined : relayTerminal(master);
  return await waitForChild(context, launched.pid, relay);
}

/** From the file, or the container's own program with what the flags say. */
function programOf(container: StoredContainer, args: Arguments): OciProcess {
  const file = args.text('process');
  if (file !== undefined) return readProcess(new Fields(readJson(file), 'process'));
  const own = container.config.process;
  if (own === undefined) throw new SwarmError('corrupt', 'the container has no process');
  const words = args.words.slice(1);
  if (words.length === 0) throw new SwarmError('invalid', 'process args cannot be empty');
  const [uid, gid] = userOf(args.text('user'));
  const capabilities = args.texts('cap');
  const sets = own.capabilities ?? {
    bounding: [],
    effective: [],
    permitted: [],
    inheritable: [],
    ambient: [],
  };
  return {
    ...own,
    args: words,
    terminal: args.flag('tty'),
    cwd: args.text('cwd') ?? own.cwd,
    env: [...own.env, ...args.texts('env')],
    user: {
      ...own.user,
      uid: uid ?? own.user.uid,
      gid: gid ?? own.user.gid,
      additionalGids: [...own.user.additionalGids, ...args.texts('additional-gids').map(gidOf)],
    },
    noNewPrivileges: args.flag('no-new-privs') || own.noNewPrivileges,
    apparmorProfile: args.text('apparmor') ?? own.apparmorProfile,
    selinuxLabel: args.text('process-label') ?? own.selinuxLabel,
    ...(capabilities.length > 0 && {
      capabilities: {
        ...sets,
        bounding: [...sets.bounding, ...capabilities],
        effective: [...sets.effective, ...capabilities],
        permitted: [...sets.permitted, ...capabilities],
      },
    }),
  };
}

function gidOf(text: string): number {
  if (/^\d+$/.test(text)) return Number(text);
  throw new SwarmError('invalid', `parsing "${text}" as a group id: it is no number`);
}

function userOf(text: string | undefined): readonly (number | undefined)[] {
  if (text === undefined) return [];
  const match = /^(\d+)(?::(\d+))?$/.exec(text);
  if (match === null) {
    throw new SwarmError('invalid', `--user: "${text}" is not <uid>[:<gid>] in numbers`);
  }
  return [Number(match[1]), match[2] === undefined ? undefined : Number(match[2])];
}

/** The container's groups, or what exists below them. */
function groupsFor(container: StoredContainer, wanted: readonly string[]): readonly CgroupGroup[] {
  const below = new Map<string, string>();
  let everywhere = '';
  for (const text of wanted) {
    const colon = text.indexOf(':');
    const path = text.slice(colon + 1).replace(/^\/+/, '');
    if (path.split('/').includes('..')) {
      throw new SwarmError('invalid', `bad cgroup path: ${path} is not a sub cgroup path`);
    }
    if (colon < 0) everywhere = path;
    else for (const controller of text.slice(0, colon).split(',')) below.set(controller, path);
  }
  const known = new Set(container.cgroups.hierarchies.flatMap(({ controllers }) => controllers));
  for (const controller of below.keys()) {
    if (!known.has(controller)) {
      throw new SwarmError('invalid', `unknown controller ${controller} specified in --cgroup`);
    }
  }
  return container.cgroups.dirs().map(({ hierarchy, dir }): CgroupGroup => {
    const own = hierarchy.controllers.map((name) => below.get(name)).find((path) => path);
    const full = join(dir, own ?? everywhere);
    // The v2 mount of a hybrid host has no controllers that a sub-group would be made for.
    const isSide = hierarchy.version === 2 && hierarchy.controllers.length === 0;
    if (!existsSync(full) && !isSide) {
      throw new SwarmError(
        'not_found',
        `error adding pid to cgroups: failed to write to ${join(full, 'cgroup.procs')}: open ` +
          `${join(full, 'cgroup.procs')}: no such file or directory`,
      );
    }
    return {
      version: hierarchy.version,
      dir: existsSync(full) ? full : dir,
      memory: false,
      freezer: false,
      writes: [],
    };
  });
}
