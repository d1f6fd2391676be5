/** The life of containers that users make: names, restarts, waits, removal, over a fake runtime. */
import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { SwarmError } from '../../base/errors.ts';
import { createFromDocker } from '../../daemon/api/docker/containerCreate.ts';
import { Fields } from '../../daemon/api/fields.ts';
import { restartDelay, startsWithDaemon } from '../../daemon/containers/restart.ts';
import type { StandaloneContainer } from '../../daemon/containers/standalone.ts';
import { emitRun } from '../../daemon/containers/starting.ts';
import type { FakeContainer } from '../support/fakeRuntime.ts';
import { ManualClock, settle } from '../support/manualClock.ts';
import { type ScriptedHost, scriptedHost } from '../support/scriptedHost.ts';
import { ScriptedImages } from '../support/scriptedImages.ts';

interface World {
  readonly host: ScriptedHost;
  readonly clock: ManualClock;
  create(name: string, hostConfig?: object): Promise<StandaloneContainer>;
  fake(container: StandaloneContainer): FakeContainer;
  /** Types and actions of what has been told, 'container die'. */
  events(type: string): string[];
}

function world(): World {
  const clock = new ManualClock();
  const host = scriptedHost(new ScriptedImages(), clock);
  return {
    host,
    clock,
    create: (name, hostConfig = {}) => {
      const HostConfig = { NetworkMode: 'none', ...hostConfig };
      return host.containers.create(
        createFromDocker(name, new Fields({ Image: 'web', HostConfig })),
      );
    },
    fake: ({ id }) => {
      const found = host.fakes.containers.get(id);
      if (found === undefined) throw new Error(`no container ${id}`);
      return found;
    },
    events: (type) =>
      host.containers.events
        .past()
        .filter((event) => event.type === type)
        .map((event) => event.action),
  };
}

const never = new AbortController().signal;

test('a restart waits 100 ms, then twice as long each time up to a minute, anew after 10 s', () => {
  const policy = { name: 'always', maximumRetries: 0 } as const;
  const ended = { exitCode: 0, ranMs: 0, stoppedByUser: false, restartCount: 0 };
  const delays: number[] = [];
  for (let lastDelayMs = 0; delays.length < 12; ) {
    lastDelayMs = restartDelay(policy, { ...ended, lastDelayMs }) ?? -1;
    delays.push(lastDelayMs);
  }
  assert.deepEqual(delays.slice(0, 4), [100, 200, 400, 800]);
  assert.equal(delays.at(-1), 60_000);
  assert.equal(restartDelay(policy, { ...ended, ranMs: 10_000, lastDelayMs: 800 }), 100);
});

test('each policy restarts what it says, and nothing that a user stopped', () => {
  const base = { ranMs: 0, stoppedByUser: false, restartCount: 0, lastDelayMs: 0 };
  const restarts = (name: 'no' | 'always' | 'unless-stopped' | 'on-failure', more: object = {}) =>
    restartDelay({ name, maximumRetries: 2 }, { ...base, exitCode: 1, ...more }) !== undefined;
  assert.ok(!restarts('no'));
  assert.ok(restarts('always', { exitCode: 0 }));
  assert.ok(restarts('unless-stopped', { exitCode: 0 }));
  assert.ok(restarts('on-failure', { restartCount: 1 }));
  assert.ok(!restarts('on-failure', { restartCount: 2 }));
  assert.ok(!restarts('on-failure', { exitCode: 0 }));
  for (const name of ['always', 'unless-stopped', 'on-failure'] as const) {
    assert.ok(!restarts(name, { stoppedByUser: true }), name);
  }
  const stopped = { ...base, exitCode: 137, stoppedByUser: true };
  assert.ok(startsWithDaemon({ name: 'always', maximumRetries: 0 }, stopped));
  assert.ok(!startsWithDaemon({ name: 'unless-stopped', maximumRetries: 0 }, stopped));
});

test('a name belongs to one container until it is removed or renamed', async () => {
  const { create, host } = world();
  const first = await create('twin');
  await assert.rejects(create('twin'), {
    code: 'conflict',
    message: new RegExp(`"/twin" is already in use by container "${first.id}"`),
  });
  await host.containers.rename(first, 'other');
  const second = await create('twin');
  await assert.rejects(host.containers.rename(second, 'other'), { code: 'conflict' });
  await first.remove({ force: false, volumes: false });
  await host.containers.rename(second, 'other');
  assert.equal(host.containers.find('other'), second);
  assert.equal(host.containers.find(second.id.slice(0, 8)), second);
  assert.throws(() => host.containers.find('twin'), { code: 'not_found' });
  await assert.rejects(create('bad name'), { code: 'invalid' });
});

