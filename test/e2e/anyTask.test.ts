/**
 * Any task from any host, through Docker's own client and tsswarm's: exec, cp, logs, top; what is
 * pending and why; tasks that return to a host that came back; a drain without loss; places on
 * attachable networks. One lab of three managers, in order.
 */
import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  api,
  clock,
  containerPid,
  follow,
  inside,
  lab,
  leader,
  loadImage,
  nodes,
  type Outcome,
  raise,
  running,
  swarm,
  until,
  untilReady,
  untilRunning,
  WEB_IMAGE,
} from '../support/lab.ts';
import { onTerminal } from '../support/labHosts.ts';
import { OutsideClient } from '../support/outsideClient.ts';

/** A pace, so that asking does not take the processor from what is asked. */
const ASK_EVERY_MS = 5;
const HOSTS = ['h1', 'h2', 'h3'];
const BUSYBOX = '/bin/busybox';
const PORT = 8091;
const SHELL_MOUNT = `type=bind,source=${BUSYBOX},target=${BUSYBOX},readonly`;
const START_FIRST = ['--update-order', 'start-first'];
let client: OutsideClient;

before(async () => {
  await raise(3, 3);
  await loadImage(...HOSTS);
  client = new OutsideClient();
});

after(async () => {
  client?.stop();
  await lab('down');
});

function docker(host: string, ...args: string[]): Promise<Outcome> {
  return inside(host, 'docker', ...args);
}

/** Docker's command on a host; its standard output, when it ends well. */
async function dockerOk(host: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await docker(host, ...args);
  assert.equal(code, 0, `docker ${args.join(' ')} on ${host}: ${stderr}`);
  return stdout.trim();
}

interface Place {
  readonly task: string;
  readonly host: string;
  readonly container: string;
}

/** The running tasks of a service with their containers. */
async function places(service: string): Promise<Place[]> {
  const rows = await running('h1', service);
  return Promise.all(
    rows.map(async ({ id, node }) => {
      const task = JSON.parse(await api('h1', `/tasks/${id}`)) as {
        ID: string;
        Status: { ContainerStatus: { ContainerID: string } };
      };
      const container = task.Status.ContainerStatus.ContainerID;
      return { task: task.ID, host: node, container };
    }),
  );
}

async function placeOn(service: string, host: string): Promise<Place> {
  const found = (await places(service)).find((place) => place.host === host);
  assert.ok(found, `${service} has no task on ${host}`);
  return found;
}

/** Asks the published port all the time; failures are counted until stopped. */
function hammer(): { stop(): Promise<{ asked: number; failures: string[] }> } {
  let stopped = false;
  let asked = 0;
  const failures: string[] = [];
  const worker = async (): Promise<void> => {
    while (!stopped) {
      asked += 1;
      const at = new Date(clock.wallMs()).toISOString();
      await client
        .get(`http://10.99.0.11:${PORT}/`)
        .catch((error: unknown) => failures.push(`${at} ${String(error)}`));
      await clock.sleep(ASK_EVERY_MS);
    }
  };
  const workers = [worker(), worker()];
  return {
    stop: async () => {
      await until('enough has been asked', 60_000, () => asked > 100 || undefined);
      stopped = true;
      await Promise.all(workers);
      return { asked, failures };
    },
  };
}

test('docker exec runs in a task on another host, with input, exit code and a terminal', async () => {
  const shell = ['service', 'create', '--name', 'shell', '--mount', SHELL_MOUNT];
  await swarm('h1', ...shell, '--mode', 'global', WEB_IMAGE);
  const { container, host } = await placeOn('shell', 'h3');
  assert.equal(host, 'h3');
  const said = await dockerOk('h1', 'exec', container, BUSYBOX, 'hostname');
  assert.equal(said, container.slice(0, 12));
  const failed = await docker('h2', 'exec', container, BUSYBOX, 'sh', '-c', 'echo no >&2; exit 3');
  assert.deepEqual([failed.code, failed.stderr.split('\n')[0]], [3, 'no']);
  const missing = await docker('h1', 'exec', container, '/none');
  assert.equal(missing.code, 127, missing.stderr);
  const line = `echo typed | docker exec -i ${container} ${BUSYBOX} tr a-z A-Z`;
  const piped = await inside('h1', 'sh', '-c', line);
  assert.equal(piped.stdout, 'TYPED\n');
  // Docker's client tells the size again once the program runs: it is looked at for up to a minute.
  const look = `s=$(${BUSYBOX} stty size); [ "$s" = "33 77" ] && break; ${BUSYBOX} sleep 0.1`;
  const program = `${BUSYBOX} sh -c 'for i in $(${BUSYBOX} seq 600); do ${look}; done; echo $s'`;
  const command = `stty rows 33 cols 77; docker exec -it ${container} ${program}`;
  const terminal = onTerminal('h1', command);
  assert.equal((await terminal.ended).code, 0);
  assert.match(terminal.said(), /33 77/);
});

