/** info, version, events: the host, and what changes. */
import { formatBytes } from '../base/bytes.ts';
import { parseDuration } from '../base/duration.ts';
import { SwarmError } from '../base/errors.ts';
import { VERSION } from '../base/version.ts';
import { filtersText, jsonLines } from './client.ts';
import { addCommand, type Command, collect } from './command.ts';
import { type Context, parseFilters, type Run } from './context.ts';
import type { InfoJson } from './docker.ts';
import { pairsText, prettyText } from './output/list.ts';
import { compileTemplate } from './output/template.ts';

interface FormatFlags {
  readonly format?: string;
  readonly json?: boolean;
}

function printOne(context: Context, value: object, flags: FormatFlags, text: () => string): void {
  if (flags.json === true || flags.format === 'json') {
    context.out.write(`${JSON.stringify(value, undefined, 2)}\n`);
  } else if (flags.format !== undefined) {
    context.out.write(`${compileTemplate(flags.format)(value)}\n`);
  } else {
    context.out.write(text());
  }
}

export function registerInfo(program: Command, run: Run): void {
  addCommand(program, 'info', 'this host and its place in the swarm')
    .option('-f, --format <template>', 'a Go template, or "json"')
    .option('--json', 'the API’s object')
    .action((flags: FormatFlags) =>
      run(async (context) => {
        const info = await context.client.get<InfoJson>('/info');
        printOne(context, info, flags, () => infoText(info));
        for (const warning of info.Warnings ?? []) context.err.write(`warning: ${warning}\n`);
      }),
    );
}

/** 'name=seccomp,profile=builtin' -> 'seccomp (builtin)'. */
function securityText(option: string): string {
  const [name, ...more] = option.split(',').map((word) => word.slice(word.indexOf('=') + 1));
  return more.length === 0 ? name : `${name} (${more.join(', ')})`;
}

function infoText(info: InfoJson): string {
  const { Swarm } = info;
  const managers = (Swarm.RemoteManagers ?? []).map((item) => item.Addr).join(', ');
  return prettyText([
    ['Host', info.Name],
    ['Daemon version', info.ServerVersion],
    ['Containers', `${info.ContainersRunning} running, ${info.ContainersStopped} stopped`],
    ['Images', info.Images],
    ['Swarm', Swarm.LocalNodeState],
    ['Swarm error', Swarm.Error],
    ['Node id', Swarm.NodeID],
    ['Node address', Swarm.NodeAddr],
    ['Is manager', Swarm.LocalNodeState === 'active' ? String(Swarm.ControlAvailable) : ''],
    ['Cluster id', Swarm.Cluster?.ID],
    ['Managers', Swarm.Managers],
    ['Nodes', Swarm.Nodes],
    ['Manager addresses', managers],
    ['Kernel', info.KernelVersion],
    ['Operating system', info.OperatingSystem],
    ['Architecture', info.Architecture],
    ['Cgroup version', info.CgroupVersion],
    ['CPUs', info.NCPU],
    ['Memory', formatBytes(info.MemTotal)],
    ['Data root', info.DockerRootDir],
    ['Security', info.SecurityOptions.map(securityText).join(', ')],
  ]);
}

export function registerVersion(program: Command, run: Run): void {
  addCommand(program, 'version', 'versions of the command and the daemon')
    .option('-f, --format <template>', 'a Go template, or "json"')
    .option('--json', 'as JSON')
    .action((flags: FormatFlags) =>
      run(async (context) => {
        const client = { Version: VERSION, Node: process.version };
        if (flags.format === undefined && flags.json !== true) {
          const lines = [
            ['Command', VERSION],
            ['Node.js', process.version],
          ] as const;
          context.out.write(prettyText(lines));
        }
        const server = await context.client.get<Record<string, string>>('/version');
        printOne(context, { Client: client, Server: server }, flags, () =>
          prettyText([
            ['Daemon', server.Version],
            ['API', `${server.ApiVersion} (from ${server.MinAPIVersion})`],
            ['Kernel', server.KernelVersion],
          ]),
        );
      }),
    );
}

interface EventJson {
  readonly Type: string;
  readonly Action: string;
  readonly Actor: { readonly ID: string; readonly Attributes: Readonly<Record<string, string>> };
  readonly timeNano: number;
}

interface EventFlags extends FormatFlags {
  readonly since?: string;
  readonly until?: string;
  readonly filter?: string[];
}

export function registerEvents(program: Command, run: Run): void {
  addCommand(program, 'events', 'what changes, one line an event')
    .option('--since <time>', 'from this time on: RFC 3339, Unix seconds, or 10m ago as "10m"')
    .option('--until <time>', 'up to this time')
    .option(
      '-f, --filter <key=value>',
      'type, event, scope, service, node, network, label',
      collect,
    )
    .option('--format <template>', 'a Go template, or "json"')
    .option('--json', 'one JSON object a line')
    .action((flags: EventFlags) => run((context) => events(context, flags)));
}

async function events(context: Context, flags: EventFlags): Promise<void> {
  const nowMs = context.clock.wallMs();
  const stream = await context.client.stream('GET', '/events', {
    query: {
      since: timeText(flags.since, nowMs, '--since'),
      until: timeText(flags.until, nowMs, '--until'),
      filters: filtersText(parseFilters(flags.filter)),
    },
    signal: context.signal,
  });
  const asJson = flags.json === true || flags.format === 'json';
  const render = flags.format === undefined || asJson ? undefined : compileTemplate(flags.format);
  for await (const event of jsonLines<EventJson>(stream)) {
    if (asJson) context.out.write(`${JSON.stringify(event)}\n`);
    else context.out.write(`${render === undefined ? eventText(event) : render(event)}\n`);
  }
}

function eventText(event: EventJson): string {
  const time = new Date(event.timeNano / 1_000_000).toISOString();
  const attributes = pairsText(event.Actor.Attributes, ', ');
  return `${time} ${event.Type} ${event.Action} ${event.Actor.ID} (${attributes})`;
}

/** '10m' -> Unix seconds ten minutes ago; other times go to the daemon as they are. */
export function timeText(
  text: string | undefined,
  nowMs: number,
  flag: string,
): string | undefined {
  if (text === undefined) return undefined;
  if (/^\d+(\.\d+)?[a-zµ]/.test(text)) return String((nowMs - parseDuration(text)) / 1000);
  if (!/^\d+(\.\d+)?$/.test(text) && Number.isNaN(Date.parse(text))) {
    const how = 'write how long ago (10m, 1h30m), Unix seconds, or RFC 3339';
    throw new SwarmError('invalid', `${flag}: "${text}" is no time: ${how}`);
  }
  return text;
}
