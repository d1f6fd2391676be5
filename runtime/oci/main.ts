#!/usr/bin/env node
/**
 * The tsswarm-oci command: the command line of an OCI runtime, over the launcher that all of
 * tsswarm's containers are started with. Errors end as one log line, as engines above expect it.
 */
import { existsSync } from 'node:fs';
import { SystemClock } from '../../base/clock.ts';
import { messageOf, SwarmError } from '../../base/errors.ts';
import { VERSION } from '../../base/version.ts';
import { type Arguments, type Flag, optionLines, readArguments } from './arguments.ts';
import type { OciCommand } from './command.ts';
import { OciLog } from './log.ts';
import { SPEC_VERSION } from './versions.ts';

/** Only what is asked for is loaded: a command is started for each step of a container's life. */
const COMMANDS: Readonly<Record<string, () => Promise<OciCommand>>> = {
  checkpoint: async () => (await import('./commands/describe.ts')).checkpoint,
  create: async () => (await import('./commands/create.ts')).create,
  delete: async () => (await import('./commands/control.ts')).remove,
  events: async () => (await import('./commands/events.ts')).events,
  exec: async () => (await import('./commands/exec.ts')).exec,
  kill: async () => (await import('./commands/control.ts')).kill,
  list: async () => (await import('./commands/look.ts')).list,
  pause: async () => (await import('./commands/control.ts')).pause,
  ps: async () => (await import('./commands/look.ts')).ps,
  restore: async () => (await import('./commands/describe.ts')).restore,
  resume: async () => (await import('./commands/control.ts')).resume,
  run: async () => (await import('./commands/create.ts')).run,
  spec: async () => (await import('./commands/describe.ts')).spec,
  start: async () => (await import('./commands/create.ts')).start,
  state: async () => (await import('./commands/look.ts')).state,
  update: async () => (await import('./commands/update.ts')).update,
  features: async () => (await import('./commands/describe.ts')).features,
};
const DEFAULT_ROOT = '/run/tsswarm-oci';
const EXIT_FAILED = 1;
const EXIT_NO_TOPIC = 3;
const ABOUT = `is a command line client for running applications packaged according to
the Open Container Initiative (OCI) format. Containers are configured using
bundles: a directory with a specification file named "config.json" and a root
filesystem. It runs under Docker, containerd and Podman in the place of runc.`;

const GLOBAL: readonly Flag[] = [
  { name: 'debug', help: 'enable debug logging' },
  {
    name: 'log',
    value: true,
    help: "set the log file to write logs to (default is '/dev/stderr')",
  },
  {
    name: 'log-format',
    value: true,
    help: "set the log format ('text' (default), or 'json')",
    byDefault: '"text"',
  },
  {
    name: 'root',
    value: true,
    help: 'root directory for storage of container state (this should be located in tmpfs)',
    byDefault: `"${DEFAULT_ROOT}"`,
  },
  { name: 'criu', value: true, help: 'not used: there is no checkpoint and restore' },
  { name: 'systemd-cgroup', help: 'cgroups through systemd (not supported)' },
  { name: 'cgroup-manager', value: true, help: 'cgroupfs', hidden: true },
  {
    name: 'rootless',
    value: true,
    help: "'false' or 'auto': containers are made by root",
    byDefault: '"auto"',
  },
  { name: 'version', short: 'v', help: 'print the version' },
];

/** Help and messages go by the name its caller knows it by. */
const NAME = process.env.TSSWARM_OCI_NAME || 'tsswarm-oci';

function say(lines: readonly string[]): void {
  process.stdout.write(`${lines.join('\n')}\n`);
}

async function sayHelp(): Promise<void> {
  const commands = await Promise.all(Object.values(COMMANDS).map((load) => load()));
  const names = commands.map(({ name }) => name);
  const width = Math.max(...names.map((name) => name.length));
  say([
    'NAME:',
    `   ${NAME} - Open Container Initiative runtime`,
    '',
    `${NAME} ${ABOUT}`,
    '',
    'USAGE:',
    `   ${NAME} [global options] command [command options] [arguments...]`,
    '',
    'VERSION:',
    `   ${VERSION}`,
    `spec: ${SPEC_VERSION}`,
    '',
    'COMMANDS:',
    ...commands.map(({ name, summary }) => `   ${name.padEnd(width)}  ${summary}`),
    '',
    'GLOBAL OPTIONS:',
    ...optionLines([...GLOBAL, { name: 'help', short: 'h', help: 'show help' }]),
  ]);
}

