/**
 * container and its short forms at the top (run, ps, exec, stop, ...). Each command is registered
 * by one function that takes the command above it, so that both forms are the same.
 */
import { createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { SwarmError } from '../../base/errors.ts';
import { filtersText } from '../client.ts';
import { addCommand, type Command, collect, lineCount, refused } from '../command.ts';
import { type Context, forEachName, parseFilters, type Run } from '../context.ts';
import type { InspectFlags } from '../output/list.ts';
import { confirmPrune, printReclaimed } from '../prune.ts';
import { REFUSED } from '../refused.ts';
import { newBody } from './body.ts';
import { type CopyFlags, copy } from './copy.ts';
import { type ExecFlags, exec } from './exec.ts';
import { addCreateFlags, applyCreateFlags } from './flags.ts';
import { registerList } from './list.ts';
import { diff, inspect, type LogFlags, logs, port, type StatsFlags, stats, top } from './look.ts';
import { attach, create, pathOf, type RunFlags, run as runIt, start, waitFor } from './run.ts';

type Registrar = (parent: Command, run: Run) => void;

const registerRun: Registrar = (parent, run) => {
  const command = addCommand(
    parent,
    'run <image> [command] [args...]',
    'make a container and start it',
  ).passThroughOptions();
  addCreateFlags(command);
  command
    .option('-d, --detach', 'in the background')
    .option('--detach-keys <keys>', 'what leaves it running (default: ctrl-p,ctrl-q)')
    .option('-q, --quiet', 'no progress of a pull')
    .option('--sig-proxy', 'pass signals on, which is the default')
    .option('--no-sig-proxy', 'do not pass signals on')
    .action((image: string, word: string | undefined, args: string[], flags: RunFlags) =>
      run((context) => runIt(context, image, word === undefined ? [] : [word, ...args], flags)),
    );
};

const registerCreate: Registrar = (parent, run) => {
  const command = addCommand(
    parent,
    'create <image> [command] [args...]',
    'make a container, not started',
  ).passThroughOptions();
  addCreateFlags(command);
  command
    .option('-q, --quiet', 'no progress of a pull')
    .action((image: string, word: string | undefined, args: string[], flags: RunFlags) =>
      run((context) => create(context, image, word === undefined ? [] : [word, ...args], flags)),
    );
};

const registerStart: Registrar = (parent, run) => {
  const command = addCommand(parent, 'start <container...>', 'start containers')
    .option('-a, --attach', 'be with it while it runs')
    .option('--detach-keys <keys>', 'what leaves it running (default: ctrl-p,ctrl-q)')
    .option('-i, --interactive', 'and give it standard input')
    .action((names: string[], flags: Parameters<typeof start>[2]) =>
      run((context) => start(context, names, flags)),
    );
  refused(command, '--checkpoint <name>', REFUSED.checkpoint);
  refused(command, '--checkpoint-dir <directory>', REFUSED.checkpoint);
};

const registerAttach: Registrar = (parent, run) => {
  addCommand(parent, 'attach <container>', 'be with a container that runs')
    .option('--detach-keys <keys>', 'what leaves it running (default: ctrl-p,ctrl-q)')
    .option('--no-stdin', 'without standard input')
    .option('--sig-proxy', 'pass signals on, which is the default')
    .option('--no-sig-proxy', 'do not pass signals on')
    .action((name: string, flags: Parameters<typeof attach>[2]) =>
      run((context) => attach(context, name, flags)),
    );
};

const registerExec: Registrar = (parent, run) => {
  addCommand(
    parent,
    'exec <target> <command> [args...]',
    'run a program in a container, or in a task or service on any host',
  )
    .passThroughOptions()
    .option('-d, --detach', 'in the background')
    .option('--detach-keys <keys>', 'what leaves it running (default: ctrl-p,ctrl-q)')
    .option('-e, --env <NAME=value>', 'environment variable (repeatable)', collect)
    .option('--env-file <file>', 'environment variables from a file (repeatable)', collect)
    .option('-i, --interactive', 'give it standard input')
    .option('--privileged', 'with all capabilities')
    .option('-t, --tty', 'a terminal instead of pipes')
    .option('-u, --user <user>', 'user[:group] of the program')
    .option('-w, --workdir <directory>', 'working directory')
    .action((name: string, word: string, args: string[], flags: ExecFlags) =>
      run((context) => exec(context, name, [word, ...args], flags)),
    );
};

const registerLogs: Registrar = (parent, run) => {
  addCommand(parent, 'logs <target>', 'what a container (or a task on any host) wrote')
    .option('--details', 'with what the log driver adds')
    .option('-f, --follow', 'and what it writes from now on')
    .option('-n, --tail <lines>', 'only so many last lines', lineCount, 'all')
    .option('--since <time>', 'RFC 3339, Unix seconds, or 10m ago as "10m"')
    .option('-t, --timestamps', 'with the time of each line')
    .option('--until <time>', 'up to this time')
    .action((name: string, flags: LogFlags) => run((context) => logs(context, name, flags)));
};

const registerTop: Registrar = (parent, run) => {
  addCommand(parent, 'top <target> [options...]', 'processes of a container or task')
    .passThroughOptions()
    .allowUnknownOption()
    .action((name: string, args: string[]) => run((context) => top(context, name, args)));
};

const registerStats: Registrar = (parent, run) => {
  addCommand(parent, 'stats [target...]', 'what containers (or tasks) use, as it changes')
    .option('-a, --all', 'also those that do not run')
    .option('--format <template>', 'a Go template, "table ..." or "json"')
    .option('--no-stream', 'once')
    .option('--no-trunc', 'nothing is cut')
    .action((names: string[], flags: StatsFlags) => run((context) => stats(context, names, flags)));
};

const registerCopy: Registrar = (parent, run) => {
  addCommand(parent, 'cp <source> <target>', 'copy files from or to CONTAINER:PATH or TASK:PATH')
    .option('-a, --archive', 'keep owners')
    .option('-L, --follow-link', 'copy what a link in the source leads to')
    .option('-q, --quiet', 'say nothing')
    .action((from: string, to: string, flags: CopyFlags) =>
      run((context) => copy(context, from, to, flags)),
    );
};

const registerInspect: Registrar = (parent, run) => {
  addCommand(parent, 'inspect <target...>', 'details of containers or tasks’ containers')
    .option('-f, --format <template>', 'a Go template')
    .option('--json', 'as JSON, which is the default')
    .option('-s, --size', 'with sizes')
    .action((names: string[], flags: InspectFlags & { size?: boolean }) =>
      run((context) => inspect(context, names, flags)),
    );
};

type Query = Readonly<Record<string, string | number | boolean | undefined>>;

/** A POST to each container named, whose name is then printed. */
function each(context: Context, names: readonly string[], verb: string, query: Query = {}) {
  return forEachName(context, names, async (name) => {
    await context.client.post(`${pathOf(name)}/${verb}`, undefined, query);
    context.out.write(`${name}\n`);
  });
}

interface StopFlags {
  readonly signal?: string;
  readonly timeout?: string;
}

function stopper(verb: 'stop' | 'restart', about: string): Registrar {
  return (parent, run) => {
    addCommand(parent, `${verb} <container...>`, about)
      .option('-s, --signal <signal>', 'what ends it (default: its own stop signal)')
      .option('-t, --timeout <seconds>', 'before it is killed; -1 waits for ever')
      .option('--time <seconds>', 'as --timeout')
      .action((names: string[], flags: StopFlags & { time?: string }) =>
        run((context) => {
          const t = flags.timeout ?? flags.time;
          if (t !== undefined && !/^-?\d+$/.test(t)) {
            throw new SwarmError('invalid', `--timeout: "${t}" is no whole number`);
          }
          return each(context, names, verb, { signal: flags.signal, t });
        }),
      );
  };
}

function simple(verb: string, about: string): Registrar {
  return (parent, run) => {
    addCommand(parent, `${verb} <container...>`, about).action((names: string[]) =>
      run((context) => each(context, names, verb)),
    );
  };
}

const registerKill: Registrar = (parent, run) => {
  addCommand(parent, 'kill <container...>', 'send containers a signal')
    .option('-s, --signal <signal>', 'which', 'KILL')
    .action((names: string[], flags: { signal: string }) =>
      run((context) => each(context, names, 'kill', { signal: flags.signal })),
    );
};

const registerWait: Registrar = (parent, run) => {
  addCommand(
    parent,
    'wait <container...>',
    'wait until containers end; print their exit codes',
  ).action((names: string[]) =>
    run((context) =>
      forEachName(context, names, async (name) => {
        context.out.write(`${await waitFor(context, name, 'not-running')}\n`);
      }),
    ),
  );
};

const registerRemove: Registrar = (parent, run) => {
  addCommand(parent, 'rm <container...>', 'remove containers')
    .option('-f, --force', 'end those that run')
    .option('-l, --link', 'links are not kept here; accepted for docker’s sake')
    .option('-v, --volumes', 'with volumes that have no name')
    .action((names: string[], flags: { force?: boolean; volumes?: boolean }) =>
      run((context) =>
        forEachName(context, names, async (name) => {
          const query = { force: flags.force === true, v: flags.volumes === true };
          await context.client.delete(pathOf(name), query);
          context.out.write(`${name}\n`);
        }),
      ),
    );
};

const registerRename: Registrar = (parent, run) => {
  addCommand(parent, 'rename <container> <name>', 'give a container another name').action(
    (name: string, other: string) =>
      run(async (context) => {
        await context.client.post(`${pathOf(name)}/rename`, undefined, { name: other });
      }),
  );
};

/** Flags of create that a container can be changed by. */
const CHANGEABLE = [
  ...['cpu-period', 'cpu-quota', 'cpu-shares', 'cpus', 'cpuset-cpus', 'cpuset-mems', 'memory'],
  ...['memory-reservation', 'memory-swap', 'pids-limit', 'restart', 'blkio-weight'],
  ...['cpu-rt-period', 'cpu-rt-runtime'],
];

const registerUpdate: Registrar = (parent, run) => {
  const command = addCommand(
    parent,
    'update <container...>',
    'change limits and restart policy of containers',
  );
  addCreateFlags(command, CHANGEABLE);
  command.action((names: string[], flags: Readonly<Record<string, unknown>>) =>
    run(async (context) => {
      const body = newBody('', []);
      applyCreateFlags(body, flags);
      if (Object.keys(body.HostConfig).length === 0) {
        throw new SwarmError('invalid', 'nothing to change was named: see "tsswarm update --help"');
      }
      await forEachName(context, names, async (name) => {
        const { Warnings } = await context.client.post<{ Warnings?: string[] | null }>(
          `${pathOf(name)}/update`,
          body.HostConfig,
        );
        for (const warning of Warnings ?? []) context.err.write(`warning: ${warning}\n`);
        context.out.write(`${name}\n`);
      });
    }),
  );
};

const registerPort: Registrar = (parent, run) => {
  addCommand(parent, 'port <container> [port]', 'where its ports are published').action(
    (name: string, wanted: string | undefined) => run((context) => port(context, name, wanted)),
  );
};

const registerDiff: Registrar = (parent, run) => {
  addCommand(parent, 'diff <target>', 'files that changed since it was made').action(
    (name: string) => run((context) => diff(context, name)),
  );
};

interface CommitFlags {
  readonly author?: string;
  readonly change?: readonly string[];
  readonly message?: string;
  readonly pause: string | boolean;
}

const registerCommit: Registrar = (parent, run) => {
  addCommand(
    parent,
    'commit <container> [reference]',
    'make an image of what a container has written',
  )
    .option('-a, --author <name>', 'who made it')
    .option('-c, --change <line>', 'CMD, ENTRYPOINT, ENV, EXPOSE, USER, WORKDIR, LABEL', collect)
    .option('-m, --message <text>', 'what its history says of it')
    .option('-p, --pause [yes]', 'hold it still meanwhile; --pause=false does not', true)
    .action((name: string, reference: string | undefined, flags: CommitFlags) =>
      run(async (context) => {
        const query = new URLSearchParams({
          container: name,
          repo: reference ?? '',
          author: flags.author ?? '',
          comment: flags.message ?? '',
          pause: String(flags.pause),
        });
        for (const line of flags.change ?? []) query.append('changes', line);
        const made = await context.client.post<{ readonly Id: string }>(`/commit?${query}`);
        context.out.write(`${made.Id}\n`);
      }),
    );
};

const registerExport: Registrar = (parent, run) => {
  addCommand(parent, 'export <container>', 'its root file system as a tar')
    .option('-o, --output <file>', 'where to (default: standard output)')
    .action((name: string, flags: { output?: string }) =>
      run(async (context) => {
        if (flags.output === undefined && context.out.isTty) {
          throw new SwarmError('invalid', 'a tar is not for a terminal: redirect it, or -o FILE');
        }
        const { signal } = context;
        const stream = await context.client.stream('GET', `${pathOf(name)}/export`, { signal });
        const { output } = flags;
        if (output === undefined) await pipeline(stream, process.stdout, { end: false });
        else await pipeline(stream, createWriteStream(output));
      }),
    );
};

const registerPrune: Registrar = (parent, run) => {
  addCommand(parent, 'prune', 'remove containers that do not run')
    .option('-f, --force', 'do not ask')
    .option('--filter <key=value>', 'until, label', collect)
    .action((flags: { force?: boolean; filter?: string[] }) =>
      run(async (context) => {
        const warning = 'This will remove all stopped containers.';
        await confirmPrune(context, warning, flags.force);
        const done = await context.client.post<{
          ContainersDeleted: string[] | null;
          SpaceReclaimed: number;
        }>('/containers/prune', undefined, { filters: filtersText(parseFilters(flags.filter)) });
        printReclaimed(context, 'Deleted Containers', done.ContainersDeleted, done.SpaceReclaimed);
      }),
    );
};

/** Commands that are there both ways: 'container NAME' and 'NAME'. */
export const BOTH: Readonly<Record<string, Registrar>> = {
  run: registerRun,
  create: registerCreate,
  start: registerStart,
  stop: stopper('stop', 'end containers'),
  restart: stopper('restart', 'end containers and start them again'),
  kill: registerKill,
  wait: registerWait,
  rm: registerRemove,
  rename: registerRename,
  exec: registerExec,
  attach: registerAttach,
  logs: registerLogs,
  cp: registerCopy,
  top: registerTop,
  stats: registerStats,
  pause: simple('pause', 'hold containers still'),
  unpause: simple('unpause', 'let containers go on'),
  port: registerPort,
  diff: registerDiff,
  export: registerExport,
  commit: registerCommit,
  update: registerUpdate,
};

export function registerContainer(program: Command, run: Run): void {
  const container = addCommand(program, 'container', 'containers of this host');
  for (const registrar of Object.values(BOTH)) registrar(container, run);
  registerList(container, run, 'ls');
  registerInspect(container, run);
  registerPrune(container, run);
}

export function registerPs(program: Command, run: Run): void {
  registerList(program, run, 'ps');
}
