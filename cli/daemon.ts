/** daemon: runs the daemon in this process. Its code is loaded only here. */
import { SwarmError } from '../base/errors.ts';
import { DEFAULT_HOST } from './client.ts';
import { addCommand, type Command, collect, Option } from './command.ts';

export interface DaemonFlags {
  readonly dataRoot: string;
  readonly execRoot: string;
  readonly host?: string;
  readonly logLevel: string;
  readonly cgroupParent: string;
  readonly insecureRegistry?: string[];
  readonly group: string;
  readonly label?: string[];
}

export function registerDaemon(program: Command): void {
  addCommand(program, 'daemon', 'run the daemon of this host')
    .option('--data-root <directory>', 'where state is kept', '/var/lib/tsswarm')
    .option('--exec-root <directory>', 'sockets and what ends with a boot', '/run/tsswarm')
    .option('-H, --host <address>', `socket to serve on (default: ${DEFAULT_HOST})`)
    .option('-G, --group <name>', 'group that may use the socket', 'tsswarm')
    .addOption(
      new Option('-l, --log-level <level>', 'how much is logged')
        .choices(['debug', 'info', 'warn', 'error'])
        .default('info'),
    )
    .option('--cgroup-parent <path>', 'cgroup that containers live under', '/tsswarm')
    .option('--insecure-registry <host>', 'registry without TLS; may be repeated', collect)
    .option('--label <key=value>', 'engine label of this host; may be repeated', collect)
    .action(async (flags: DaemonFlags) => {
      const host = flags.host ?? program.opts<{ host?: string }>().host ?? DEFAULT_HOST;
      if (!host.startsWith('unix:///')) {
        throw new SwarmError('unsupported', `cannot serve on "${host}": use unix:///path`);
      }
      const { runDaemon } = await import('../daemon/main.ts');
      await runDaemon({
        dataRoot: flags.dataRoot,
        execRoot: flags.execRoot,
        socketPath: host.slice('unix://'.length),
        socketGroup: flags.group,
        logLevel: flags.logLevel,
        cgroupParent: flags.cgroupParent,
        insecureRegistries: flags.insecureRegistry ?? [],
        labels: flags.label ?? [],
      });
    });
}
