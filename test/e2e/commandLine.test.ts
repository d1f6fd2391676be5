/**
 * The command at a keyboard: terminals, detach keys, signals, exit codes and copied files, each as
 * the docker client does it on the same daemon. One lab of one host.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  inside,
  lab,
  loadImage,
  type Outcome,
  outcome,
  raise,
  swarm,
  until,
  WEB_IMAGE,
} from '../support/lab.ts';
import { scriptArguments } from '../support/terminal.ts';
import { TOP } from '../tidy/sources.ts';

const directory = mkdtempSync(join(tmpdir(), 'tsswarm-keyboard-'));
const COPY_CASES = join(TOP, 'test', 'support', 'copyCases.sh');
const WAIT_MS = 10_000;
const hasDocker = (await outcome('sh', ['-c', 'docker --version'])).code === 0;
const skip = hasDocker ? false : 'no docker client here';

before(async () => {
  await raise(1, 1);
  await loadImage('h1');
});

after(async () => {
  await lab('down');
  rmSync(directory, { recursive: true, force: true });
});

/** A command line on a terminal of its own, with keys typed into it, each when a text is shown. */
function typed(line: string, keys: readonly (readonly [string, string])[]): Promise<Outcome> {
  const out = join(directory, 'screen');
  const typing = keys.map(
    ([shown, key]) =>
      `i=0; while ! grep -q '${shown}' ${out} && [ $i -lt 600 ]; do i=$((i+1)); sleep 0.1; done; ` +
      `printf '${key}'`,
  );
  const program = `: > ${out}; { ${typing.join('; ')}; } | "$@"`;
  const terminal = ['script', ...scriptArguments(line, { screen: out })];
  return inside('h1', 'sh', '-c', program, 'sh', ...terminal);
}

test('exit codes are the program’s, or tell that it could not be started', async () => {
  const cases: readonly (readonly [number, readonly string[]])[] = [
    [0, ['run', '--rm', WEB_IMAGE, 'echo', 'hi']],
    [3, ['run', '--rm', WEB_IMAGE, 'fail', '3']],
    [127, ['run', '--rm', '--entrypoint', '/nope', WEB_IMAGE]],
    [126, ['run', '--rm', '--entrypoint', '/etc', WEB_IMAGE]],
    [125, ['run', '--rm', '--network', 'nope', WEB_IMAGE]],
    [1, ['exec', 'nope', 'true']],
  ];
  for (const [code, args] of cases) {
    const ran = await inside('h1', 'tsswarm', ...args);
    assert.equal(ran.code, code, `${args.join(' ')}: ${ran.stderr}`);
  }
  await swarm('h1', 'run', '-d', '--name', 'box', WEB_IMAGE);
  const execs: readonly (readonly [number, string])[] = [
    [0, 'id'],
    [4, 'fail 4'],
  ];
  for (const [code, words] of execs) {
    const ran = await inside('h1', 'tsswarm', 'exec', 'box', '/web', ...words.split(' '));
    assert.equal(ran.code, code, ran.stderr);
  }
  assert.equal((await inside('h1', 'tsswarm', 'exec', 'box', '/nope')).code, 127);
  await swarm('h1', 'rm', '-f', 'box');
});

test('standard input and output go through, apart from standard error', async () => {
  const command = `tsswarm run -i --rm ${WEB_IMAGE} cat /proc/self/fd/0 2>/dev/null`;
  const line = `printf 'a\\nb\\n' | ${command}`;
  const { code, stdout } = await inside('h1', 'sh', '-c', line);
  assert.deepEqual([code, stdout], [0, 'a\nb\n']);
  const failed = await inside('h1', 'tsswarm', 'run', '--rm', WEB_IMAGE, 'nope');
  assert.equal(failed.stdout, '');
  assert.match(failed.stderr, /unknown command "nope"/);
});

test('keys reach a terminal, and ctrl-p ctrl-q leave the program running', async () => {
  const run = `tsswarm run -it --name keys ${WEB_IMAGE} tick 100`;
  const left = await typed(run, [['tick 2', '\\020\\021']]);
  assert.equal(left.code, 0, left.stdout);
  assert.equal(await swarm('h1', 'ps', '--format', '{{.Names}}'), 'keys');
  const attached = await typed('tsswarm attach keys', [['tick', '\\003']]);
  assert.equal(attached.code, 130, attached.stdout);
  await until('it has ended', WAIT_MS, async () =>
    (await swarm('h1', 'ps', '-q')) === '' ? true : undefined,
  );
  await swarm('h1', 'rm', 'keys');
});

test('a signal to the command reaches the program', async () => {
  const line = `tsswarm run --rm --name sig ${WEB_IMAGE} tick 100 & p=$!
    i=0; until tsswarm logs sig 2>/dev/null | grep -q 'tick 2' || [ $i -ge 600 ]; do
      i=$((i+1)); sleep 0.1; done
    kill -INT $p; wait $p; echo "ended with $?"`;
  const { stdout } = await inside('h1', 'bash', '-mc', line);
  assert.match(stdout, /ended with 130$/m);
  assert.equal(await swarm('h1', 'ps', '-aq'), '');
});

test('cp copies as docker’s does, in every way that ends differently', { skip }, async () => {
  const copies = async (command: string): Promise<string> => {
    const own = mkdtempSync(join(directory, 'cp-'));
    const ran = await inside('h1', 'sh', COPY_CASES, command, own, WEB_IMAGE);
    assert.equal(ran.code, 0, ran.stderr);
    return ran.stdout;
  };
  const ours = await copies('tsswarm');
  assert.equal(ours, await copies('docker'));
  assert.match(ours, /^A \/contents\/sub\/two$/m);
});
