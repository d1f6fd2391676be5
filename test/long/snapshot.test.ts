/**
 * A manager that was off while more was written than the log keeps (10,000 entries and a snapshot)
 * comes back by a snapshot of another's store; one that restarts begins with its own.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { call } from '../bench/swarmClient.ts';
import { lab, leader, raise, until, untilReady, WEB_IMAGE } from '../support/lab.ts';

const HOSTS = ['h1', 'h2', 'h3'];
const SERVICES = 40;
/** Together a little more than the 10,000 entries after which a snapshot is taken. */
const WRITES_EACH = 265;

interface Service {
  readonly ID: string;
  readonly Version: { readonly Index: number };
  readonly Spec: { readonly Name: string; readonly Labels?: Record<string, string> };
}

before(async () => {
  await raise(3, 3);
});

after(async () => {
  await lab('down');
});

/** A service without tasks, written again and again; the label of the last write. */
async function write(host: string, name: string): Promise<string> {
  const { ID } = await call<{ ID: string }>(host, 'POST', '/services/create', {
    Name: name,
    TaskTemplate: { ContainerSpec: { Image: WEB_IMAGE } },
    Mode: { Replicated: { Replicas: 0 } },
  });
  let value = '';
  for (let at = 1; at <= WRITES_EACH; at += 1) {
    const service = await call<Service>(host, 'GET', `/services/${ID}`);
    value = `${name}-${at}`;
    const path = `/services/${ID}/update?version=${service.Version.Index}`;
    await call(host, 'POST', path, { ...service.Spec, Labels: { value } });
  }
  return value;
}

test('a manager that missed more than the log keeps is brought up by a snapshot', async () => {
  const leading = await leader('h1');
  const off = HOSTS.find((host) => host !== leading);
  assert.ok(off !== undefined);
  await lab('kill', off);
  const names = Array.from({ length: SERVICES }, (_, at) => `s${at}`);
  const values = await Promise.all(names.map((name) => write(leading, name)));
  const check = async (host: string): Promise<void> => {
    const own = await call<Service[]>(host, 'GET', '/services');
    const held = new Map(own.map((service) => [service.Spec.Name, service.Spec.Labels?.['value']]));
    for (const [at, name] of names.entries()) assert.equal(held.get(name), values[at]);
    const others = await call<Service[]>(leading, 'GET', '/services');
    const byName = (left: Service, right: Service): number => (left.ID < right.ID ? -1 : 1);
    assert.deepEqual(own.sort(byName), others.sort(byName));
  };
  await lab('start', off);
  await untilReady(off, 3, 60_000);
  await until('it holds what the others hold', 30_000, async () => {
    await check(off);
    return true;
  });
  // Its own snapshot, and what came behind it, are there when its daemon starts again.
  await lab('stop-daemon', off);
  await lab('start-daemon', off);
  await untilReady(off, 3, 60_000);
  await check(off);
});
