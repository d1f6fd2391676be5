/** init, join, join-token, leave: a host's way into a swarm and out of it. */
import { msToNanoseconds, parseDuration } from '../base/duration.ts';
import { SwarmError } from '../base/errors.ts';
import { addCommand, type Command, collect, whole } from './command.ts';
import type { Context, Run } from './context.ts';
import type { InfoJson, SwarmJson } from './docker.ts';
import { confirmForce, type ExaminedJson, forceText } from './forceNew.ts';
import { externalCas, printUnlockKey } from './swarmSettings.ts';

interface InitFlags {
  readonly advertiseAddr?: string;
  readonly listenAddr: string;
  readonly availability: string;
  readonly defaultAddrPool?: string[];
  readonly defaultAddrPoolMaskLength?: number;
  readonly dataPathPort?: number;
  readonly forceNewCluster?: boolean;
  readonly force?: boolean;
  readonly taskHistoryLimit?: number;
  readonly certExpiry?: string;
  readonly dispatcherHeartbeat?: string;
  readonly snapshotInterval?: number;
  readonly autolock?: boolean;
  readonly dataPathAddr?: string;
  readonly externalCa?: string[];
  readonly maxSnapshots?: number;
}

const LISTEN = '0.0.0.0:2377';

export function registerInit(program: Command, run: Run): void {
  addCommand(program, 'init', 'start a swarm with this host as its first manager')
    .option('--advertise-addr <address>', 'address other hosts reach this one at, or its interface')
    .option('--listen-addr <address>', 'address to listen on', LISTEN)
    .option('--availability <word>', 'active, pause or drain', 'active')
    .option('--default-addr-pool <cidr>', 'pool for networks; may be repeated', collect)
    .option('--default-addr-pool-mask-length <bits>', 'size of each network', whole)
    .option('--data-path-port <port>', 'UDP port between hosts', whole)
    .option('--autolock', 'a restarted manager wants an unlock key')
    .option('--data-path-addr <address>', 'address or interface for traffic between containers')
    .option('--external-ca <options>', 'who signs certificates instead', collect)
    .option('--max-snapshots <count>', 'snapshots kept besides the newest', whole)
    .option('--force-new-cluster', 'go on with this manager alone, the others being lost for good')
    .option('-f, --force', 'with --force-new-cluster: do not ask')
    .option('--task-history-limit <count>', 'ended tasks kept per slot', whole)
    .option('--cert-expiry <duration>', 'how long certificates of hosts last')
    .option('--dispatcher-heartbeat <duration>', 'how often hosts report')
    .option('--snapshot-interval <entries>', 'log entries between snapshots', whole)
    .action((flags: InitFlags) =>
      run((context) =>
        flags.forceNewCluster === true ? goOnAlone(context, flags) : init(context, flags),
      ),
    );
}

/** Says first what is kept and discarded, and asks. */
async function goOnAlone(context: Context, flags: InitFlags): Promise<void> {
  const state = await context.client.get<ExaminedJson>('/tsswarm/recovery');
  context.err.write(forceText(state));
  await confirmForce(context, state, flags.force === true);
  const nodeId = await context.client.post<string>('/swarm/init', {
    AdvertiseAddr: flags.advertiseAddr ?? '',
    ForceNewCluster: true,
  });
  context.out.write(`The swarm goes on with this host (${nodeId}) as its only manager.\n`);
  context.out.write('To add another manager, run: tsswarm join-token manager\n');
}

async function init(context: Context, flags: InitFlags): Promise<void> {
  const nanoseconds = (text: string | undefined): number | undefined =>
    text === undefined ? undefined : msToNanoseconds(parseDuration(text));
  const nodeId = await context.client.post<string>('/swarm/init', {
    ListenAddr: flags.listenAddr,
    AdvertiseAddr: flags.advertiseAddr ?? '',
    DataPathAddr: flags.dataPathAddr,
    DataPathPort: flags.dataPathPort,
    DefaultAddrPool: flags.defaultAddrPool,
    SubnetSize: flags.defaultAddrPoolMaskLength,
    Availability: flags.availability,
    Spec: {
      Orchestration: { TaskHistoryRetentionLimit: flags.taskHistoryLimit },
      Raft: { SnapshotInterval: flags.snapshotInterval, KeepOldSnapshots: flags.maxSnapshots },
      Dispatcher: { HeartbeatPeriod: nanoseconds(flags.dispatcherHeartbeat) },
      CAConfig: {
        NodeCertExpiry: nanoseconds(flags.certExpiry),
        ...(flags.externalCa === undefined ? {} : { ExternalCAs: externalCas(flags.externalCa) }),
      },
      ...(flags.autolock === true ? { EncryptionConfig: { AutoLockManagers: true } } : {}),
    },
  });
  context.out.write(`Swarm initialized: this host (${nodeId}) is now a manager.\n\n`);
  if (flags.advertiseAddr?.startsWith('127.') === true) {
    context.out.write('It advertises an address of its own loopback: no other host can join.\n');
    return;
  }
  const swarm = await context.client.get<SwarmJson>('/swarm');
  await printJoin(context, 'worker', swarm.JoinTokens.Worker);
  context.out.write('To add another manager, run: tsswarm join-token manager\n');
  if (flags.autolock === true) await printUnlockKey(context);
}