test('one that fails is restarted as often as it may be, with back-off, and says how often', async () => {
  const { create, fake, clock } = world();
  const policy = { Name: 'on-failure', MaximumRetryCount: 2 };
  const container = await create('failing', { RestartPolicy: policy });
  await container.start();
  for (const delayMs of [100, 200]) {
    fake(container).end({ exitCode: 3 });
    await settle();
    assert.equal(container.status, 'restarting');
    await clock.advance(delayMs - 1);
    assert.equal(container.status, 'restarting');
    await clock.advance(1);
    assert.equal(container.status, 'running');
  }
  fake(container).end({ exitCode: 3 });
  await settle();
  const view = container.view();
  assert.deepEqual([view.status, view.restartCount, view.exitCode], ['exited', 2, 3]);
  await container.start();
  assert.equal(container.view().restartCount, 0, 'a user starts it anew');
});

test('a stop while it waits for its restart ends the waiting', async () => {
  const { create, fake, clock } = world();
  const container = await create('stopped', { RestartPolicy: { Name: 'always' } });
  await container.start();
  fake(container).end({ exitCode: 1 });
  await settle();
  const rested = container.wait('not-running', never);
  assert.equal(await container.stop(), true);
  assert.equal((await rested).exitCode, 1);
  await clock.advance(60_000);
  assert.equal(container.status, 'exited');
  assert.equal(await container.stop(), false);
});

test('a stop by another signal is not followed by the program’s own when its time is over', async () => {
  const { create, fake, clock } = world();
  const container = await create('deaf', {});
  await container.start();
  fake(container).deafTo = ['SIGINT'];
  const stopped = container.stop(1000, 'SIGINT');
  await settle();
  await clock.advance(1000);
  assert.equal(await stopped, true);
  assert.deepEqual(fake(container).signals, ['SIGINT', 'SIGKILL']);
});

test('a stop whose container ends in time leaves no timer behind', async () => {
  const { create, clock } = world();
  const container = await create('willing');
  await container.start();
  const before = clock.waiting;
  assert.equal(await container.stop(3_600_000, 'SIGINT'), true);
  assert.equal(clock.waiting, before);
});

test('events of a run name the cluster’s networks as its users do', async () => {
  const { host, create } = world();
  const { record } = await create('swarmed');
  const { events, networks } = host.containers;
  networks.useNames((id) => (id === 'overlay-id' ? 'backend' : undefined));
  const on = { ...record, networks: { 'overlay-id': record.networks['none'] } };
  emitRun({ events, networks }, on, 'connect');
  const told = events.past().find((event) => event.type === 'network');
  assert.equal(told?.attributes['name'], 'backend');
});

test('what waits for the next exit, for rest and for removal is told each in its time', async () => {
  const { create, fake, events } = world();
  const container = await create('waited', { AutoRemove: true });
  const told: string[] = [];
  const note = (what: string) => (status: { exitCode: number }) => {
    told.push(`${what} ${status.exitCode}`);
  };
  const waits = [
    container.wait('next-exit', never).then(note('exit')),
    container.wait('removed', never).then(note('removed')),
  ];
  await container.start();
  waits.push(container.wait('not-running', never).then(note('rest')));
  fake(container).end({ exitCode: 4 });
  await Promise.all(waits);
  assert.deepEqual(told.slice(0, 2).sort(), ['exit 4', 'rest 4']);
  assert.equal(told[2], 'removed 4');
  assert.deepEqual(events('container'), ['create', 'start', 'die', 'destroy']);
});

test('a start that fails tells why, keeps its exit code, and removes what was to be removed', async () => {
  const { create, host, fake } = world();
  const { SwarmError } = await import('../../base/errors.ts');
  host.fakes.containers.gates.set('start', async () => {
    throw new SwarmError('invalid', 'cannot run "x"', { detail: { exitCode: '127' } });
  });
  const container = await create('broken');
  await assert.rejects(container.start(), /cannot run "x": executable file not found in \$PATH/);
  const { status, exitCode, error } = container.view();
  assert.deepEqual([status, exitCode], ['exited', 127]);
  assert.match(error, /executable file not found/);
  assert.equal(fake(container).state, 'created');
  const doomed = await create('doomed', { AutoRemove: true });
  const gone = doomed.wait('removed', never);
  await assert.rejects(doomed.start());
  await gone;
  assert.equal(host.fakes.containers.get(doomed.id), undefined);
});

