/** Registry credentials of services: kept from the header, handed to agents, shown to nobody. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { parseRegistryAuth } from '../../runtime/image/credentials.ts';
import { type ServedNode, serveNode } from '../support/servedNode.ts';

let served: ServedNode;

before(async () => {
  served = await serveNode();
});

after(async () => {
  await served.close();
});

const header = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
const FIRST = header({ username: 'me', password: 'geheim', serveraddress: 'reg:5000' });
const SECOND = header({ username: 'me', password: 'neu' });
const spec = (force = 0): object => ({
  Name: 'priv',
  TaskTemplate: { ContainerSpec: { Image: 'reg:5000/a:1' }, ForceUpdate: force },
  Mode: { Replicated: { Replicas: 1 } },
});

function stored(): { now: string; version: number; previous: string | undefined } {
  const service = [...served.node.store.all('service')].find((each) => each.spec.name === 'priv');
  assert.ok(service !== undefined);
  return {
    now: service.spec.task.container.registryAuth,
    version: service.version,
    previous: service.previousSpec?.task.container.registryAuth,
  };
}

test('credentials of a service come from the header, stay over updates, and are never shown', async () => {
  const post = (path: string, body: object, auth?: string) =>
    served.call('POST', path, body, auth ? { 'X-Registry-Auth': auth } : {});
  assert.equal((await post('/services/create', spec(), FIRST)).status, 201);
  assert.equal(stored().now, FIRST);
  const update = (query: string, force: number, auth?: string) =>
    post(`/services/priv/update?version=${stored().version}${query}`, spec(force), auth);
  assert.equal((await update('', 1)).status, 200);
  assert.equal(stored().now, FIRST, 'an update without its own goes on with them');
  assert.equal((await update('', 2, SECOND)).status, 200);
  assert.deepEqual([stored().now, stored().previous], [SECOND, FIRST]);
  assert.equal((await update('&registryAuthFrom=previous-spec', 3)).status, 200);
  assert.equal(stored().now, FIRST);
  assert.equal((await update('&registryAuthFrom=odd', 4)).status, 400);
  assert.equal((await update('', 4, 'not base64!')).status, 400);
  for (const path of ['/services/priv', '/services', '/tasks', '/tsswarm/debug']) {
    const shown = (await served.call('GET', path)).body.toString();
    assert.doesNotMatch(shown, /geheim|registryAuth|PullOptions/, path);
    assert.ok(!shown.includes(FIRST), path);
  }
});

test('credentials are read in every form that clients send', () => {
  assert.equal(parseRegistryAuth(''), undefined);
  assert.equal(parseRegistryAuth(header({})), undefined);
  assert.deepEqual(parseRegistryAuth(FIRST), { username: 'me', password: 'geheim' });
  const standard = Buffer.from('{"username":"a","password":"?>?>"}').toString('base64');
  assert.deepEqual(parseRegistryAuth(standard), { username: 'a', password: '?>?>' });
  const joined = header({ auth: Buffer.from('a:b:c').toString('base64') });
  assert.deepEqual(parseRegistryAuth(joined), { username: 'a', password: 'b:c' });
  assert.deepEqual(parseRegistryAuth(header({ identitytoken: 't' })), { identityToken: 't' });
  assert.deepEqual(parseRegistryAuth(header({ registrytoken: 't' })), { registryToken: 't' });
  assert.throws(() => parseRegistryAuth('{}'), /base64url-encoded JSON/);
  assert.throws(() => parseRegistryAuth(header({ username: 1 })), /username must be a string/);
});
