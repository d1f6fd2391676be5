/** /swarm: init, join, leave, inspect, update (join tokens rotate with it). */
import { isDeepStrictEqual } from 'node:util';
import { SwarmError } from '../../../base/errors.ts';
import { NO_ROTATION } from '../../../manager/control/types.ts';
import type { StoreReader } from '../../../manager/store/types.ts';
import { DEFAULT_SUBNET_SIZE, DEFAULT_VXLAN_PORT } from '../../../model/defaults.ts';
import type { Cluster } from '../../../model/types.ts';
import { validateClusterSpec } from '../../../model/validate.ts';
import { unlockKeyText } from '../../keyFile.ts';
import { clusterSpecFromDocker, swarmToDocker } from '../docker/swarm.ts';
import type { Fields } from '../fields.ts';
import { controlOf } from '../find.ts';
import { type ApiRequest, empty, json, type Reply, type Router } from '../http.ts';
import type { ApiParts } from '../parts.ts';

const AVAILABILITIES = ['active', 'pause', 'drain'] as const;

export function addSwarmRoutes(router: Router, parts: ApiParts): void {
  const { node } = parts;
  router.get('/swarm', async () => {
    const control = controlOf(node);
    const store = await control.read();
    return json(swarmToDocker(clusterOf(store), await control.joinTokens()));
  });
  router.post('/swarm/init', async (request) => init(parts, await request.body()));
  router.post('/swarm/join', async (request) => join(parts, await request.body()));
  router.post('/swarm/leave', async (request) => {
    await node.leave(request.flag('force'));
    return empty();
  });
  router.post('/swarm/update', (request) => update(parts, request));
  router.get('/swarm/unlockkey', async () => {
    const cluster = clusterOf(await controlOf(node).read());
    return json({ UnlockKey: unlockKeyText(cluster.unlockKey) });
  });
  router.post('/swarm/unlock', async (request) => {
    await node.unlock((await request.body()).text('UnlockKey'));
    return empty();
  });
}

function clusterOf(store: StoreReader): Cluster {
  const cluster = store.cluster();
  if (cluster === undefined) throw new SwarmError('unavailable', 'the cluster is being created');
  return cluster;
}

async function init(parts: ApiParts, body: Fields): Promise<Reply> {
  const { node } = parts;
  const wanted = body.objectOrEmpty('Spec');
  // The founder makes the first root; another can take its place at any time.
  const ca = wanted.objectOrEmpty('CAConfig');
  ca.refuse('SigningCACert', 'SigningCAKey');
  const asked = clusterSpecFromDocker(wanted);
  const autoLockManagers = asked.autoLockManagers || body.flag('AutoLockManagers');
  const spec = { ...asked, autoLockManagers };
  validateClusterSpec(spec);
  const nodeId = await node.init({
    advertiseAddress: body.text('AdvertiseAddr'),
    listenAddress: body.text('ListenAddr'),
    dataPathAddress: body.text('DataPathAddr'),
    availability: body.choice('Availability', AVAILABILITIES, 'active'),
    addressPools: body.texts('DefaultAddrPool'),
    subnetSize: body.whole('SubnetSize', 0) || DEFAULT_SUBNET_SIZE,
    vxlanPort: body.whole('DataPathPort', 0) || DEFAULT_VXLAN_PORT,
    forceNewCluster: body.flag('ForceNewCluster'),
  });
  if ((body.has('Spec') || autoLockManagers) && !body.flag('ForceNewCluster')) {
    const control = node.control();
    const cluster = clusterOf(await control.read());
    if (!isDeepStrictEqual({ ...cluster.spec }, { ...spec })) {
      await control.updateCluster(cluster.version, spec, NO_ROTATION);
    }
  }
  return json(nodeId);
}

async function join(parts: ApiParts, body: Fields): Promise<Reply> {
  const remoteAddresses = body.texts('RemoteAddrs').filter((address) => address !== '');
  if (remoteAddresses.length === 0) {
    throw new SwarmError('invalid', 'RemoteAddrs is empty: give the HOST:PORT of a manager');
  }
  await parts.node.join({
    token: body.text('JoinToken').trim(),
    remoteAddresses,
    advertiseAddress: body.text('AdvertiseAddr'),
    listenAddress: body.text('ListenAddr'),
    dataPathAddress: body.text('DataPathAddr'),
    availability: body.choice('Availability', AVAILABILITIES, 'active'),
  });
  return empty();
}

async function update(parts: ApiParts, request: ApiRequest): Promise<Reply> {
  const control = controlOf(parts.node);
  const version = request.version();
  const body = await request.body();
  const spec = clusterSpecFromDocker(body);
  await control.updateCluster(version, spec, {
    workerToken: request.flag('rotateWorkerToken'),
    managerToken: request.flag('rotateManagerToken'),
    signingCaKey: body.objectOrEmpty('CAConfig').text('SigningCAKey'),
    unlockKey: request.flag('rotateManagerUnlockKey'),
  });
  return empty();
}
