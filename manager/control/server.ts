/**
 * Service Control: what followers forward, carried out here at the leader, and the one read that
 * any manager answers. Converts and hands over; who may call is decided before (managers only),
 * what is done in writes.ts.
 */
import { SwarmError } from '../../base/errors.ts';
import type { AnyObject } from '../../model/types.ts';
import {
  clusterSpecFromWire,
  DATA_TABLES,
  dataSpecFromWire,
  fromU64,
  need,
  networkSpecFromWire,
  nodeSpecFromWire,
  objectToWire,
  serviceSpecFromWire,
  type TableObject,
  toU64,
  word,
} from '../../proto/convert.ts';
import type { CallContext, Handlers } from '../../proto/rpc.ts';
import type { Control } from '../../proto/services.ts';
import { type ManagerState, stateToWire } from '../managerState.ts';
import type { StoreReader } from '../store/types.ts';
import { confirmed } from '../transact.ts';
import type { Writes, Written } from './writes.ts';

export interface ControlServerOptions {
  /** The local store after a barrier. */
  readonly read: () => Promise<StoreReader>;
  readonly store: StoreReader;
  readonly writes: Writes;
  readonly isLeader: () => boolean;
  readonly notLeader: () => SwarmError;
  /** This manager's, also when it follows. */
  readonly state: (atVersion: number) => ManagerState;
  readonly heartbeatAges: () => ReadonlyMap<string, number>;
  readonly members: () => readonly {
    readonly raftId: number;
    readonly reachable: boolean;
    readonly lag: number | undefined;
  }[];
  /** What this manager asked for is done; it answers once it has applied that itself. */
  readonly tell: (nodeId: string) => void;
}

function answer(table: TableObject['table'], written: Written<AnyObject>) {
  return {
    object: objectToWire({ table, object: written.object } as TableObject),
    version: toU64(written.version, 'version'),
  };
}

export function controlHandlers(options: ControlServerOptions): Handlers<typeof Control> {
  const leading = (): Writes => {
    if (!options.isLeader()) throw options.notLeader();
    return options.writes;
  };
  const written = async (
    { peer }: CallContext,
    table: TableObject['table'],
    write: (writes: Writes) => Promise<Written<AnyObject>>,
  ): Promise<ReturnType<typeof answer>> => {
    const { store, read, tell } = options;
    const done = await confirmed(store, read, () => write(leading()));
    if (peer !== undefined) tell(peer.nodeId);
    return answer(table, done);
  };
  return {
    createService: async ({ spec }, context) =>
      written(context, 'service', (writes) =>
        writes.createService(serviceSpecFromWire(need(spec, 'spec'))),
      ),
    updateService: async ({ id, version, spec }, context) => {
      const wanted = serviceSpecFromWire(need(spec, 'spec'));
      return written(context, 'service', (writes) =>
        writes.updateService(id, fromU64(version, 'version'), wanted),
      );
    },
    rollbackService: async ({ id, version }, context) =>
      written(context, 'service', (writes) =>
        writes.rollbackService(id, fromU64(version, 'version')),
      ),
    removeService: async ({ id }, context) =>
      written(context, 'service', (writes) => writes.removeService(id)),
    createNetwork: async ({ spec }, context) =>
      written(context, 'network', (writes) =>
        writes.createNetwork(networkSpecFromWire(need(spec, 'spec'))),
      ),
    removeNetwork: async ({ id }, context) =>
      written(context, 'network', (writes) => writes.removeNetwork(id)),
    createData: async (request, context) => {
      const table = word(request.table, DATA_TABLES, 'table');
      const wanted = dataSpecFromWire(need(request.spec, 'spec'));
      return written(context, table, (writes) => writes.createData(table, wanted));
    },
    updateData: async ({ id, version, ...request }, context) => {
      const table = word(request.table, DATA_TABLES, 'table');
      const wanted = dataSpecFromWire(need(request.spec, 'spec'));
      return written(context, table, (writes) =>
        writes.updateData(table, id, fromU64(version, 'version'), wanted),
      );
    },
    removeData: async ({ id, ...request }, context) => {
      const table = word(request.table, DATA_TABLES, 'table');
      return written(context, table, (writes) => writes.removeData(table, id));
    },
    getData: async ({ id, ...request }) => {
      const table = word(request.table, DATA_TABLES, 'table');
      const store = await options.read();
      const object = store.get(table, id);
      if (object === undefined) throw new SwarmError('not_found', `${table} ${id} not found`);
      return answer(table, { object, version: store.version });
    },
    updateNode: async ({ id, version, spec, replaces }, context) => {
      const wanted = nodeSpecFromWire(need(spec, 'spec'));
      return written(context, 'node', (writes) =>
        writes.updateNode(id, fromU64(version, 'version'), wanted, replaces),
      );
    },
    removeNode: async ({ id, force }, context) =>
      written(context, 'node', (writes) => writes.removeNode(id, force)),
    updateCluster: async ({ version, spec, ...request }, context) => {
      const wanted = clusterSpecFromWire(need(spec, 'spec'));
      return written(context, 'cluster', (writes) =>
        writes.updateCluster(fromU64(version, 'version'), wanted, {
          workerToken: request.rotateWorkerToken,
          managerToken: request.rotateManagerToken,
          signingCaKey: request.signingCaKey,
          unlockKey: request.rotateUnlockKey,
        }),
      );
    },
    rebalance: async (_request, context) =>
      written(context, 'cluster', (writes) => writes.rebalance()),
    managerState: async ({ atVersion }) =>
      stateToWire(options.state(fromU64(atVersion, 'atVersion'))),
    leaderStatus: async () => {
      leading();
      return {
        heartbeats: [...options.heartbeatAges()].map(([nodeId, ageMs]) => ({
          nodeId,
          ageMs: toU64(ageMs, 'ageMs'),
        })),
        members: options.members().map(({ raftId, reachable, lag }) => ({
          raftId: toU64(raftId, 'raftId'),
          reachable,
          lag: toU64(lag ?? 0, 'lag'),
        })),
      };
    },
  };
}
