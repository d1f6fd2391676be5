/** swarm update, ca, unlock, unlock-key: settings of the swarm, its certificates and its lock. */
import { readFileSync } from 'node:fs';
import { msToNanoseconds, parseDuration } from '../base/duration.ts';
import { SwarmError } from '../base/errors.ts';
import { addCommand, type Command, collect, whole } from './command.ts';
import { type Context, patiently, type Run } from './context.ts';
import type { NodeJson, SwarmJson, SwarmSpecJson } from './docker.ts';
import { readHidden } from './prompt.ts';
import { registerInit, registerJoin, registerJoinToken, registerLeave } from './swarm.ts';

export function registerSwarm(program: Command, run: Run): void {
  const swarm = addCommand(program, 'swarm', 'the swarm as a whole');
  registerInit(swarm, run);
  registerJoin(swarm, run);
  registerJoinToken(swarm, run);
  registerLeave(swarm, run);
  addSettings(addCommand(swarm, 'update', 'change settings of the swarm'))
    .option('--autolock', 'a restarted manager wants the unlock key')
    .option('--no-autolock', 'it does not')
    .option('--max-snapshots <count>', 'snapshots kept besides the newest', whole)
    .option('--snapshot-interval <entries>', 'log entries between snapshots', whole)
    .option('--task-history-limit <count>', 'ended tasks kept per slot', whole)
    .option('--dispatcher-heartbeat <duration>', 'how often hosts report')
    .action((flags: UpdateFlags) => run((context) => update(context, flags)));
  addSettings(addCommand(swarm, 'ca', 'show the root certificate, or renew it'))
    .option('--rotate', 'make a new root; every host gets a new certificate')
    .option('--ca-cert <file>', 'this root certificate (PEM) instead of a new one')
    .option('--ca-key <file>', 'its key (PEM)')
    .option('-d, --detach', 'do not wait until every host has its certificate')
    .option('-q, --quiet', 'no progress')
    .action((flags: CaFlags) => run((context) => ca(context, flags)));
  addCommand(swarm, 'unlock', 'give a locked manager its key').action(() =>
    run(async (context) => {
      const UnlockKey = (await readHidden(context, 'Please enter unlock key: ')).trim();
      if (UnlockKey === '') throw new SwarmError('invalid', 'no key was entered');
      await context.client.post('/swarm/unlock', { UnlockKey });
    }),
  );
  addCommand(swarm, 'unlock-key', 'show or renew what unlocks managers')
    .option('--rotate', 'make a new key; the old one no longer works')
    .option('-q, --quiet', 'only the key')
    .action((flags: { rotate?: boolean; quiet?: boolean }) =>
      run((context) => unlockKey(context, flags.rotate === true, flags.quiet === true)),
    );
}

function addSettings(command: Command): Command {
  return command
    .option('--cert-expiry <duration>', 'how long certificates of hosts last')
    .option('--external-ca <options>', 'who signs certificates instead', collect);
}

interface SettingFlags {
  readonly certExpiry?: string;
  readonly externalCa?: readonly string[];
}

interface UpdateFlags extends SettingFlags {
  readonly autolock?: boolean;
  readonly maxSnapshots?: number;
  readonly snapshotInterval?: number;
  readonly taskHistoryLimit?: number;
  readonly dispatcherHeartbeat?: string;
}

export function nanoseconds(text: string, flag: string): number {
  try {
    return msToNanoseconds(parseDuration(text));
  } catch (error) {
    if (!(error instanceof SwarmError)) throw error;
    throw new SwarmError(error.code, `${flag}: ${error.message}`, { cause: error });
  }
}

