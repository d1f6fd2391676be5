/**
 * recover: what the files of dead managers hold, which of several goes furthest, and what to do
 * next. Asks no daemon and, unless told to, changes nothing.
 */
import { addCommand, type Command } from './command.ts';
import { DEFAULT_DATA_ROOT, readConfigFile } from './configFile.ts';
import type { Context, Run } from './context.ts';
import { confirmForce, type ExaminedJson, forceText } from './forceNew.ts';
import { type KeyFlags, unlockKeyOf, withKeyFlag } from './unlockKey.ts';

interface RecoverFlags extends KeyFlags {
  readonly json?: boolean;
  readonly forceNewCluster?: boolean;
  readonly force?: boolean;
}

interface ComparisonJson {
  readonly Best: string;
  readonly Why: string;
  readonly Warnings: readonly string[];
}

export function registerRecover(program: Command, run: Run): void {
  const about = 'what the state of a dead manager holds (DATA_ROOT, default this host’s)';
  withKeyFlag(addCommand(program, 'recover [data-root...]', about))
    .option('--json', 'for programs')
    .option('--force-new-cluster', 'make this one state the swarm, with no daemon running')
    .option('-f, --force', 'with --force-new-cluster: do not ask')
    .action((directories: string[], flags: RecoverFlags) =>
      run((context) => recover(context, directories, flags)),
    );
}

async function recover(
  context: Context,
  given: readonly string[],
  flags: RecoverFlags,
): Promise<void> {
  const directories = given.length === 0 ? [usualDataRoot()] : given;
  const { examineStates, forceOffline } = await import('../daemon/offline.ts');
  let unlockKey = await unlockKeyOf(context, flags);
  let { states, comparison } = await examineStates(directories, unlockKey);
  if (unlockKey === '' && process.stdin.isTTY && states.some(isLocked)) {
    unlockKey = await unlockKeyOf(context, { unlockKeyFile: '-' });
    ({ states, comparison } = await examineStates(directories, unlockKey));
  }
  if (flags.json === true) {
    const answer = { States: states, ...comparison };
    context.out.write(`${JSON.stringify(answer, undefined, 2)}\n`);
  } else {
    for (const state of states) context.out.write(stateText(state));
    context.out.write(nextSteps(states, comparison));
  }
  if (flags.forceNewCluster !== true) {
    if (!states.some(({ Usable }) => Usable)) context.exitCode = 1;
    return;
  }
  const [state] = states;
  await confirmForce(context, states.length === 1 ? state : undefined, flags.force === true);
  await forceOffline(state.Directory, unlockKey);
  context.err.write('Done: start the daemon on this state.\n');
}

/** Where the daemon of this host keeps its state. */
function usualDataRoot(): string {
  const named = process.env['TSSWARM_DATA_ROOT'];
  if (named !== undefined) return named;
  return (readConfigFile(undefined, () => false)['dataRoot'] as string) ?? DEFAULT_DATA_ROOT;
}

function isLocked({ Problem }: ExaminedJson): boolean {
  return Problem.startsWith('it is locked');
}

function row(label: string, text: string): string {
  return `  ${label.padEnd(10)} ${text}\n`;
}

function stateText(state: ExaminedJson): string {
  const { Node, Raft, Cluster, Members, Damage, Problem } = state;
  let text = `${state.Directory}\n`;
  if (Node !== undefined) {
    const member = Node.RaftID === 0 ? '' : `, raft member ${Node.RaftID}`;
    text += row('node', `${Node.ID}, ${Node.Role} at ${Node.Address}${member}`);
  }
  if (Raft !== undefined) {
    text += row('log', `entries ${Raft.FirstIndex} to ${Raft.LastIndex} of term ${Raft.LastTerm}`);
    text += row('', `committed ${Raft.Commit}; term ${Raft.Term}, vote ${Raft.Vote || 'none'}`);
    const { Snapshot, Torn, Formats } = Raft;
    if (Snapshot !== undefined) {
      text += row('snapshot', `entry ${Snapshot.Index} of term ${Snapshot.Term}, ${Snapshot.Time}`);
    }
    text += row('formats', `log ${Formats.Log}, snapshot ${Formats.Snapshot || 'none'}`);
    if (Torn !== undefined) {
      text += row(
        'torn',
        `a last batch at byte ${Torn.Offset} of ${Torn.File}: cleared at the start`,
      );
    }
  }
  if (Cluster !== undefined) {
    const counts = Object.entries(Cluster.Counts).filter(([table]) => table !== 'cluster');
    const words = counts.map(([table, count]) => `${count} ${table}${count === 1 ? '' : 's'}`);
    text += row('swarm', `${Cluster.ID}, last changed ${Cluster.Time}`);
    text += row('', words.join(', '));
  }
  for (const [at, member] of Members.entries()) {
    const role = member.Voter ? '' : ', not a voter yet';
    const self = member.Self ? ', this one' : '';
    const name = member.Hostname || `raft member ${member.RaftID}`;
    text += row(at === 0 ? 'managers' : '', `${name} (${member.Address})${role}${self}`);
  }
  for (const { File, Offset, What } of Damage) text += row('damage', `${What || File} [${Offset}]`);
  if (Problem !== '') text += row('', `cannot be gone on from: ${Problem}`);
  return text + forceText(state);
}

function nextSteps(
  states: readonly ExaminedJson[],
  { Best, Why, Warnings }: ComparisonJson,
): string {
  const warnings = Warnings.map((warning) => `warning: ${warning}\n`).join('');
  if (Best === '') {
    return (
      `${warnings}${states.length > 1 ? `${Why}.\n` : ''}Next: look at the state of another ` +
      'manager, or restore a backup with "tsswarm snapshot restore FILE".\n'
    );
  }
  const needed = Math.floor((states[0].Members.length || 1) / 2) + 1;
  const among = states.length > 1 ? `Go on from ${Best}: ${Why}.\n` : '';
  return (
    `${warnings}${among}Next: if ${needed} of the managers can be started again, start them: ` +
    'nothing else is needed.\n' +
    `Only if they are lost for good: start the daemon on ${Best} and run ` +
    '"tsswarm init --force-new-cluster" there.\n'
  );
}
