/** daemon: runs the daemon in this process. Its code is loaded only here. */
import { DEFAULT_HOST } from './client.ts';
import { addCommand, type Command, collect, Option, truth, whole } from './command.ts';
import { DEFAULT_DATA_ROOT, readConfigFile } from './configFile.ts';

export interface DaemonFlags {
  readonly dataRoot: string;
  readonly execRoot: string;
  readonly host?: string[];
  readonly logLevel: string;
  readonly metricsAddr?: string;
  readonly cgroupParent: string;
  readonly configFile?: string;
  readonly insecureRegistry?: string[];
  readonly registryMirror?: string[];
  readonly maxConcurrentDownloads: number;
  readonly maxConcurrentUploads: number;
  readonly usernsRemap: string;
  readonly imageGcSize: string;
  readonly imageGcAge: string;
  readonly group: string;
  readonly label?: string[];
  readonly nodeGenericResource?: string[];
  readonly advertiseAddr?: string;
  readonly tls?: boolean;
  readonly tlsverify?: boolean;
  readonly tlscacert?: string;
  readonly tlscert?: string;
  readonly tlskey?: string;
}

function booleanOption(flags: string, description: string): Option {
  return new Option(flags, description).preset('true').argParser(truth);
}

export function registerDaemon(program: Command): void {
  addCommand(program, 'daemon', 'run the daemon of this host')
    .option('--data-root <directory>', 'where state is kept', DEFAULT_DATA_ROOT)
    .option('--exec-root <directory>', 'sockets and what ends with a boot', '/run/tsswarm')
    .addOption(
      new Option(
        '-H, --host <address>',
        `unix:///path or tcp://address:port; may be repeated (default: ${DEFAULT_HOST})`,
      ).argParser(collect),
    )
    .addOption(booleanOption('--tls [flag]', 'false: TCP on loopback in the clear'))
    .addOption(booleanOption('--tlsverify [flag]', 'TCP for clients with a certificate'))
    .option('--tlscacert <file>', 'CA that issued the certificates of clients')
    .option('--tlscert <file>', 'certificate to show to clients')
    .option('--tlskey <file>', 'its key')
    .option('--metrics-addr <address:port>', 'where Prometheus reads figures over TCP')
    .option('-G, --group <name>', 'group that may use the socket', 'tsswarm')
    .addOption(
      new Option('-l, --log-level <level>', 'how much is logged')
        .choices(['debug', 'info', 'warn', 'error'])
        .default('info'),
    )
    .option('--advertise-addr <address>', 'address other hosts reach this one at, if it changed')
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
    .option('--userns-remap <user>', 'user[:group] whose ids containers have, or default', '')
    .option('--image-gc-size <bytes>', 'remove unused images when all take more, e.g. 20GB', '')
    .option('--image-gc-age <duration>', 'remove images that were unused for so long', '')
    .option(
      '--node-generic-resource <kind=value>',
      'what this host offers besides, e.g. gpu=2 or gpu=UUID-1; may be repeated',
      collect,
    )
    .option('--label <key=value>', 'engine label of this host; may be repeated', collect)
    .action(async (given: DaemonFlags, command: Command) => {
      const isGiven = (flag: string): boolean =>
        command.getOptionValueSource(flag) === 'cli' ||
        (flag === 'host' && program.getOptionValueSource('host') === 'cli');
      const flags: DaemonFlags = { ...given, ...readConfigFile(given.configFile, isGiven) };
      const hosts = flags.host ?? [program.opts<{ host?: string }>().host ?? DEFAULT_HOST];
      const { runDaemon } = await import('../daemon/main.ts');
      await runDaemon({
        dataRoot: flags.dataRoot,
        execRoot: flags.execRoot,
        hosts,
        tls: {
          tls: flags.tls,
          verify: flags.tlsverify,
          caFile: flags.tlscacert,
          certificateFile: flags.tlscert,
          keyFile: flags.tlskey,
        },
        metricsAddress: flags.metricsAddr ?? '',
        socketGroup: flags.group,
        logLevel: flags.logLevel,
        cgroupParent: flags.cgroupParent,
        insecureRegistries: flags.insecureRegistry ?? [],
        registryMirrors: flags.registryMirror ?? [],
        parallelDownloads: flags.maxConcurrentDownloads,
        parallelUploads: flags.maxConcurrentUploads,
        usernsRemap: flags.usernsRemap,
        imageGcSize: flags.imageGcSize,
        imageGcAge: flags.imageGcAge,
        labels: flags.label ?? [],
        advertiseAddress: flags.advertiseAddr ?? '',
        genericResources: flags.nodeGenericResource ?? [],
      });
    });
}