test('removal is refused while it runs, unless it is forced, and lets go of everything', async () => {
  const { create, host } = world();
  const container = await create('held', { NetworkMode: 'bridge', Binds: ['box:/data'] });
  await container.start();
  assert.ok(host.fakes.network.attached.has(container.id));
  assert.deepEqual(host.volumes.users('box'), [container.id]);
  await assert.rejects(container.remove({ force: false, volumes: false }), {
    code: 'conflict',
    message: /container is running: stop the container before removing or force remove/,
  });
  await container.remove({ force: true, volumes: true });
  assert.ok(!host.fakes.network.attached.has(container.id));
  assert.deepEqual(host.volumes.users('box'), []);
  assert.ok(host.volumes.get('box') !== undefined, 'a named volume stays');
  assert.deepEqual(host.containers.list(), []);
});

test('a network that cannot be attached fails the start and leaves nothing attached', async () => {
  const { create, host, events } = world();
  const container = await create('cut', { NetworkMode: 'bridge' });
  host.fakes.network.attach = async () => {
    throw new Error('no bridge here');
  };
  await assert.rejects(container.start(), /no bridge here/);
  assert.equal(container.view().error, 'no bridge here');
  assert.equal(host.fakes.network.attached.size, 0);
  assert.ok(!events('container').includes('start'));
});

test('a new daemon takes up what runs, brings back what a policy wants, and drops the rest', async () => {
  const { create, host, fake, events } = world();
  const always = { RestartPolicy: { Name: 'always' } };
  const running = await create('running', { Binds: ['box:/data'] });
  await running.start();
  const stopped = await create('stopped', { RestartPolicy: { Name: 'unless-stopped' } });
  const wanted = await create('wanted', always);
  const over = await create('over');
  const leaving = await create('leaving', { AutoRemove: true });
  await create('never', always);
  for (const each of [stopped, wanted, over, leaving]) await each.start();
  await stopped.stop();
  const pid = fake(running).pid;
  // The daemon is gone while these end.
  host.containers.close();
  for (const each of [wanted, over, leaving]) fake(each).end({ exitCode: 137 });
  const orphan = await create('orphan');
  const hurt = await create('hurt');
  const recordOf = (one: StandaloneContainer): string =>
    fake(one).config.hostsFile?.replace(/standalone.*$/, `standalone/${one.id}.json`) ?? '';
  rmSync(recordOf(orphan));
  writeFileSync(recordOf(hurt), '{');
  const { containers, volumes } = await host.reopen();
  await settle();
  const status = (name: string) => containers.find(name).view().status;
  assert.equal(status('running'), 'running');
  assert.equal(fake(running).pid, pid);
  assert.deepEqual(volumes.users('box'), [running.id]);
  assert.equal(status('wanted'), 'running');
  assert.equal(status('over'), 'exited');
  assert.equal(status('stopped'), 'exited', 'a user had stopped it');
  assert.equal(status('never'), 'created', 'it was never started');
  assert.throws(() => containers.find('leaving'), { code: 'not_found' });
  assert.equal(host.fakes.containers.get(orphan.id), undefined, 'without a record');
  assert.ok(host.fakes.containers.get(hurt.id), 'files of a user, though its record is damaged');
  fake(running).end({ exitCode: 5 });
  await settle();
  assert.equal(containers.find('running').view().exitCode, 5);
  assert.ok(!events('container').includes('oom'));
});

test('a kill that comes just after the program has ended by itself is no error', async () => {
  const { create, fake } = world();
  const container = await create('ends');
  await container.start();
  const inside = fake(container);
  inside.kill = async () => {
    inside.end({ exitCode: 0 });
    throw new SwarmError('not_found', 'cannot kill the container: it has ended');
  };
  await container.kill('SIGKILL');
  assert.equal(container.status, 'exited');
});

test('a removal that a dying daemon left half done is finished by the next', async () => {
  const { host, create } = world();
  const container = await create('half', { NetworkMode: 'bridge', AutoRemove: true });
  await container.start();
  assert.ok(host.fakes.network.attached.has(container.id));
  // Its files were gone already, its place on the network and its record were not.
  host.fakes.containers.all.delete(container.id);
  const { containers } = await host.reopen();
  assert.throws(() => containers.find('half'), { code: 'not_found' });
  assert.ok(!host.fakes.network.attached.has(container.id), 'its network namespace was left');
});
