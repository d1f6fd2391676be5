/**
 * The main job in the lab: three managers, one service on an overlay network, and what is taken
 * away from them: a container, a supervisor, a daemon, a host, the leader, all managers at once.
 * The tests share one lab and run in order; each leaves three hosts ready and `web` running.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import {
  containerPid,
  get,
  inside,
  lab,
  leader,
  loadImage,
  nodes,
  raise,
  running,
  startTimeInside,
  swarm,
  tasks,
  until,
  untilReady,
  untilRunning,
  WEB_IMAGE,
} from '../support/lab.ts';

const HOSTS = ['h1', 'h2', 'h3'];
const CLIENT = '10.99.0.100';
const FAILOVER_MS = 15_000;

const addressOf = (host: string): string => `10.99.0.${10 + Number(host.slice(1))}`;

/** Asks each host's published port from the outside; the answers. */
async function askAll(port: number): Promise<string[]> {
  const answers: string[] = [];
  for (const host of HOSTS) answers.push(await get('client', `http://${addressOf(host)}:${port}/`));
  return answers;
}

/** A host other than those named. */
function other(...not: string[]): string {
  const found = HOSTS.find((host) => !not.includes(host));
  assert.ok(found !== undefined);
  return found;
}

before(async () => {
  await raise(3, 3);
  await loadImage(...HOSTS);
});

after(async () => {
  await lab('down');
});

test('three hosts are ready managers, one of them leads', async () => {
  const rows = await nodes('h2');
  assert.deepEqual(rows.map((row) => row.hostname).sort(), HOSTS);
  assert.equal(rows.filter((row) => row.manager === 'Leader').length, 1);
  assert.equal(rows.filter((row) => row.manager === 'Reachable').length, 2);
});

test('a service of three replicas runs, one on each host', async () => {
  await swarm('h1', 'network', 'create', '--driver', 'overlay', 'demo');
  await swarm(
    'h1',
    ...['service', 'create', '--name', 'web', '--replicas', '3', '--network', 'demo'],
    // Nothing moves by itself to a host that is back: what ran is looked for where it was.
    ...['--restart-delay', '0s', '--publish', '8080:80', '--rebalance', 'off'],
    ...['--env', 'TASK_NAME={{.Task.Name}}', '--env', 'NODE_HOSTNAME={{.Node.Hostname}}'],
    WEB_IMAGE,
  );
  const rows = await untilRunning('h1', 'web', 3);
  assert.deepEqual(rows.map((row) => row.node).sort(), HOSTS);
});

test('a container on every host reaches every replica by the service name', async () => {
  await swarm(
    'h1',
    ...['service', 'create', '--name', 'probe', '--mode', 'global', '--network', 'demo'],
    ...['--restart-condition', 'none', '--detach', WEB_IMAGE, 'get', 'http://web/', '12'],
  );
  const seen = await until('every probe has spoken', 30_000, async () => {
    const lines = (await swarm('h1', 'service', 'logs', 'probe')).split('\n');
    return lines.filter((line) => line.includes('task=')).length === 36 ? lines : undefined;
  });
  for (const host of HOSTS) {
    const answered = seen.filter((line) => line.includes(`host=${host}`));
    assert.ok(answered.length > 0, `the replica on ${host} never answered`);
    assert.ok(answered.length < 36, `only the replica on ${host} answered`);
  }
  await swarm('h1', 'service', 'rm', 'probe');
});

test('the outside client reaches the service on every host and its address is kept', async () => {
  const answers = await until('published everywhere', 10_000, () => askAll(8080));
  for (const answer of answers) assert.match(answer, new RegExp(`client=${CLIENT}`));
});

test('a killed container is replaced in its slot', async () => {
  const [task] = await running('h1', 'web');
  const pid = await containerPid('h1', task.id);
  assert.equal((await inside(task.node, 'kill', '-9', String(pid))).code, 0);
  await until('another task has the slot', FAILOVER_MS, async () => {
    const rows = await running('h1', 'web');
    const heir = rows.find((row) => row.name === task.name);
    return rows.length === 3 && heir !== undefined && heir.id !== task.id ? heir : undefined;
  });
});

