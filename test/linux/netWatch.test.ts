/**
 * What others take from a host's network comes back within seconds without anybody asking, and
 * looking for it costs next to nothing.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { attachRequest, endpointRequest, type Place, Underlay } from '../support/netns.ts';
import { cpuTicks } from '../support/processes.ts';

/** It is looked for every second here; the rest is what a busy machine adds. */
const MEND_MS = 30_000;
const IDLE_MS = 4000;
const TICKS_PER_SECOND = 100;
let underlay: Underlay;
let web: Place;

before(async () => {
  underlay = await Underlay.create(2);
  const [host] = underlay.hosts;
  await host.kill();
  await host.start(host.self, 1000);
  for (let at = 0; at < 10; at += 1) {
    await host.applyOverlay({
      networkId: `n${at}`,
      name: `net${at}`,
      vni: 5000 + at,
      subnet: `10.1.${at}.0/24`,
      gateway: `10.1.${at}.1`,
      internal: false,
      mtu: 0,
      version: 1,
      peers: underlay.peers,
      endpoints: [],
      services: [],
      names: [],
    });
  }
  const ports = [{ protocol: 'tcp', hostAddress: '', hostPort: 8080, containerPort: 80 }] as const;
  const bridges = [endpointRequest()];
  web = (await host.attach(attachRequest({ name: 'web', bridges, ports }))).place;
  await web.serve('web', 80);
});

after(() => underlay?.close());

function now(): number {
  return performance.now();
}

async function assertMended(what: string): Promise<void> {
  const [host] = underlay.hosts;
  const startMs = now();
  for (;;) {
    const [answer] = await underlay.client.get(host.address, 8080);
    if (answer.name === 'web') return;
    assert.ok(now() - startMs < MEND_MS, `${what} was not mended: ${answer.error}`);
  }
}

test('a foreign flush, a deleted route, link and sysctl are mended unasked', async () => {
  const [host] = underlay.hosts;
  for (const words of [
    ['nft', 'flush', 'ruleset'],
    ['nft', 'delete', 'table', 'ip', 'tsswarm'],
    ['ip', 'route', 'del', '172.17.0.0/16'],
    ['ip', 'addr', 'flush', 'dev', 'tsswarm0'],
    ['ip', 'link', 'set', 'tsswarm0', 'down'],
    ['ip', 'link', 'del', 'tsswarm0'],
    ['sysctl', '-qw', 'net.ipv4.ip_forward=0'],
  ]) {
    await host.run(...words);
    await assertMended(words.join(' '));
  }
  const inside = `--net=${host.execRoot}/netns/gateway`;
  for (const words of [
    ['nft', 'flush', 'ruleset'],
    ['ip', 'route', 'flush', 'table', 'main'],
  ]) {
    await host.run('nsenter', inside, ...words);
    await assertMended(`gateway: ${words.join(' ')}`);
  }
});

test('looking for what others changed takes less than 1 % of a CPU', async () => {
  const [host] = underlay.hosts;
  const pid = host.driverPid;
  assert.ok(pid !== undefined);
  await host.call('reconcile');
  const idle = async (): Promise<number> => {
    const before = cpuTicks(pid);
    // Time itself: what is looked at is what passes of it costs.
    await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
    return (cpuTicks(pid) - before) / TICKS_PER_SECOND / (IDLE_MS / 1000);
  };
  await idle();
  const share = await idle();
  assert.ok(share < 0.01, `${share * 100} % with 10 overlay networks`);
});
