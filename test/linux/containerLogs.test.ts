/** Containers' output: streams, long lines, rotation, following while the shim writes. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { childrenOf } from '../../deploy/hosts/system.ts';
import type { ContainerTable, LogRecord } from '../../runtime/container/types.ts';
import { Cgroups } from '../../runtime/sys/cgroup.ts';
import { mountRaw } from '../../runtime/sys/libc.ts';
import { unmount } from '../../runtime/sys/mount.ts';
import { logText, makeTestHost, runToEnd } from '../support/rootfs.ts';
import { until } from '../support/until.ts';

/** More than is left on the small disk, so that a configuration with it cannot be written. */
const LONG_VARIABLE = `A=${'x'.repeat(1 << 20)}`;

const host = makeTestHost('logs');
let table: ContainerTable;

before(async () => {
  table = await host.open();
});

after(async () => {
  await host.end(table);
});

function logDir(id: string): string {
  return join(host.options.dataRoot, 'containers', id, 'logs');
}

function numberedLines(count: number, width: number): string {
  let text = '';
  for (let i = 0; i < count; i += 1) {
    text += `${String(i).padStart(8, '0')} ${String.fromCharCode(97 + (i % 26)).repeat(width)}\n`;
  }
  return text;
}

test('standard output and standard error are told apart and can be asked for alone', async () => {
  const { container } = await runToEnd(table, host.config(['/bin/probe', 'stderr', 'a', 'b']));
  const records: LogRecord[] = [];
  for await (const record of container.logs({})) records.push(record);
  assert.deepEqual(
    records.map((record) => [record.stream, Buffer.from(record.data).toString(), record.partial]),
    [
      ['stderr', 'a', false],
      ['stderr', 'b', false],
    ],
  );
  const startNs = BigInt(container.startedAtMs) * 1_000_000n;
  assert(records.every((record) => record.timeNs >= startNs - 50_000_000n));
  assert.equal(await logText(container, { stderr: false }), '');
});

test('lines beyond 16 KiB come in parts, and none is lost or torn', async () => {
  const { container, output } = await runToEnd(
    table,
    host.config(['/bin/probe', 'lines', '20', '40000']),
  );
  assert.equal(output, numberedLines(20, 40_000));
  for await (const record of container.logs({})) {
    assert(record.data.length <= 16 * 1024);
    assert(!record.partial || record.data.length === 16 * 1024);
  }
});

test('files are rotated at their size and only the newest are kept', async () => {
  const log = { maxSizeBytes: 20_000, maxFiles: 3 };
  const { container, output } = await runToEnd(
    table,
    host.config(['/bin/probe', 'lines', '5000', '50'], { log }),
  );
  const dir = logDir(container.config.id);
  const names = readdirSync(dir);
  assert.equal(names.length, 3);
  assert(names.every((name) => statSync(join(dir, name)).size <= 20_000));
  const all = numberedLines(5000, 50);
  assert(output.length > 20_000 && all.endsWith(output), 'the end of the output, unbroken');
});

test('a followed log gives every line once and ends with the container', async () => {
  const log = { maxSizeBytes: 5000, maxFiles: 1000 };
  const container = await table.create(host.config(['/bin/probe', 'ticks', '200'], { log }));
  await container.start();
  const text = await logText(container, { follow: true });
  assert.equal(text, Array.from({ length: 200 }, (_, i) => `tick ${i}\n`).join(''));
  assert.equal(container.state, 'exited');
  assert(readdirSync(logDir(container.config.id)).length > 1);
});

test('following ends when its caller ends it, and on removal', async () => {
  const container = await table.create(host.config(['/bin/probe', 'ticks', '0']));
  await container.start();
  const abort = new AbortController();
  let lines = 0;
  for await (const _ of container.logs({ follow: true, signal: abort.signal })) {
    lines += 1;
    if (lines === 5) abort.abort();
  }
  assert.equal(lines, 5);
  const reading = logText(container, { follow: true });
  await container.remove();
  assert.match(await reading, /^tick 0\n/);
});

test('tail gives the last lines, also across files, and follows on from there', async () => {
  const log = { maxSizeBytes: 4000, maxFiles: 100 };
  const { container } = await runToEnd(
    table,
    host.config(['/bin/probe', 'lines', '1000', '20'], { log }),
  );
  const all = numberedLines(1000, 20).split('\n').slice(0, -1);
  for (const tail of [0, 1, 10, 300, 1000, 5000]) {
    const lines = (await logText(container, { tail })).split('\n').slice(0, -1);
    assert.deepEqual(lines, tail === 0 ? [] : all.slice(-tail), `tail ${tail}`);
  }
  const followed = await logText(container, { tail: 3, follow: true });
  assert.deepEqual(followed.split('\n').slice(0, -1), all.slice(-3));
});

