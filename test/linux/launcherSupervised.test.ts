/** The same records with a supervisor: hooks, a gate and the caller's streams beside its socket. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { TAG } from '../../runtime/container/encode.ts';
import { decodeExitRecord } from '../../runtime/container/exitRecord.ts';
import { containerPaths } from '../../runtime/container/paths.ts';
import { ShimClient, type ShimEvents, type ShimState } from '../../runtime/container/shimClient.ts';
import { FLAG } from '../../runtime/container/specRecords.ts';
import type { ExitRecord } from '../../runtime/container/types.ts';
import { makePipe } from '../../runtime/sys/libc.ts';
import { HOOK, hookState, launcherHost, numeric, scriptHook } from '../support/launcher.ts';
import { untilRests } from '../support/processes.ts';
import { until } from '../support/until.ts';

const { host, launcher } = launcherHost('supervised');

class Heard implements ShimEvents {
  readonly states: ShimState[] = [];
  record: ExitRecord | undefined;
  isClosed = false;

  state(state: ShimState): void {
    this.states.push(state);
  }

  exited(record: ExitRecord): void {
    this.record = record;
  }

  closed(): void {
    this.isClosed = true;
  }

  async over(): Promise<ExitRecord> {
    await until('the end', 20_000, () => this.isClosed);
    assert(this.record !== undefined);
    return this.record;
  }
}

function place(name: string): string {
  const dir = join(host.dir, name);
  mkdirSync(dir);
  return dir;
}

test('behind a gate it says so, can be paused, and runs its hooks once the gate is opened', async () => {
  const dir = place('gated');
  const gate = join(dir, 'gate');
  execFileSync('mkfifo', ['-m', '600', gate]);
  const heard = new Heard();
  const pipe = makePipe();
  const { client } = launcher.supervise(
    host.config(['/bin/probe', 'echo', 'here']),
    FLAG.ownStreams | FLAG.numericUser,
    [
      numeric,
      hookState,
      [TAG.gate, gate],
      scriptHook(HOOK.createRuntime, `cat > ${dir}/runtime`),
      scriptHook(HOOK.poststart, `cat > ${dir}/post.new; mv ${dir}/post.new ${dir}/post`),
    ],
    heard,
    [0, pipe.write, pipe.write],
  );
  closeSync(pipe.write);
  await until('the gate', 20_000, () => heard.states.at(-1)?.phase === 'created');
  const pid = heard.states.at(-1)?.pid;
  assert.equal(JSON.parse(readFileSync(join(dir, 'runtime'), 'utf8')).pid, pid);
  await client.freeze(true);
  await client.freeze(false);
  assert.equal(existsSync(join(dir, 'post')), false);
  assert.match(readFileSync(gate, 'latin1'), /^0+$/);
  assert.equal((await heard.over()).exitCode, 0);
  // To its end, though its supervisor may still be there: nobody else holds the pipe.
  assert.equal(readFileSync(pipe.read, 'utf8'), 'here\n');
  closeSync(pipe.read);
});

test('while a hook hangs its supervisor listens, and what it kills takes the hook along', async () => {
  const dir = place('hanging');
  const heard = new Heard();
  const { client } = launcher.supervise(
    host.config(['/bin/probe', 'echo', 'never']),
    0,
    [
      hookState,
      scriptHook(
        HOOK.createRuntime,
        `echo $$ > ${dir}/pid.new; mv ${dir}/pid.new ${dir}/pid; exec sleep 600`,
      ),
    ],
    heard,
  );
  await until('the hook', 20_000, () => existsSync(join(dir, 'pid')));
  await client.kill(9, true);
  const record = await heard.over();
  assert.equal(record.error, 'killed before its program was executed');
  const hook = readFileSync(join(dir, 'pid'), 'utf8').trim();
  await until('the hook to end', 20_000, () => !existsSync(`/proc/${hook}`));
});

test('a hook that fails is the reason in the exit record', async () => {
  const heard = new Heard();
  launcher.supervise(
    host.config(['/bin/probe', 'echo', 'never']),
    0,
    [hookState, scriptHook(HOOK.createContainer, 'echo because >&2; exit 9')],
    heard,
  );
  const { exitCode, error } = await heard.over();
  assert.deepEqual([exitCode, error], [128, 'error running hook /bin/sh: exit status 9: because']);
});

test('poststart hooks of a running container are run beside its supervisor', async () => {
  const dir = place('post');
  const heard = new Heard();
  const { client } = launcher.supervise(
    host.config(['/bin/probe', 'sleep', '60']),
    0,
    [hookState, scriptHook(HOOK.poststart, `cat > ${dir}/new; mv ${dir}/new ${dir}/state`)],
    heard,
  );
  await until('the hook', 20_000, () => existsSync(join(dir, 'state')));
  const { pid, status } = JSON.parse(readFileSync(join(dir, 'state'), 'utf8'));
  assert.deepEqual([status, pid], ['running', heard.states.at(-1)?.pid]);
  await client.kill(9, true);
  assert.equal((await heard.over()).exitCode, 137);
});

test('a supervisor that holds more descriptors than it may have by now waits, hears and tells', async () => {
  const heard = new Heard();
  const config = host.config(['/bin/probe', 'sleep', '60']);
  const { pid, client } = launcher.supervise(config, 0, [], heard);
  await until('its program', 20_000, () => heard.states.at(-1)?.phase === 'running');
  const { execDir } = containerPaths(host.options.dataRoot, host.options.execRoot, config.id);
  const limit = (least: number): void => {
    execFileSync('prlimit', ['--pid', String(pid), `--nofile=${least}:1024`]);
  };
  limit(3);
  await client.kill(0, false);
  // Accepting it takes a descriptor that there is not: it waits, and the supervisor does not turn.
  const late = new Heard();
  const other = ShimClient.connect(execDir, host.options.clock, late);
  await untilRests(pid);
  assert.deepEqual(late.states, []);
  limit(1024);
  await until('the one who waited', 20_000, () => late.states.at(-1)?.phase === 'running');
  limit(3);
  await client.kill(9, false);
  assert.equal((await heard.over()).exitCode, 137);
  assert.equal((await late.over()).exitCode, 137);
  assert.equal(decodeExitRecord(readFileSync(join(execDir, 'exit'))).exitCode, 137);
  other.close();
});
