/** daemon: runs the daemon in this process. Its code is loaded only here. */
import { SwarmError } from '../base/errors.ts';
import { DEFAULT_HOST } from './client.ts';
import { addCommand, type Command, collect, Option, whole } from './command.ts';

export interface DaemonFlags {
  readonly dataRoot: string;
  readonly execRoot: string;
  readonly host?: string;
  readonly logLevel: string;
  readonly cgroupParent: string;
  readonly configFile?: string;
  readonly insecureRegistry?: string[];
  readonly registryMirror?: string[];
  readonly maxConcurrentDownloads: number;
  readonly maxConcurrentUploads: number;
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
    .option('--config-file <file>', 'settings as JSON (default: /etc/tsswarm/daemon.json)')
    .option(
      '--insecure-registry <host>',
      'registry (host:port or range) without TLS or trusted certificate; may be repeated',
      collect,
    )
    .option('--registry-mirror <url>', 'asked before Docker Hub; may be repeated', collect)
    .option('--max-concurrent-downloads <count>', 'layers of a pull at once', whole, 3)
    .option('--max-concurrent-uploads <count>', 'layers of a push at once', whole, 5)
    .option('--label <key=value>', 'engine label of this host; may be repeated', collect)
    .action(async (given: DaemonFlags, command: Command) => {
      const { readConfigFile } = await import('../daemon/configFile.ts');
      const isGiven = (flag: string): boolean =>
        command.getOptionValueSource(flag) === 'cli' ||
        (flag === 'host' && program.getOptionValueSource('host') === 'cli');
      const { host: hosts, ...settings } = readConfigFile(given.configFile, isGiven);
      const flags: DaemonFlags = { ...given, ...settings, ...oneHost(hosts) };
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
        registryMirrors: flags.registryMirror ?? [],
        parallelDownloads: flags.maxConcurrentDownloads,
        parallelUploads: flags.maxConcurrentUploads,
        labels: flags.label ?? [],
      });
    });
}

/** The file's `hosts`: one, as there is one socket. */
function oneHost(hosts: unknown): { host?: string } {
  if (hosts === undefined) return {};
  const [host, ...more] = hosts as readonly string[];
  if (host !== undefined && more.length === 0) return { host };
  throw new SwarmError('unsupported', 'hosts in the configuration file must name one socket');
}
