/** What fuzzing (test/fuzz) and killing daemons at random (daemonKills) have found, each as what must hold: one plain test for each finding. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { SystemClock } from '../../base/clock.ts';
import { hasCode } from '../../base/errors.ts';
import { silentLog } from '../../base/log.ts';
import { parseYaml } from '../../cli/stack/yaml.ts';
import { serviceSpecFromDocker, serviceSpecToDocker } from '../../daemon/api/docker/serviceSpec.ts';
import { Fields } from '../../daemon/api/fields.ts';
import { RecordFiles } from '../../daemon/containers/records.ts';
import { JSON_LINES } from '../../runtime/container/logFormats.ts';
import { familiarReference, parseReference } from '../../runtime/image/reference.ts';
import { Registry } from '../../runtime/image/registry.ts';
import { NO_SETTINGS, RegistryHosts } from '../../runtime/image/registryHosts.ts';
import { Records } from '../../runtime/net/state.ts';

class HastyClock extends SystemClock {
  override sleep(): Promise<void> {
    return Promise.resolve();
  }
}

async function registryThat(context: TestContext, answer: RequestListener): Promise<Registry> {
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  context.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const mirror = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const hosts = new RegistryHosts(NO_SETTINGS);
  return new Registry('registry', {
    ...{ clock: new HastyClock(), hosts, auth: undefined, signal: undefined, mirror },
  });
}

test('a name on Docker Hub that reads like a registry keeps its full form', () => {
  for (const full of ['docker.io/a.b/c:1', 'docker.io/localhost/x:1']) {
    assert.equal(familiarReference(full), full);
    assert.equal(parseReference(familiarReference(full)).domain, 'docker.io');
  }
  const twice = 'docker.io/docker.io/a/b:1';
  assert.deepEqual(parseReference(familiarReference(twice)), parseReference(twice));
  const hex = `docker.io/library/${'0'.repeat(64)}`;
  assert.equal(familiarReference(hex), hex, 'the short form is an id');
});

test('a registry whose list of tags is null or no JSON has none, or is told', async (context) => {
  const bodies = ['null', '{"tags":null}', '<html>'];
  const registry = await registryThat(context, (_, response) => response.end(bodies.shift()));
  assert.deepEqual(await registry.tags('a'), []);
  assert.deepEqual(await registry.tags('a'), []);
  await assert.rejects(registry.tags('a'), (error) => hasCode(error, 'unavailable'));
});

test('a download that begins anew each time, now longer, now shorter, comes to an end', async (context) => {
  let asked = 0;
  const registry = await registryThat(context, (_, response) => {
    asked += 1;
    response.end('x'.repeat(asked % 2 === 0 ? 5 : 7));
  });
  const writer = {
    doneBytes: 0,
    async append(chunk: Uint8Array) {
      this.doneBytes += chunk.length;
    },
    async restart() {
      this.doneBytes = 0;
    },
  };
  const blob = { digest: `sha256:${'0'.repeat(64)}`, sizeBytes: 100 };
  const download = registry.blob('a', blob, writer as never, () => {});
  await assert.rejects(download, (error) => hasCode(error, 'corrupt'));
  assert.ok(asked < 20, `${asked} requests`);
});

test('YAML that holds itself, nests without end or has maps as keys is refused in one line', () => {
  const hostile = ['a: &a [*a]', 'a: &a {b: &b [*a, *b]}', '['.repeat(50_000), '? {a: 1}\n: b'];
  hostile.push(`${'a: {'.repeat(200)}`, '&x [1, *x]');
  for (const text of hostile) {
    assert.throws(
      () => parseYaml(text, 'f.yml'),
      (error) => hasCode(error, 'invalid') && !error.message.includes('\n'),
      text.slice(0, 40),
    );
  }
  const shared = 'a: &a {b: [1, 2]}\nc: [*a, *a, {<<: *a}]';
  assert.deepEqual(parseYaml(shared, 'f.yml'), {
    a: { b: [1, 2] },
    c: [{ b: [1, 2] }, { b: [1, 2] }, { b: [1, 2] }],
  });
});

test('a time in a log that 64 bits of nanoseconds do not hold counts as none', () => {
  for (const time of [
    '-271821-04-20T00:00:00Z',
    '+275760-09-13T00:00:00Z',
    '1969-12-31T23:59:59Z',
  ]) {
    const line = Buffer.from(`${JSON.stringify({ log: 'x\n', stream: 'stdout', time })}\n`);
    assert.equal(JSON_LINES.at(line, 0)?.record.timeNs, 0n, time);
  }
});

test('log options without a driver are the same after they were told', () => {
  const body = {
    Name: 'web',
    TaskTemplate: { ContainerSpec: { Image: 'web' }, LogDriver: { Options: { 'max-size': '1m' } } },
  };
  const spec = serviceSpecFromDocker(new Fields(body));
  assert.deepEqual(serviceSpecFromDocker(new Fields(serviceSpecToDocker(spec))), spec);
});

test('a record that a killed daemon had not renamed into place yet is taken away', (context) => {
  const directory = mkdtempSync(join(tmpdir(), 'records-'));
  context.after(() => rmSync(directory, { recursive: true }));
  const files = new RecordFiles<{ format: 1; id: string }>(directory, silentLog);
  files.save({ format: 1, id: 'a' });
  const network = new Records<{ format: 1 }>(directory);
  for (const name of ['b.json.tmp', 'c.json.new']) writeFileSync(join(directory, name), '{');
  assert.equal(files.load().length, 1);
  assert.equal(network.load(silentLog).size, 1);
  assert.deepEqual(readdirSync(directory), ['a.json']);
});