/** The line to run on another host. */
async function printJoin(context: Context, role: string, token: string): Promise<void> {
  const info = await context.client.get<InfoJson>('/info');
  const own = info.Swarm.RemoteManagers?.find((item) => item.NodeID === info.Swarm.NodeID);
  const address = own?.Addr ?? `${info.Swarm.NodeAddr}:2377`;
  context.out.write(`To add a ${role} to this swarm, run this on it:\n\n`);
  context.out.write(`    tsswarm join --token ${token} ${address}\n\n`);
}

interface JoinFlags {
  readonly token?: string;
  readonly advertiseAddr?: string;
  readonly listenAddr: string;
  readonly availability: string;
  readonly dataPathAddr?: string;
}

export function registerJoin(program: Command, run: Run): void {
  addCommand(program, 'join <manager...>', 'make this host part of a swarm; HOST:PORT of a manager')
    .option('--token <token>', 'what "tsswarm join-token" shows on a manager')
    .option('--advertise-addr <address>', 'address other hosts reach this one at, or its interface')
    .option('--listen-addr <address>', 'address to listen on', LISTEN)
    .option('--availability <word>', 'active, pause or drain', 'active')
    .option('--data-path-addr <address>', 'address or interface for traffic between containers')
    .action((managers: string[], flags: JoinFlags) =>
      run(async (context) => {
        if (flags.token === undefined) {
          throw new SwarmError(
            'invalid',
            '--token is missing: "tsswarm join-token worker" on a manager shows it',
          );
        }
        await context.client.post('/swarm/join', {
          ListenAddr: flags.listenAddr,
          AdvertiseAddr: flags.advertiseAddr ?? '',
          RemoteAddrs: managers,
          DataPathAddr: flags.dataPathAddr,
          JoinToken: flags.token,
          Availability: flags.availability,
        });
        const info = await context.client.get<InfoJson>('/info');
        const role = info.Swarm.ControlAvailable ? 'manager' : 'worker';
        context.out.write(`This host joined a swarm as a ${role}.\n`);
      }),
    );
}

interface TokenFlags {
  readonly rotate?: boolean;
  readonly quiet?: boolean;
}

export function registerJoinToken(program: Command, run: Run): void {
  addCommand(program, 'join-token <role>', 'what a worker or a manager joins with')
    .option('--rotate', 'make a new token; the old one no longer works')
    .option('-q, --quiet', 'only the token')
    .action((role: string, flags: TokenFlags) =>
      run(async (context) => {
        if (role !== 'worker' && role !== 'manager') {
          throw new SwarmError('invalid', `unknown role "${role}": use worker or manager`);
        }
        let swarm = await context.client.get<SwarmJson>('/swarm');
        if (flags.rotate === true) {
          await context.client.post('/swarm/update', swarm.Spec, {
            version: swarm.Version.Index,
            rotateWorkerToken: role === 'worker',
            rotateManagerToken: role === 'manager',
          });
          swarm = await context.client.get<SwarmJson>('/swarm');
          if (flags.quiet !== true) {
            context.out.write(`The ${role} token was renewed; the old one no longer works.\n\n`);
          }
        }
        const token = role === 'worker' ? swarm.JoinTokens.Worker : swarm.JoinTokens.Manager;
        if (flags.quiet === true) context.out.write(`${token}\n`);
        else await printJoin(context, role, token);
      }),
    );
}

export function registerLeave(program: Command, run: Run): void {
  addCommand(program, 'leave', 'take this host out of the swarm')
    .option('-f, --force', 'even if it is a manager or the last one')
    .action((flags: { force?: boolean }) =>
      run(async (context) => {
        await context.client.post('/swarm/leave', undefined, { force: flags.force === true });
        context.out.write('This host left the swarm.\n');
      }),
    );
}