/** 'protocol=cfssl,url=https://…,cacert=FILE' as the API has it. */
export function externalCas(texts: readonly string[]): object[] {
  return texts.map((text) => {
    const fields = new Map(
      text.split(',').map((part): [string, string] => {
        const [name, ...value] = part.split('=');
        return [name.trim().toLowerCase(), value.join('=')];
      }),
    );
    const url = fields.get('url');
    if (url === undefined) {
      throw new SwarmError('invalid', `--external-ca "${text}": write protocol=cfssl,url=URL`);
    }
    const file = fields.get('cacert');
    return {
      Protocol: fields.get('protocol') ?? 'cfssl',
      URL: url,
      ...(file === undefined ? {} : { CACert: pem(file, '--external-ca') }),
    };
  });
}

function pem(file: string, flag: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new SwarmError('invalid', `${flag}: ${file} cannot be read`, { cause });
  }
}

function getSwarm(context: Context): Promise<SwarmJson> {
  return patiently(context, () => context.client.get<SwarmJson>('/swarm'));
}

function applySettings(spec: SwarmSpecJson, flags: SettingFlags): void {
  const { certExpiry, externalCa } = flags;
  if (certExpiry !== undefined) {
    const NodeCertExpiry = nanoseconds(certExpiry, '--cert-expiry');
    spec.CAConfig = { ...spec.CAConfig, NodeCertExpiry };
  }
  if (externalCa !== undefined) {
    spec.CAConfig = { ...spec.CAConfig, ExternalCAs: externalCas(externalCa) };
  }
}

async function update(context: Context, flags: UpdateFlags): Promise<void> {
  const { autolock, maxSnapshots, snapshotInterval, taskHistoryLimit } = flags;
  if (Object.keys(flags).length === 0) {
    throw new SwarmError(
      'invalid',
      'nothing to change was named: see "tsswarm swarm update --help"',
    );
  }
  const swarm = await getSwarm(context);
  const spec = swarm.Spec;
  applySettings(spec, flags);
  if (taskHistoryLimit !== undefined) {
    spec.Orchestration = { TaskHistoryRetentionLimit: taskHistoryLimit };
  }
  if (maxSnapshots !== undefined) spec.Raft = { ...spec.Raft, KeepOldSnapshots: maxSnapshots };
  if (snapshotInterval !== undefined) {
    spec.Raft = { ...spec.Raft, SnapshotInterval: snapshotInterval };
  }
  if (flags.dispatcherHeartbeat !== undefined) {
    const period = nanoseconds(flags.dispatcherHeartbeat, '--dispatcher-heartbeat');
    spec.Dispatcher = { ...spec.Dispatcher, HeartbeatPeriod: period };
  }
  const wasLocked = spec.EncryptionConfig?.AutoLockManagers === true;
  if (autolock !== undefined) {
    spec.EncryptionConfig = { ...spec.EncryptionConfig, AutoLockManagers: autolock };
  }
  await context.client.post('/swarm/update', spec, { version: swarm.Version.Index });
  context.out.write('Swarm updated.\n');
  if (autolock === true && !wasLocked) await printUnlockKey(context);
}

/** What a restarted manager will want; to be kept outside of the swarm. */
export async function printUnlockKey(context: Context): Promise<void> {
  const { UnlockKey } = await context.client.get<{ UnlockKey: string }>('/swarm/unlockkey');
  context.out.write(
    'To unlock a swarm manager after it restarts, run "tsswarm swarm unlock" and give this key:\n' +
      `\n    ${UnlockKey}\n\n` +
      'Keep it in a safe place: without it a restarted manager cannot be used.\n',
  );
}

async function unlockKey(context: Context, rotate: boolean, quiet: boolean): Promise<void> {
  if (rotate) {
    const swarm = await getSwarm(context);
    if (swarm.Spec.EncryptionConfig?.AutoLockManagers !== true) {
      throw new SwarmError(
        'invalid',
        'managers are not locked: "tsswarm swarm update --autolock" locks them',
      );
    }
    await context.client.post('/swarm/update', swarm.Spec, {
      version: swarm.Version.Index,
      rotateManagerUnlockKey: true,
    });
    if (!quiet) context.out.write('Successfully rotated manager unlock key.\n\n');
  }
  const { UnlockKey } = await context.client.get<{ UnlockKey: string }>('/swarm/unlockkey');
  if (UnlockKey === '') {
    throw new SwarmError(
      'not_found',
      'there is no unlock key: "tsswarm swarm update --autolock" makes one',
    );
  }
  if (quiet) context.out.write(`${UnlockKey}\n`);
  else await printUnlockKey(context);
}