function sayCommandHelp(command: OciCommand): void {
  const { name, summary, words, description, flags } = command;
  const options = flags.length === 0 ? '' : ' [command options]';
  say([
    'NAME:',
    `   ${NAME} ${name} - ${summary}`,
    '',
    'USAGE:',
    `   ${NAME} ${name}${options} ${words}`,
    ...(description === undefined ? [] : ['', 'DESCRIPTION:', `   ${description}`]),
    ...(flags.length === 0 ? [] : ['', 'OPTIONS:', ...optionLines(flags)]),
  ]);
}

function sayVersion(): void {
  say([
    `${NAME} version ${VERSION}`,
    `commit: v${VERSION}`,
    `spec: ${SPEC_VERSION}`,
    `node: ${process.version}`,
  ]);
}

/** What is known and cannot be had here. */
function checkGlobal(args: Arguments): void {
  const manager = args.text('cgroup-manager') ?? 'cgroupfs';
  if (args.flag('systemd-cgroup') || manager === 'systemd') {
    const why = existsSync('/run/systemd/system') ? 'not built' : 'systemd does not run here';
    throw new SwarmError('unsupported', `cgroups through systemd are not supported: ${why}`);
  }
  if (args.text('rootless') === 'true') {
    throw new SwarmError('unsupported', '--rootless true is not supported: containers need root');
  }
  const format = args.text('log-format') ?? 'text';
  if (format !== 'text' && format !== 'json') {
    throw new SwarmError('invalid', `invalid log-format: "${format}"`);
  }
}

function checkWords(command: OciCommand, args: Arguments): void {
  const count = args.words.length;
  if (count >= command.least && count <= command.most) return;
  const wanted = command.least === command.most ? 'exactly' : 'at least';
  throw new SwarmError(
    'invalid',
    `"${NAME} ${command.name}" requires ${wanted} ${command.least} argument(s)`,
  );
}

function makeLog(global: Arguments | undefined): OciLog {
  return new OciLog({
    clock: new SystemClock(),
    file: global?.text('log'),
    format: global?.text('log-format') === 'json' ? 'json' : 'text',
    debug: global?.flag('debug') === true,
  });
}

async function main(argv: readonly string[]): Promise<number> {
  let global: Arguments | undefined;
  let command: OciCommand | undefined;
  try {
    global = readArguments(argv, GLOBAL, true);
    if (global.flag('version')) {
      sayVersion();
      return 0;
    }
    const [name, ...rest] = global.words;
    if (name === undefined || name === 'help' || global.flag('help')) {
      await sayHelp();
      return 0;
    }
    command = Object.hasOwn(COMMANDS, name) ? await COMMANDS[name]?.() : undefined;
    if (command === undefined) {
      process.stderr.write(`No help topic for '${name}'\n`);
      return EXIT_NO_TOPIC;
    }
    const args = readArguments(rest, command.flags, command.stopsEarly === true);
    if (args.flag('help')) {
      sayCommandHelp(command);
      return 0;
    }
    checkGlobal(global);
    checkWords(command, args);
    const clock = new SystemClock();
    const { Store } = await import('./store.ts');
    const store = new Store(global.text('root') ?? DEFAULT_ROOT, clock);
    const log = makeLog(global);
    log.debug(`${NAME} ${rest.length > 0 ? `${name} ${rest.join(' ')}` : name}`);
    return await command.run({ name: NAME, clock, log, store }, args);
  } catch (error) {
    const what = command === undefined ? '' : `${NAME} ${command.name} failed: `;
    makeLog(global).fatal(`${what}${messageOf(error)}`);
    return command?.failure ?? EXIT_FAILED;
  }
}

// Not awaited here: the bundle's modules (deploy/ociBundle.ts) are functions.
void main(process.argv.slice(2)).then((code) => process.exit(code));
