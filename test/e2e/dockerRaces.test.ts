/**
 * Several clients at once on one host, and a daemon killed at a bad moment, by the real docker
 * client: what was asked for is what is there afterwards, and nothing is left behind.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, realpathSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { until } from '../support/lab.ts';
import { buildLayer } from '../support/rootfs.ts';
import { type Standalone, startStandalone } from '../support/standalone.ts';

const SOON_MS = 15_000;
const PROBE = 'probe:1';
const SEEDS = 400;

let host: Standalone;

before(async () => {
  host = await startStandalone();
  const layer = join(host.directory, 'layer');
  mkdirSync(join(layer, 'seed'), { recursive: true });
  buildLayer(layer);
  for (let at = 0; at < SEEDS; at += 1) writeFileSync(join(layer, 'seed', `${at}`), `${at}`);
  execFileSync('tar', ['-C', layer, '-cf', join(host.directory, 'layer.tar'), '.']);
  const change = ['--change', 'ENTRYPOINT ["/bin/probe"]'];
  await host.docker('import', ...change, join(host.directory, 'layer.tar'), PROBE);
});

after(() => host.stop());

const NETWORKS = ['first', 'second', 'third'];

async function placesOf(name: string): Promise<Record<string, { IPAddress: string }>> {
  const text = await host.docker('inspect', '-f', '{{json .NetworkSettings.Networks}}', name);
  return JSON.parse(text) as Record<string, { IPAddress: string }>;
}

async function addressesIn(name: string): Promise<string> {
  const pid = (await host.docker('inspect', '-f', '{{.State.Pid}}', name)).trim();
  const enter = ['-t', String(host.pid), '-p', '-m', 'nsenter', '-t', pid, '-n'];
  return execFileSync('nsenter', [...enter, 'ip', '-4', '-o', 'address']).toString();
}

test('networks connected at once, and while a container starts, are all there', async () => {
  for (const network of NETWORKS) await host.docker('network', 'create', network);
  await host.docker('run', '-d', '--name', 'joins', PROBE, 'stubborn');
  const connectAll = () =>
    Promise.all(NETWORKS.map((network) => host.docker('network', 'connect', network, 'joins')));
  const check = async (): Promise<void> => {
    const places = await placesOf('joins');
    assert.deepEqual(Object.keys(places).toSorted(), ['bridge', ...NETWORKS]);
    const inside = await addressesIn('joins');
    for (const { IPAddress } of Object.values(places)) {
      assert(IPAddress !== '' && inside.includes(`${IPAddress}/`), `${IPAddress} in ${inside}`);
    }
  };
  await connectAll();
  await check();
  await host.docker('stop', '-t', '0', 'joins');
  for (const network of NETWORKS) await host.docker('network', 'disconnect', network, 'joins');
  await Promise.all([host.docker('start', 'joins'), connectAll()]);
  await check();
  await host.docker('rm', '-f', 'joins');
  await host.docker('network', 'rm', ...NETWORKS);
});

test('a name is free again whoever renames a container at once', async () => {
  const names = ['one', 'two', 'three', 'four'];
  await host.docker('create', '--name', 'zero', '--network', 'none', PROBE, 'exit', '0');
  const id = (await host.docker('ps', '-aq', '-f', 'name=zero')).trim();
  await Promise.all(names.map((name) => host.tryDocker('rename', id, name)));
  await host.docker('rm', id);
  for (const name of ['zero', ...names]) {
    await host.docker('create', '--name', name, '--network', 'none', PROBE, 'exit', '0');
  }
  await host.docker('rm', 'zero', ...names);
});

test('a stop is never lost on a container that starts over and over', async () => {
  for (let round = 0; round < 5; round += 1) {
    const name = `loop-${round}`;
    await host.docker('run', '-d', '--name', name, '--restart', 'always', PROBE, 'exit', '1');
    // At any moment: also while it is being started.
    await Promise.all([
      host.docker('stop', '-t', '0', name),
      until('it was started again', SOON_MS, async () => {
        const state = await host.docker('inspect', '-f', '{{.State.Status}}', name);
        return state.trim() === 'exited' || undefined;
      }),
    ]);
    const count = () => host.docker('inspect', '-f', '{{.RestartCount}}', name);
    const before = await count();
    // Time itself: for longer than the pause before a restart nothing may happen.
    await host.docker('run', '--rm', PROBE, 'sleep', '1');
    assert.equal(await count(), before, 'started again after its stop');
    await host.docker('rm', name);
  }
});

test('who shares the network of another starts after that one with the daemon', async () => {
  await host.docker('run', '-d', '--name', 'owner', '--restart', 'always', PROBE, 'stubborn');
  const sharers = ['guest-1', 'guest-2', 'guest-3', 'guest-4'];
  for (const name of sharers) {
    const options = ['--restart', 'always', '--network', 'container:owner'];
    await host.docker('run', '-d', '--name', name, ...options, PROBE, 'stubborn');
  }
  const all = [...sharers, 'owner'];
  await host.docker('stop', '-t', '0', ...all);
  await host.restart();
  await until('all run again', SOON_MS, async () => {
    const states = await host.docker('inspect', '-f', '{{.State.Running}}', ...all);
    return states.split('\n').filter((state) => state === 'true').length === 5 || undefined;
  });
  await host.docker('rm', '-f', ...all);
});

test('a connection that a daemon did not live to keep is undone by the next', async () => {
  await host.docker('network', 'create', 'late');
  await host.docker('run', '-d', '--name', 'half', PROBE, 'stubborn');
  const id = (await host.docker('inspect', '-f', '{{.Id}}', 'half')).trim();
  const file = join(host.dataRoot, 'standalone', `${id}.json`);
  const before = readFileSync(file);
  await host.docker('network', 'connect', 'late', 'half');
  writeFileSync(file, before);
  await host.restart();
  await until('it is off the network', SOON_MS, async () => {
    const addresses = await addressesIn('half');
    return (addresses.includes('eth0') && !addresses.includes('eth1')) || undefined;
  });
  await host.docker('network', 'connect', 'late', 'half');
  const { late } = await placesOf('half');
  assert((await addressesIn('half')).includes(`${late.IPAddress}/`));
  await host.docker('rm', '-f', 'half');
  await host.docker('network', 'rm', 'late');
});

test('what a container may write lies on the disk, not in the memory of the host', async () => {
  const { directory, dataRoot } = host;
  for (const network of ['bridge', 'host']) {
    await host.docker('run', '-d', '--name', 'writer', '--network', network, PROBE, 'stubborn');
    for (const field of ['HostsPath', 'HostnamePath', 'ResolvConfPath']) {
      const path = (await host.docker('inspect', '-f', `{{.${field}}}`, 'writer')).trim();
      assert(path.startsWith(join(directory, 'exec')), path);
      assert(realpathSync(path).startsWith(`${dataRoot}/`), `${field} is ${realpathSync(path)}`);
    }
    await host.docker('rm', '-f', 'writer');
  }
});

test('files of volumes are for root alone: what a container leaves there runs for nobody', async () => {
  await host.docker('volume', 'create', 'private');
  const volumes = join(host.dataRoot, 'volumes');
  assert.equal(statSync(volumes).mode & 0o077, 0);
  await host.docker('volume', 'rm', 'private');
});
