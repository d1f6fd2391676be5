/** Programs run in a container besides its own, and clients attached to it. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { after, before, test } from 'node:test';
import { hasCode } from '../../base/errors.ts';
import type {
  Container,
  ContainerConfig,
  ContainerTable,
  ExecConfig,
} from '../../runtime/container/types.ts';
import { exec } from '../support/probeExec.ts';
import { cpuTicks, parentOf, untilWritesNoMore, writtenBytes } from '../support/processes.ts';
import { logText, makeTestHost, started } from '../support/rootfs.ts';
import { until } from '../support/until.ts';

/** Of `probe lines N 60`. */
const LINE_BYTES = 70;
const host = makeTestHost('exec');
let table: ContainerTable;

before(async () => {
  table = await host.open();
});

after(async () => {
  await host.end(table);
});

const run = (args: readonly string[], extra?: Partial<ContainerConfig>): Promise<Container> =>
  started(table, host.config(['/bin/probe', ...args], extra));

async function text(stream: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

async function output(
  container: Container,
  args: readonly string[],
  extra: Partial<ExecConfig> = {},
): Promise<string> {
  const one = await container.exec(exec(args, extra));
  const [out] = await Promise.all([text(one.streams.stdout), text(one.streams.stderr)]);
  assert.equal(await one.wait(), 0);
  return out.trimEnd();
}

test("an exec runs in the container's namespaces, groups and root, and tells its end", async () => {
  const container = await run(['sleep', '60'], { env: ['A=1', 'B=2'] });
  const one = await container.exec(exec(['copy', '7'], { stdin: true }));
  for (const kind of ['mnt', 'uts', 'ipc', 'net', 'pid', 'cgroup']) {
    const own = readlinkSync(`/proc/${one.pid}/ns/${kind}`);
    assert.equal(own, readlinkSync(`/proc/${container.pid}/ns/${kind}`), kind);
  }
  const groups = (pid: number): string => readFileSync(`/proc/${pid}/cgroup`, 'utf8');
  assert.equal(groups(one.pid), groups(container.pid));
  assert.deepEqual([...(await container.processes())].sort(), [container.pid, one.pid].sort());
  one.streams.stdin?.write('hello ');
  one.streams.stdin?.end('there\n');
  assert.equal(await text(one.streams.stdout), 'hello there\nend of input\n');
  assert.equal(await one.wait(), 7);
  assert.match(await output(container, ['whoami']), /uid=0 gid=0 cwd=\/ host=testhost/);
  const env = await output(container, ['env'], { env: ['B=3', 'C=4'] });
  assert.deepEqual(
    env.split('\n').filter((line) => /^[A-C]=/.test(line)),
    ['A=1', 'B=3', 'C=4'],
  );
  assert.equal(await logText(container), '');
  await container.remove();
});

function readWords(file: string): readonly string[] {
  return existsSync(file) ? readFileSync(file, 'utf8').trim().split(' ') : [];
}

/** Those of v2 that a group with processes of its own cannot hand on. */
const DOMAIN_CONTROLLERS = new Set(['memory', 'io', 'hugetlb', 'rdma', 'misc']);

test('an exec goes where the first process is in a container with groups of its own', async (t) => {
  const container = await run(['sleep', '60']);
  const hierarchy = host.cgroups.hierarchies.find(({ version }) => version === 2);
  const dir = host.cgroups
    .plan(container.config.id, {})
    .groups.find(({ version }) => version === 2)?.dir;
  const controllers = readWords(`${hierarchy?.path}/cgroup.controllers`);
  const controller = controllers.find((name) => DOMAIN_CONTROLLERS.has(name));
  if (hierarchy === undefined || dir === undefined || controller === undefined) {
    return t.skip('no cgroup v2 with a controller for containers');
  }
  let above = hierarchy.path;
  for (const name of relative(above, dir).split('/')) {
    writeFileSync(`${above}/cgroup.subtree_control`, `+${controller}`);
    above = join(above, name);
  }
  // As systemd and Docker do in their containers.
  const inner = `${dir}/init/deep er`;
  mkdirSync(inner, { recursive: true });
  writeFileSync(`${inner}/cgroup.procs`, String(container.pid));
  writeFileSync(`${dir}/cgroup.subtree_control`, `+${controller}`);
  const one = await container.exec(exec(['copy', '7'], { stdin: true }));
  const group = (pid: number): string =>
    readFileSync(`/proc/${pid}/cgroup`, 'utf8')
      .split('\n')
      .find((line) => /^0::/.test(line)) ?? '';
  assert.match(group(one.pid), /\/init\/deep er$/);
  assert.equal(group(one.pid), group(container.pid));
  one.streams.stdin?.end('there\n');
  assert.equal(await text(one.streams.stdout), 'there\nend of input\n');
  assert.equal(await one.wait(), 7);
  await container.remove();
});

test('grandchildren that hold its output keep no exec and no container from ending', async () => {
  const container = await run(['sleep', '60']);
  const one = await container.exec(exec(['orphan']));
  const [out, code] = await Promise.all([text(one.streams.stdout), one.wait()]);
  assert.deepEqual([out, code], ['parent ends\n', 0]);
  await container.kill('KILL');
  assert.equal((await container.wait()).exitCode, 137);
  await container.remove();
  // Where no pid namespace ends with it.
  const shared = await run(['orphan'], { pidNamespace: 'host' });
  assert.equal((await shared.wait()).exitCode, 0);
  await until('the grandchild to end', 5000, () => {
    return host.cgroups.pids(shared.config.id).length === 0;
  });
  await shared.remove();
});

test('the exit code of an exec is told whatever it is asked while it ends', async () => {
  const container = await run(['sleep', '60']);
  for (let round = 0; round < 40; round += 1) {
    const one = await container.exec(exec(['exit', '3'], { tty: true }));
    one.streams.stdout.resume();
    let isOver = false;
    const end = one.wait().finally(() => {
      isOver = true;
    });
    const asking = async (): Promise<void> => {
      while (!isOver) await one.resize(40, 120);
    };
    await asking().catch((error: unknown) => {
      // It has ended, or its terminal has: nothing is left to size.
      if (!hasCode(error, 'not_found') && !hasCode(error, 'invalid')) throw error;
    });
    assert.equal(await end, 3, `round ${round}`);
  }
  await container.remove();
});

test('an exec has its own user, directory and privileges, else those of the container', async () => {
  const container = await run(['sleep', '60'], { user: 'joe', workingDir: '/tmp' });
  assert.match(await output(container, ['whoami']), /uid=1000 gid=1001 cwd=\/tmp /);
  const asRoot = { user: '0', workingDir: '/etc' };
  assert.match(await output(container, ['whoami'], asRoot), /uid=0 gid=0 cwd=\/etc /);
  const bounding = async (privileged: boolean): Promise<string | undefined> => {
    const status = await output(container, ['cat', '/proc/self/status'], { privileged });
    assert.match(status, /Seccomp:\t2/);
    return /CapBnd:\s+(\w+)/.exec(status)?.[1];
  };
  assert.equal(await bounding(false), '00000000a80425fb');
  const own = /CapBnd:\s+(\w+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  assert.equal(await bounding(true), own);
  assert.equal(await output(container, ['descriptors']), '0 1 2');
  await container.remove();
});

test('what cannot be executed is told as for a container', async () => {
  const container = await run(['sleep', '60']);
  const code = async (args: readonly string[]): Promise<string | undefined> => {
    try {
      await container.exec({ ...exec([]), args });
    } catch (error) {
      return hasCode(error, 'invalid') ? error.detail['exitCode'] : String(error);
    }
    return undefined;
  };
  assert.equal(await code(['nothing']), '127');
  assert.equal(await code(['/bin/plain']), '126');
  await assert.rejects(container.exec(exec(['echo'], { user: 'nobody' })), /unable to find user/);
  await assert.rejects(container.exec({ ...exec([]), args: [] }), /no exec command/);
  await container.pause();
  await assert.rejects(container.exec(exec(['echo'])), /is paused/);
  await container.resume();
  await container.stop(0);
  await assert.rejects(container.exec(exec(['echo'])), /is not running/);
  await container.remove();
});

test('an exec is killed, sized, and ends with its container', async () => {
  const container = await run(['sleep', '60']);
  const killed = await container.exec(exec(['sleep', '60']));
  await killed.kill('SIGTERM');
  assert.equal(await killed.wait(), 143);
  const terminal = await container.exec(exec(['size', '1'], { tty: true, stdin: true }));
  await terminal.resize(40, 120);
  assert.equal(await text(terminal.streams.stdout), '40 rows 120 columns\r\n');
  assert.equal(await terminal.wait(), 0);
  assert.equal(await output(container, ['tty'], { tty: true }), 'terminal /dev/pts/0');
  const sized = { tty: true, terminalSize: [41, 121] } as const;
  assert.equal(await output(container, ['size', '0'], sized), '41 rows 121 columns');
  const left = await container.exec(exec(['sleep', '60']));
  await container.kill('SIGKILL');
  assert.equal((await container.wait()).exitCode, 137);
  assert.equal(await left.wait(), 137);
  await container.remove();
});

test('many execs run at once, none loses output, and a slow reader loses none either', async () => {
  const container = await run(['sleep', '60']);
  const sums = await Promise.all(
    Array.from({ length: 60 }, async (_, index) => {
      const one = await container.exec(exec(['lines', '2000', '60']));
      if (index % 10 === 0) await untilWritesNoMore(one.pid);
      const all = await text(one.streams.stdout);
      assert.equal(await one.wait(), 0);
      return all.split('\n').length - 1;
    }),
  );
  assert(sums.every((count) => count === 2000));
  const slow = await container.exec(exec(['lines', '100000', '60']));
  await untilWritesNoMore(slow.pid);
  assert(writtenBytes(slow.pid) < 100_000 * LINE_BYTES, 'it was not held up');
  assert.equal((await text(slow.streams.stdout)).split('\n').length - 1, 100_000);
  assert.equal(await slow.wait(), 0);
  await container.remove();
});

test('an exec nobody listens to any more runs on, also without the daemon', async () => {
  const container = await run(['sleep', '60']);
  const one = await container.exec(exec(['ticks', '0']));
  const goesOn = async (): Promise<void> => {
    const before = writtenBytes(one.pid);
    await until('the next ticks', 5000, () => writtenBytes(one.pid) > before + 30);
  };
  one.streams.close();
  await goesOn();
  assert((await container.processes()).includes(one.pid));
  await table.close();
  await goesOn();
  table = await host.open();
  const again = table.get(container.config.id);
  assert((await again?.processes())?.includes(one.pid));
  await again?.remove();
});

test('attached clients get the output from then on, and the log has all of it', async () => {
  const container = await table.create(host.config(['/bin/probe', 'ticks']));
  const first = await container.attach({ stdin: false });
  await container.start();
  const all = text(first.stdout);
  await until('ticks', 5000, async () => (await logText(container)).includes('tick 5\n'));
  const second = await container.attach({ stdin: true });
  assert.equal(second.stdin, undefined);
  const gone = await container.attach({ stdin: false });
  gone.close();
  const logged = async (): Promise<number> => (await logText(container)).length;
  const soFar = await logged();
  await until('more ticks', 5000, async () => (await logged()) > soFar);
  await container.kill('SIGKILL');
  const some = await text(second.stdout);
  assert.equal(await all, await logText(container));
  assert((await all).endsWith(some) && some.length < (await all).length);
  assert.equal(await text(first.stderr), '');
  await container.remove();
});

test('a client that does not read makes the container wait, until it reads or goes', async () => {
  const container = await run(['lines', '100000', '60']);
  const slow = await container.attach({ stdin: false });
  await untilWritesNoMore(container.pid);
  assert.equal(container.state, 'running');
  assert(writtenBytes(container.pid) < 100_000 * LINE_BYTES, 'it was not held up');
  slow.close();
  assert.equal((await container.wait()).exitCode, 0);
  assert.equal((await logText(container)).split('\n').length - 1, 100_000);
  await container.remove();
});

test('a client that reads late has all of the output of a container that has ended', async () => {
  const container = await table.create(host.config(['/bin/probe', 'lines', '8600', '60']));
  const late = await container.attach({ stdin: false });
  await container.start();
  // A pipe of many small pieces may be full before: then the program still waits, and none is lost
  // either.
  await untilWritesNoMore(container.pid);
  const read = await text(late.stdout);
  assert.equal((await container.wait()).exitCode, 0);
  assert.equal(read, await logText(container));
  await container.remove();
});

test('standard input reaches the container, over a restart of the daemon, until it is closed', async () => {
  const options = { openStdin: true, stdinOnce: true };
  let container = await run(['copy', '3'], options);
  await table.close();
  table = await host.open();
  const found = table.get(container.config.id);
  assert(found !== undefined);
  container = found;
  const client = await container.attach({ stdin: true });
  client.stdin?.write('one\n');
  await until('the echo', 5000, async () => (await logText(container)) === 'one\n');
  client.stdin?.end('two\n');
  assert.equal(await text(client.stdout), 'one\ntwo\nend of input\n');
  assert.equal((await container.wait()).exitCode, 3);
  await container.remove();
  const kept = await run(['copy'], { openStdin: true });
  const [left, right] = [await kept.attach({ stdin: true }), await kept.attach({ stdin: true })];
  left.stdin?.end('left\n');
  await until('the echo', 5000, async () => (await logText(kept)) === 'left\n');
  right.stdin?.write('right\n');
  await until('the echo', 5000, async () => (await logText(kept)) === 'left\nright\n');
  await kept.remove();
});

test('a terminal is attached to, written to and sized', async () => {
  const container = await run(['size', '2'], { tty: true, openStdin: true });
  const client = await container.attach({ stdin: true });
  await container.resize(30, 100);
  let seen = '';
  client.stdout.on('data', (data: Buffer) => {
    seen += data.toString();
  });
  await until('the first size', 5000, () => seen.includes('30 rows 100 columns'));
  client.stdin?.write('typed');
  await until('the echo of the terminal', 5000, () => seen.includes('typed'));
  await container.resize(31, 100);
  await container.wait();
  // Its end is told on another connection than its output comes by.
  await until('the second size', 5000, () => seen.endsWith('31 rows 100 columns\r\n'));
  const sized = await run(['size', '0'], { tty: true, terminalSize: [42, 122] });
  await sized.wait();
  assert.equal(await logText(sized), '42 rows 122 columns\r\n');
  await sized.remove();
  await container.remove();
});

test('it starts again after its end: same files, log going on, a new record', async () => {
  const container = await table.create(
    host.config(['/bin/probe', 'write', '/tmp/kept', 'x'], { log: {} }),
  );
  await container.start();
  const first = await container.wait();
  await container.start();
  const second = await container.wait();
  assert(second.startedAtMs >= first.finishedAtMs);
  const counting = await run(['lines', '3', '5']);
  await counting.wait();
  await table.close();
  table = await host.open();
  const again = table.get(counting.config.id);
  assert(again !== undefined);
  for (let round = 0; round < 5; round += 1) {
    await again.start();
    assert.equal((await again.wait()).exitCode, 0);
  }
  assert.equal((await logText(again)).split('\n').length - 1, 18);
  const both = await Promise.allSettled([again.start(), again.start()]);
  assert.deepEqual(both.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
  await again.wait();
  await again.remove();
});

test('a paused container stands still, says so after a restart, and can be stopped', async () => {
  const container = await run(['ticks', '0']);
  await container.pause();
  assert.equal(container.paused, true);
  await assert.rejects(container.pause(), /already paused/);
  const written = writtenBytes(container.pid);
  const other = await run(['ticks', '10']);
  await other.wait();
  await other.remove();
  assert.equal(writtenBytes(container.pid), written, 'it went on while another ticked ten times');
  const before = await logText(container);
  await table.close();
  table = await host.open();
  const again = table.get(container.config.id);
  assert.equal(again?.paused, true);
  await again?.resume();
  assert.equal(again?.paused, false);
  await until('ticks', 5000, async () => (await logText(again)).length > before.length);
  await again?.rename('other');
  assert.equal(again?.config.name, 'other');
  await again?.remove();
  const polite = await run(['signal', '15']);
  await until('the handler', 5000, async () => (await logText(polite)) === 'ready\n');
  await polite.pause();
  assert.equal((await polite.stop(5000)).exitCode, 42);
  await polite.remove();
});

test('there is a bound on execs and on clients, said as one, and free again afterwards', async () => {
  const container = await run(['sleep', '60']);
  const execs = await Promise.all(
    Array.from({ length: 128 }, () => container.exec(exec(['sleep', '60']))),
  );
  const isExhausted = (error: unknown): boolean => hasCode(error, 'exhausted');
  await assert.rejects(container.exec(exec(['echo'])), isExhausted);
  await Promise.all(execs.map((one) => one.kill('SIGKILL')));
  assert((await Promise.all(execs.map((one) => one.wait()))).every((code) => code === 137));
  assert.equal(await output(container, ['echo', 'again']), 'again');
  const clients = await Promise.all(
    Array.from({ length: 16 }, () => container.attach({ stdin: false })),
  );
  await assert.rejects(container.attach({ stdin: false }), isExhausted);
  for (const client of clients) client.close();
  await until('a place', 5000, () =>
    container.attach({ stdin: false }).then(
      (client) => client.close() === undefined,
      () => false,
    ),
  );
  await container.remove();
});

test('without its shim, execs and clients end at once', async () => {
  const container = await run(['sleep', '60']);
  const one = await container.exec(exec(['sleep', '60']));
  const client = await container.attach({ stdin: false });
  process.kill(parentOf(container.pid), 'SIGKILL');
  assert.equal(await one.wait(), 137);
  assert.equal(await text(client.stdout), '');
  assert.equal(await text(one.streams.stdout), '');
  assert.match((await container.wait()).error ?? '', /supervisor lost/);
  await until('the program to be gone', 5000, () => !existsSync(`/proc/${one.pid}`));
  await container.start();
  assert.equal(await output(container, ['echo', 'again']), 'again');
  await container.remove();
});

test('an idle container with clients and an exec costs no processor time', async () => {
  const container = await run(['sleep', '60'], { openStdin: true, tty: true });
  const client = await container.attach({ stdin: true });
  const one = await container.exec(exec(['copy'], { stdin: true }));
  const gone = await container.attach({ stdin: true });
  gone.close();
  const shim = parentOf(container.pid);
  const before = cpuTicks(shim);
  const took = (): number => cpuTicks(shim) - before;
  // Time itself: what is looked at is what passes of it costs.
  await host.options.clock.sleep(400);
  assert(took() <= 2, `${took()} ticks`);
  client.close();
  one.streams.close();
  await host.options.clock.sleep(300);
  assert(took() <= 4, `${took()} ticks`);
  await container.remove();
});