test('a killed supervisor fails its task with the reason, and it is replaced', async () => {
  const [task] = await running('h1', 'web');
  const pid = await containerPid('h1', task.id);
  const parent = await inside(task.node, 'ps', '-o', 'ppid=', '-p', String(pid));
  assert.equal((await inside(task.node, 'kill', '-9', parent.stdout.trim())).code, 0);
  await until('another task has the slot', FAILOVER_MS, async () => {
    const rows = await running('h1', 'web');
    return rows.length === 3 && rows.every((row) => row.id !== task.id) ? rows : undefined;
  });
  const errors = await swarm('h1', 'service', 'ps', 'web', '--no-trunc', '--format', '{{.Error}}');
  assert.match(errors, /supervisor lost/);
  assert.notEqual((await inside(task.node, 'kill', '-0', String(pid))).code, 0);
});

test('containers do not notice that the daemon is killed and started again', async () => {
  const before = await untilRunning('h1', 'web', 3);
  const host = other(await leader('h1'));
  const task = before.find((row) => row.node === host);
  assert.ok(task !== undefined);
  const pid = await containerPid('h1', task.id);
  const started = await startTimeInside(host, pid);
  await lab('stop-daemon', host);
  assert.equal(await startTimeInside(host, pid), started);
  await lab('start-daemon', host);
  await untilReady('h1', 3);
  assert.equal(await startTimeInside(host, pid), started);
  const rows = await untilRunning('h1', 'web', 3);
  assert.deepEqual(rows.map((row) => row.id).sort(), before.map((row) => row.id).sort());
  // Managed again: its death is noticed.
  await inside(host, 'kill', '-9', String(pid));
  await until('another task has the slot', FAILOVER_MS, async () => {
    const now = await running('h1', 'web');
    return now.length === 3 && now.every((row) => row.id !== task.id) ? now : undefined;
  });
});

test('the replicas of a host that is cut off come back elsewhere, and it may return', async () => {
  const leading = await leader('h1');
  const lost = other(leading);
  await lab('cut', lost);
  const rows = await until('replaced', FAILOVER_MS, async () => {
    const now = await running(leading, 'web');
    return now.length === 3 && now.every((row) => row.node !== lost) ? now : undefined;
  });
  assert.equal(rows.length, 3);
  await lab('heal', lost);
  await untilReady(leading, 3);
  await until('what it still ran is stopped', FAILOVER_MS, async () => {
    const own = await swarm(leading, 'node', 'ps', lost, '--filter', 'desired-state=running');
    return own.includes('web.') ? undefined : true;
  });
});

test('a leader cut off loses its lead, refuses writes, and rejoins without doubles', async () => {
  const old = await leader('h1');
  const rest = HOSTS.filter((host) => host !== old);
  await lab('cut', old);
  const next = await until('another leads', FAILOVER_MS, async () => {
    const found = await leader(rest[0]);
    return found === old ? undefined : found;
  });
  await swarm(next, 'service', 'update', '--label-add', 'written=elsewhere', '--detach', 'web');
  const refused = await inside(old, 'tsswarm', 'service', 'update', '--label-add', 'x=y', 'web');
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /quorum|leader/);
  await until('replaced', FAILOVER_MS, async () => {
    const now = await running(next, 'web');
    return now.length === 3 && now.every((row) => row.node !== old) ? now : undefined;
  });
  await lab('heal', old);
  await untilReady(next, 3);
  await untilRunning(old, 'web', 3);
  const labels = await swarm(old, 'service', 'inspect', 'web', '--format', '{{json .Spec.Labels}}');
  assert.match(labels, /"written":"elsewhere"/);
  assert.doesNotMatch(labels, /"x"/);
});

test('a host that dies whole is replaced, and takes its place again when started', async () => {
  const leading = await leader('h1');
  const lost = other(leading);
  await lab('kill', lost);
  await until('replaced', FAILOVER_MS, async () => {
    const now = await running(leading, 'web');
    return now.length === 3 && now.every((row) => row.node !== lost) ? now : undefined;
  });
  await lab('start', lost);
  await untilReady(leading, 3);
  await untilRunning(lost, 'web', 3);
});