test('docker cp, logs, top and inspect reach a task on another host', async () => {
  const { container, task } = await placeOn('shell', 'h3');
  const file = join(tmpdir(), `any-${process.pid}`);
  try {
    writeFileSync(file, 'carried\n');
    await dockerOk('h1', 'cp', file, `${container}:/tmp/in`);
    assert.equal(await dockerOk('h3', 'exec', container, BUSYBOX, 'cat', '/tmp/in'), 'carried');
    await dockerOk('h2', 'cp', `${container}:/tmp/in`, `${file}.back`);
    assert.equal(readFileSync(`${file}.back`, 'utf8'), 'carried\n');
  } finally {
    for (const path of [file, `${file}.back`]) rmSync(path, { force: true });
  }
  assert.match(await dockerOk('h1', 'logs', container), /serves on port 80/);
  assert.match(await dockerOk('h2', 'service', 'logs', task), /serves on port 80/);
  assert.match(await dockerOk('h1', 'top', container), /\/web serve/);
  assert.equal(
    await dockerOk('h1', 'inspect', '--format', '{{.State.Running}}', container),
    'true',
  );
  const refused = await docker('h1', 'stop', container);
  assert.notEqual(refused.code, 0, 'only what reads or runs in a task is carried');
});

test('a client that is killed ends its exec and nothing else; a lost host is named', async () => {
  const { container, task } = await placeOn('shell', 'h3');
  const pid = await containerPid('h1', task);
  const cats = async (): Promise<number> =>
    (await dockerOk('h3', 'top', container)).split('\n').filter((row) => row.includes('cat'))
      .length;
  const held = follow('h1', 'sh', '-c', `sleep 600 | docker exec -i ${container} ${BUSYBOX} cat`);
  await until('the program to run', 10_000, async () => (await cats()) === 1 || undefined);
  held.stop();
  await until('its end', 15_000, async () => (await cats()) === 0 || undefined);
  assert.equal(await containerPid('h1', task), pid);

  const long = docker('h1', 'exec', container, BUSYBOX, 'sleep', '120');
  await until('the program to run', 10_000, async () => {
    return (await dockerOk('h3', 'top', container)).includes('sleep 120') || undefined;
  });
  await lab('cut', 'h3');
  const { code, stderr } = await long;
  assert.notEqual(code, 0);
  assert.match(stderr, /h3 cannot be reached/);
  await lab('heal', 'h3');
  await untilReady('h1', 3);
});

test('why says what each filter refused, and that all is well', async () => {
  const create = ['service', 'create', '-d', '--name', 'picky'];
  await swarm('h1', ...create, '--constraint', 'node.labels.zone==moon', WEB_IMAGE);
  const said = await until('the reason', 10_000, async () => {
    const text = await swarm('h2', 'why', 'picky');
    return /constraint not met/.test(text) ? text : undefined;
  });
  assert.match(said, /^service picky: 0 of 1 tasks run\n/);
  assert.match(
    said,
    /picky\.1 fits on no node: constraint not met on 3 nodes \(h1, h2, h3\): node\.labels\.zone==moon/,
  );
  await swarm('h1', 'service', 'rm', 'picky');
  assert.equal(await swarm('h3', 'why', 'shell'), 'service shell: all 3 tasks run');
  const missing = await inside('h1', 'tsswarm', 'why', 'nothing');
  assert.equal(missing.code, 1);
  assert.match(missing.stderr, /^tsswarm: task nothing not found/);
});

test('tasks return to a host that was lost and is back, without a failed request', async () => {
  const create = ['service', 'create', '--name', 'site', '--replicas', '6'];
  await swarm('h1', ...create, '-p', `${PORT}:80`, WEB_IMAGE);
  await untilRunning('h1', 'site', 6);
  await lab('kill', 'h3');
  await until('six on two hosts', 40_000, async () => {
    const rows = await running('h1', 'site');
    return (rows.length === 6 && rows.every(({ node }) => node !== 'h3')) || undefined;
  });
  // Asked for all along: what is planned is begun ten seconds after the host is back.
  const planned = until('a plan', 60_000, async () => {
    const plan = await swarm('h2', 'rebalance', '--plan', '--format', '{{.From}} {{.To}}');
    return plan.includes(' h3') ? plan : undefined;
  });
  await lab('start', 'h3');
  const requests = hammer();
  const plan = await planned;
  assert.match(plan, /^(h[12] h3\n?){2}$/, 'the fewest moves');
  await until('two of them on h3', 60_000, async () => {
    const rows = await running('h1', 'site');
    const back = rows.filter(({ node }) => node === 'h3').length;
    return (rows.length === 6 && back === 2) || undefined;
  });
  const { asked, failures } = await requests.stop();
  assert.deepEqual(failures, [], `of ${asked} requests`);
  assert.match(await swarm('h1', 'rebalance', '--plan'), /nothing to move/);
});

