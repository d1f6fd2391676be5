/**
 * Who may call what on a manager's port: a table by service and method, checked on every call
 * against the store of this moment. Decides on identity only; it knows nothing of requests.
 *
 * | call | caller |
 * |---|---|
 * | CertificateAuthority | anyone |
 * | Host.Ping, Host.ProbeOther | a node that exists, as far as this manager can know |
 * | Dispatcher, Raft.Leave | a node that exists |
 * | Host.TaskLogs, Host.Api | a manager |
 * | Control, Raft.Join | a node that exists and should be a manager |
 * | Raft.Messages, Raft.Snapshot | a manager's certificate, unless known here to be none now, |
 * | | or to be removed; the leader knows every node there is |
 *
 * A worker has no store: it answers Host.Ping to any certificate of the cluster's CA, and the rest
 * of Host to the managers that its session names.
 */

import { SwarmError } from '../base/errors.ts';
import type { PeerIdentity } from '../proto/credentials.ts';
import type { MethodName } from '../proto/rpc.ts';
import { CertificateAuthority, Control, Dispatcher, Host, Raft } from '../proto/services.ts';
import { roleNow } from './ca/server.ts';
import { removedNode } from './removedNode.ts';
import type { View } from './store/types.ts';

type Rule = 'anyone' | 'hearsay' | 'node' | 'manager' | 'raft';

function ruleOf({ service, method }: MethodName): Rule {
  switch (service) {
    case CertificateAuthority.typeName:
      return 'anyone';
    case Dispatcher.typeName:
      return 'node';
    case Host.typeName:
      return method === 'TaskLogs' || method === 'Api' ? 'manager' : 'hearsay';
    case Raft.typeName:
      if (method === 'Leave') return 'node';
      return method === 'Join' ? 'manager' : 'raft';
    case Control.typeName:
      return 'manager';
    default:
      throw new SwarmError('forbidden', `no rule lets anyone call ${service}.${method}`);
  }
}

/** In the words of TLS libraries -> in ours. */
function problemText(problem: string): string {
  if (problem === '') return 'no certificate was presented';
  if (/EXPIRED/i.test(problem)) {
    return (
      'the certificate presented has expired: if that host was off for long, ' +
      'run "tsswarm leave --force" on it and join it again'
    );
  }
  if (/ISSUER|SELF_SIGNED|SIGNATURE/i.test(problem)) {
    return 'the certificate presented is of another cluster';
  }
  return `the certificate presented does not count (${problem})`;
}

/**
 * Throws SwarmError unauthorized or forbidden unless `peer` may call `method` now. `lagging` is the
 * error for a node that is not known here while this manager may lack what the leader has.
 */
export function authorize(
  view: View,
  lagging: SwarmError | undefined,
  peer: PeerIdentity | undefined,
  method: MethodName,
  problem: string,
): void {
  const rule = ruleOf(method);
  if (rule === 'anyone') return;
  if (peer === undefined) {
    throw new SwarmError('unauthorized', `${method.method}: ${problemText(problem)}`);
  }
  const cluster = view.cluster();
  if (cluster !== undefined && peer.clusterId !== cluster.id) {
    throw new SwarmError('unauthorized', 'the certificate presented is of another cluster');
  }
  if (rule === 'raft') {
    authorizeRaft(view, lagging === undefined, peer);
    return;
  }
  const node = view.get('node', peer.nodeId);
  if (node === undefined) {
    // A manager that lags cannot tell a removed node from one it has not heard of.
    if (lagging !== undefined && rule === 'hearsay') return;
    if (lagging !== undefined) throw lagging;
    throw removedNode(peer.nodeId);
  }
  if (rule === 'node' || rule === 'hearsay') return;
  if (peer.role !== 'manager' || roleNow(node) !== 'manager') {
    throw new SwarmError('forbidden', `${method.method} is for managers; ${node.id} is a worker`);
  }
}

/**
 * The same on a worker. `managerIds`: the managers as the last session told them; undefined before
 * the first one, when a host may be asked how others are, but nothing that concerns its tasks.
 */
export function authorizeAtWorker(
  managerIds: ReadonlySet<string> | undefined,
  peer: PeerIdentity,
  { method }: MethodName,
): void {
  if (method === 'Ping') return;
  if (peer.role !== 'manager') throw new SwarmError('forbidden', `${method} is for managers`);
  if (managerIds?.has(peer.nodeId) === true) return;
  if (managerIds !== undefined) {
    throw new SwarmError('forbidden', `node ${peer.nodeId} is not a manager any more`);
  }
  if (method === 'ProbeOther') return;
  throw new SwarmError(
    'unavailable',
    `${method}: this host has not found the leader yet; try again`,
  );
}

/**
 * A lagging manager must hear a leader whose node it does not know yet, or it would never catch up;
 * a node that it does know to be no manager is refused.
 */
function authorizeRaft(view: View, leads: boolean, peer: PeerIdentity): void {
  if (peer.role !== 'manager') {
    throw new SwarmError('forbidden', `Raft is for managers; ${peer.nodeId} is a worker`);
  }
  const node = view.get('node', peer.nodeId);
  const cluster = view.cluster();
  const wasRemoved = cluster?.removedNodes.some(({ id }) => id === peer.nodeId) === true;
  // A leader that has just founded the swarm has no nodes yet, nor anybody to hear.
  if (node === undefined && (wasRemoved || (leads && cluster !== undefined))) {
    throw removedNode(peer.nodeId, wasRemoved);
  }
  if (node !== undefined && roleNow(node) !== 'manager') {
    throw new SwarmError('forbidden', `node ${peer.nodeId} is not a manager any more`);
  }
}