test('a drained host is emptied and may be used again', async () => {
  const host = other(await leader('h1'));
  await swarm('h1', 'node', 'update', '--availability', 'drain', host);
  await until('drained', FAILOVER_MS, async () => {
    const now = await running('h1', 'web');
    return now.length === 3 && now.every((row) => row.node !== host) ? now : undefined;
  });
  await swarm('h1', 'node', 'update', '--availability', 'active', host);
  await swarm('h1', 'service', 'update', '--force', 'web');
  await until('used again', 60_000, async () => {
    const now = await running('h1', 'web');
    return now.length === 3 && now.some((row) => row.node === host) ? now : undefined;
  });
});

/** Demotes a host until it is a worker, and promotes it until it is a manager again. */
async function demoteAndPromote(host: string): Promise<void> {
  const asked = other(host);
  await swarm(asked, 'node', 'demote', host);
  await until('a worker', 30_000, async () => {
    const row = (await nodes(asked)).find((node) => node.hostname === host);
    return row?.manager === '' && row.status === 'Ready' ? row : undefined;
  });
  await until('it knows', 10_000, async () => {
    const refused = await inside(host, 'tsswarm', 'node', 'ls');
    return refused.code === 1 && /not a (swarm )?manager/.test(refused.stderr) ? true : undefined;
  });
  await untilRunning(asked, 'web', 3);
  await swarm(asked, 'node', 'promote', host);
  await until('a manager again', 30_000, async () => {
    const row = (await nodes(host)).find((node) => node.hostname === host);
    return row?.manager === 'Reachable' ? row : undefined;
  });
}

test('a manager is demoted and promoted again', async () => {
  await demoteAndPromote(other('h1', await leader('h1')));
});

test('the founder is demoted and joins the managers again, and so is who leads then', async () => {
  await demoteAndPromote('h1');
  await demoteAndPromote(await leader('h1'));
});

test('all three daemons killed at once lose nothing and stop nothing', async () => {
  const before = await untilRunning('h1', 'web', 3);
  const pids = await Promise.all(before.map((row) => containerPid('h1', row.id)));
  const services = await swarm(
    'h1',
    'service',
    'ls',
    '--format',
    '{{.ID}} {{.Name}} {{.Replicas}}',
  );
  for (const host of HOSTS) await lab('stop-daemon', host);
  await Promise.all(HOSTS.map((host) => lab('start-daemon', host)));
  await untilReady('h2', 3, 60_000);
  const rows = await untilRunning('h2', 'web', 3);
  assert.deepEqual(rows.map((row) => row.id).sort(), before.map((row) => row.id).sort());
  const after = await Promise.all(before.map((row) => containerPid('h2', row.id)));
  assert.deepEqual(after, pids);
  const now = await swarm('h2', 'service', 'ls', '--format', '{{.ID}} {{.Name}} {{.Replicas}}');
  assert.equal(now, services);
});

test('all three hosts powered off at once come back with the service', async () => {
  for (const host of HOSTS) await lab('kill', host);
  await Promise.all(HOSTS.map((host) => lab('start', host)));
  await untilReady('h1', 3, 60_000);
  await untilRunning('h1', 'web', 3, 60_000);
  const answers = await until('published everywhere', 20_000, () => askAll(8080));
  for (const answer of answers) assert.match(answer, new RegExp(`client=${CLIENT}`));
});

test('a service that is removed leaves no task, container or rule', async () => {
  await swarm('h1', 'service', 'rm', 'web');
  await until('no container left', FAILOVER_MS, async () => {
    for (const host of HOSTS) {
      const left = await inside(host, 'sh', '-c', 'ps ax -o args | grep -c "^/web serve" || :');
      if (left.stdout.trim() !== '0') return undefined;
    }
    return true;
  });
  await until('the network can go', FAILOVER_MS, async () => {
    const gone = await inside('h1', 'tsswarm', 'network', 'rm', 'demo');
    return gone.code === 0 ? true : undefined;
  });
  assert.deepEqual(await tasks('h1', 'web').catch(() => []), []);
});