interface CaFlags extends SettingFlags {
  readonly rotate?: boolean;
  readonly caCert?: string;
  readonly caKey?: string;
  readonly detach?: boolean;
  readonly quiet?: boolean;
}

async function ca(context: Context, flags: CaFlags): Promise<void> {
  if (flags.rotate !== true) {
    const others = Object.keys(flags).filter((key) => key !== 'quiet' && key !== 'detach');
    if (others.length > 0) throw new SwarmError('invalid', 'this flag only goes with --rotate');
    context.out.write(rootOf(await getSwarm(context)));
    return;
  }
  if (flags.caKey !== undefined && flags.caCert === undefined) {
    throw new SwarmError('invalid', '--ca-key goes with --ca-cert');
  }
  const swarm = await getSwarm(context);
  const spec = swarm.Spec;
  applySettings(spec, flags);
  const { SigningCACert: _cert, SigningCAKey: _key, ...kept } = spec.CAConfig ?? {};
  const isGiven = flags.caCert !== undefined;
  spec.CAConfig = {
    ...kept,
    ...(flags.caCert === undefined ? {} : { SigningCACert: pem(flags.caCert, '--ca-cert') }),
    ...(flags.caKey === undefined ? {} : { SigningCAKey: pem(flags.caKey, '--ca-key') }),
    ForceRotate: (kept.ForceRotate ?? 0) + (isGiven ? 0 : 1),
  };
  await context.client.post('/swarm/update', spec, { version: swarm.Version.Index });
  if (flags.detach === true) return;
  context.out.write(rootOf(await rotated(context, rootOf(swarm), flags.quiet === true)));
}

function rootOf(swarm: SwarmJson): string {
  const root = swarm.TLSInfo?.TrustRoot ?? '';
  if (root === '') throw new SwarmError('unavailable', 'no root certificate is known yet');
  return root.endsWith('\n') ? root : `${root}\n`;
}

/** Hosts get their certificates with their next report; a host that is down gets none. */
const ROTATION_LIMIT_MS = 180_000;
const ROTATION_POLL_MS = 200;

async function rotated(context: Context, before: string, quiet: boolean): Promise<SwarmJson> {
  const { clock } = context;
  const endMs = clock.nowMs() + ROTATION_LIMIT_MS;
  let last = '';
  for (;;) {
    if (context.signal.aborted) {
      throw new SwarmError('cancelled', 'interrupted; the rotation goes on in the background');
    }
    const swarm = await getSwarm(context);
    const wanted = swarm.TLSInfo?.CertIssuerPublicKey;
    const nodes = await patiently(context, () => context.client.get<NodeJson[]>('/nodes'));
    const left = nodes.filter((node) => node.Description.TLSInfo?.CertIssuerPublicKey !== wanted);
    const down = left.filter((node) => node.Status.State === 'down').map(nodeText);
    const waits = down.length === 0 ? '' : `; waits for what is down: ${down.join(', ')}`;
    const done = nodes.length - left.length;
    const line = `rotated certificates: ${done}/${nodes.length} nodes${waits}\n`;
    if (!quiet && line !== last) context.err.write(line);
    last = line;
    if (swarm.RootRotationInProgress !== true && rootOf(swarm) !== before) return swarm;
    if (clock.nowMs() > endMs) {
      throw new SwarmError(
        'timeout',
        `no new certificate yet: ${left.map(nodeText).join(', ')}; the rotation goes on; ` +
          '"tsswarm node rm" takes out a host that is gone for good',
      );
    }
    await clock.sleep(ROTATION_POLL_MS);
  }
}

function nodeText({ ID, Description, Status }: NodeJson): string {
  return `${Description.Hostname} (${ID}, ${Status.State})`;
}