test('a drain where the order is start-first loses no capacity and no request', async () => {
  await swarm('h1', 'service', 'update', ...START_FIRST, '--rebalance', 'off', 'site');
  const requests = hammer();
  await swarm('h1', 'node', 'update', '--availability', 'drain', 'h2');
  let least = 6;
  await until('h2 to be empty', 40_000, async () => {
    const rows = await running('h1', 'site');
    least = Math.min(least, rows.length);
    return (rows.length === 6 && rows.every(({ node }) => node !== 'h2')) || undefined;
  });
  const { asked, failures } = await requests.stop();
  assert.deepEqual(failures, [], `of ${asked} requests`);
  assert.equal(least, 6, 'capacity was lost');
  await swarm('h1', 'node', 'update', '--availability', 'active', 'h2');
  await untilReady('h1', 3);
});

test('a follower’s watch shows heartbeats and how far managers are', async () => {
  const first = await leader('h1');
  const follower = HOSTS.find((host) => host !== first) ?? 'h1';
  const watch = follow(follower, 'tsswarm', 'watch', '--json');
  try {
    await until('the ages', 15_000, () => {
      const cluster = watch.lines
        .map((line) => JSON.parse(line) as { cluster?: Picture })
        .findLast((message) => message.cluster !== undefined)?.cluster;
      const ages = cluster?.nodes.map(({ heartbeatAgeMs }) => heartbeatAgeMs) ?? [];
      const lags = cluster?.managers.filter(({ isLeader }) => !isLeader).map(({ lag }) => lag);
      const known = ages.length === 3 && ages.every((age) => age !== null);
      return (known && lags?.every((lag) => lag !== null)) || undefined;
    });
  } finally {
    watch.stop();
  }
});

interface Picture {
  readonly nodes: readonly { readonly heartbeatAgeMs: number | null }[];
  readonly managers: readonly { readonly isLeader: boolean; readonly lag: number | null }[];
}

test('a container of one’s own joins an attachable network and is found by name', async () => {
  await dockerOk('h1', 'network', 'create', '-d', 'overlay', '--attachable', 'att');
  await dockerOk('h1', 'network', 'create', '-d', 'overlay', 'own');
  await swarm('h1', 'service', 'create', '--name', 'near', '--network', 'att', WEB_IMAGE);
  await dockerOk('h2', 'run', '-d', '--name', 'box', '--network', 'att', WEB_IMAGE, 'serve', '81');
  assert.match(await dockerOk('h2', 'exec', 'box', '/web', 'get', 'http://near/'), /^task=/);
  const far = ['run', '--rm', '--network', 'att', WEB_IMAGE, 'get', 'http://box:81/'];
  const answer = await dockerOk('h3', ...far);
  const id = await dockerOk('h2', 'inspect', '--format', '{{.Id}}', 'box');
  assert.ok(answer.startsWith(`task=${id.slice(0, 12)}`), answer);
  await lab('stop-daemon', 'h2');
  await lab('start-daemon', 'h2');
  await until('the place to be there as before', 15_000, async () => {
    return (await docker('h3', ...far)).stdout.startsWith(`task=${id.slice(0, 12)}`) || undefined;
  });
  await dockerOk('h2', 'restart', '-t', '1', 'box');
  assert.ok((await dockerOk('h3', ...far)).startsWith(`task=${id.slice(0, 12)}`));
  await dockerOk('h3', 'run', '-d', '--name', 'late', WEB_IMAGE, 'serve', '82');
  await dockerOk('h3', 'network', 'connect', '--alias', 'later', 'att', 'late');
  assert.match(await dockerOk('h3', 'exec', 'late', '/web', 'get', 'http://near/'), /^task=/);
  await dockerOk('h2', 'exec', 'box', '/web', 'get', 'http://later:82/');
  await dockerOk('h3', 'restart', '-t', '1', 'late');
  await dockerOk('h2', 'exec', 'box', '/web', 'get', 'http://late:82/');
  await dockerOk('h3', 'network', 'disconnect', 'att', 'late');
  assert.notEqual((await docker('h3', 'exec', 'late', '/web', 'get', 'http://near/')).code, 0);
  await dockerOk('h3', 'rm', '-f', 'late');
  const refused = await docker('h3', 'run', '--rm', '--network', 'own', WEB_IMAGE, 'id');
  assert.equal(refused.code, 125);
  assert.match(refused.stderr, /network own not manually attachable/);
  const busy = await docker('h1', 'network', 'rm', 'att');
  assert.notEqual(busy.code, 0);
  await dockerOk('h2', 'rm', '-f', 'box');
  await swarm('h1', 'service', 'rm', 'near');
  await dockerOk('h1', 'network', 'rm', 'att');
  assert.equal((await nodes('h1')).length, 3);
});