test('100 MB of output pass through without loss while a reader follows', async () => {
  const log = { maxSizeBytes: 200 << 20 };
  const container = await table.create(
    host.config(['/bin/probe', 'lines', '500000', '190'], { log }),
  );
  await container.start();
  let next = 0;
  for await (const record of container.logs({ follow: true })) {
    const number = Number(Buffer.from(record.data.subarray(0, 8)).toString('latin1'));
    assert.equal(number, next);
    next += 1;
  }
  assert.equal(next, 500_000);
});

test('a full disk drops whole records of output, and the container runs on', async () => {
  const root = join(host.dir, 'small-disk');
  mkdirSync(root);
  const result = mountRaw('tmpfs', root, 'tmpfs', 0, 'size=1m');
  assert.equal(result, 0);
  try {
    const small = await host.open({
      dataRoot: root,
      execRoot: join(host.dir, 'small-exec'),
      cgroupParent: `${host.cgroupParent}-small`,
    });
    const run = await runToEnd(small, host.config(['/bin/probe', 'lines', '20000', '90']));
    assert.equal(run.exitCode, 0);
    const lines = run.output.trimEnd().split('\n');
    assert(lines.length > 1000 && lines.length < 20_000);
    assert(lines.every((line) => line.length === 99));
    const failing = small.create(host.config(['/bin/probe', 'echo'], { env: [LONG_VARIABLE] }));
    await assert.rejects(failing, /cannot create the container: .*no space left/i);
    assert.equal(small.list().length, 1);
    await run.container.remove();
    const again = await runToEnd(small, host.config(['/bin/probe', 'echo', 'room again']));
    assert.equal(again.output, 'room again\n');
    await again.container.remove();
    await small.close();
    const cgroups = new Cgroups(host.cgroups.hierarchies, `${host.cgroupParent}-small`);
    await until('the groups to be gone', 5000, () => cgroups.removeParent());
  } finally {
    unmount(root);
  }
});

test("json-file writes Docker's lines, and they are read back, cut and followed alike", async () => {
  const log = { driver: 'json-file' } as const;
  const args = ['echo', 'a "b" \\ <c> & d\t\u0001 ü€😀', '\u007f'];
  const { container } = await runToEnd(table, host.config(['/bin/probe', ...args], { log }));
  const [name] = readdirSync(logDir(container.config.id));
  const text = readFileSync(join(logDir(container.config.id), name), 'utf8');
  const line = JSON.parse(text) as { log: string; stream: string; time: string };
  assert.equal(line.log, `${args.slice(1).join(' ')}\n`);
  assert.equal(line.stream, 'stdout');
  assert.match(text, /\\u003cc\\u003e \\u0026/);
  const timeMs = Date.parse(line.time);
  assert(
    timeMs >= container.startedAtMs - 50 && timeMs <= (container.exit?.finishedAtMs ?? 0) + 50,
  );
  assert.match(line.time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/);
  for await (const record of container.logs({})) {
    assert.equal(record.timeNs / 1_000_000n, BigInt(timeMs));
    assert.equal(Buffer.from(record.data).toString(), args.slice(1).join(' '));
  }
  const bytes = await runToEnd(
    table,
    host.config(['/bin/probe', 'echo', Buffer.from([0x61, 0xff, 0x62]).toString('latin1')], {
      log,
    }),
  );
  assert.equal(bytes.output, 'aÿb\n');
  const long = await runToEnd(table, host.config(['/bin/probe', 'lines', '3', '40000'], { log }));
  assert.equal(long.output, numberedLines(3, 40_000));
  const limits = { ...log, maxSizeBytes: 64 * 1024, maxFiles: 3 };
  const many = await runToEnd(
    table,
    host.config(['/bin/probe', 'lines', '5000', '60'], { log: limits }),
  );
  const dir = logDir(many.container.config.id);
  assert.equal(readdirSync(dir).length, 3);
  for (const file of readdirSync(dir)) assert(statSync(join(dir, file)).size <= 64 * 1024);
  assert(numberedLines(5000, 60).endsWith(many.output) && many.output.length > 60_000);
  assert.equal(
    await logText(many.container, { tail: 1200 }),
    numberedLines(5000, 60).split('\n').slice(3800).join('\n'),
  );
  await many.container.start();
  await many.container.wait();
  assert.equal(readdirSync(dir).length, 3);
  assert.match(await logText(many.container, { tail: 1 }), /^00004999 /);
});

test('without a log nothing is written, and attached clients still get the output', async () => {
  const container = await table.create(
    host.config(['/bin/probe', 'echo', 'hello'], { log: { driver: 'none' } }),
  );
  const client = await container.attach({ stdin: false });
  await container.start();
  let text = '';
  for await (const chunk of client.stdout) text += String(chunk);
  assert.equal(text, 'hello\n');
  assert.equal((await container.wait()).exitCode, 0);
  assert.deepEqual(readdirSync(logDir(container.config.id)), []);
  assert.throws(() => container.logs({}), /does not support reading/);
});

test('rotated files are packed, read as before, and no more are kept than asked for', async () => {
  for (const driver of ['json-file', 'local'] as const) {
    const log = { driver, maxSizeBytes: 20_000, maxFiles: 4, compress: true };
    const { container } = await runToEnd(
      table,
      host.config(['/bin/probe', 'lines', '3000', '50'], { log }),
    );
    const dir = logDir(container.config.id);
    const packed = await until('all but the newest file to be packed', 10_000, () => {
      const names = readdirSync(dir).sort();
      const isDone = names.length === 4 && names.slice(0, 3).every((name) => name.endsWith('.gz'));
      return isDone ? names : undefined;
    });
    const plain = gunzipSync(readFileSync(join(dir, packed[0])));
    assert(plain.length <= 20_000 && plain.length > 2 * statSync(join(dir, packed[0])).size);
    const all = numberedLines(3000, 50);
    const output = await logText(container, {});
    assert(all.endsWith(output) && output.length > (driver === 'local' ? 40_000 : 20_000));
    assert.equal(
      await logText(container, { tail: 400 }),
      all.split('\n').slice(2600).join('\n'),
      'the end, which lies in several files',
    );
  }
});

test('a program that need not wait for its log runs on while that cannot be written', async () => {
  const log = { driver: 'json-file', waitingBytes: 256 * 1024, maxSizeBytes: 1 << 20 } as const;
  const container = await table.create(
    host.config(['/bin/probe', 'copy', '0'], { log, openStdin: true, stdinOnce: true }),
  );
  const { stdin, stdout } = await container.attach({ stdin: true });
  await container.start();
  const status = readFileSync(`/proc/${container.pid}/status`, 'utf8');
  const shim = Number(/^PPid:\s+(\d+)/m.exec(status)?.[1]);
  const [writer] = childrenOf(shim).filter((pid) => pid !== container.pid);
  assert.equal(readFileSync(`/proc/${writer}/comm`, 'utf8'), 'tsswarm-log\n');
  // Only what it writes with: nobody waits for an end that it holds.
  assert.equal(readdirSync(`/proc/${writer}/fd`).length, 6);
  process.kill(writer, 'SIGSTOP');
  const all = numberedLines(40_000, 60);
  let told = 0;
  const heard = (async () => {
    for await (const chunk of stdout) told += (chunk as Buffer).length;
  })();
  try {
    stdin?.end(all);
    await heard;
    assert.equal(told, all.length + 'end of input\n'.length);
  } finally {
    process.kill(writer, 'SIGCONT');
  }
  assert.equal((await container.wait()).exitCode, 0);
  const lines = (await logText(container, {})).split('\n');
  const known = new Set([...all.split('\n'), 'end of input']);
  assert(lines.every((line) => known.has(line)) && lines[0] === all.split('\n')[0], 'whole lines');
  assert(lines.length > 1000 && lines.length < 20_000, `${lines.length} of 40000`);
  assert.deepEqual(lines, [...lines].sort().slice(1).concat(''), 'in order');
  // Where the disk keeps up nothing is lost.
  const slow = await runToEnd(table, host.config(['/bin/probe', 'lines', '50', '50'], { log }));
  assert.equal(slow.output, numberedLines(50, 50));
});

test('each line says what the log was told to say', async () => {
  const attributes = { 'a "b"': 'ü\n', tag: 't' };
  const log = { driver: 'json-file', attributes } as const;
  const { container, output } = await runToEnd(
    table,
    host.config(['/bin/probe', 'lines', '3', '20000'], { log }),
  );
  assert.equal(output, numberedLines(3, 20_000));
  for await (const record of container.logs({})) assert.deepEqual(record.attributes, attributes);
  const far = { ...log, attributes: { long: 'x'.repeat(16 * 1024) } };
  await assert.rejects(
    table.create(host.config(['/bin/probe'], { log: far })),
    /name fewer labels/,
  );
});
