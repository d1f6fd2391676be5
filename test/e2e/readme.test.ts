/**
 * The README, step by step as it is written: each shell block is read from the page and run in the
 * lab, with the lab's addresses, paths and image in the places of the page's. A step that is added
 * to the page without being known here fails the first test.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { childrenOf } from '../../deploy/hosts/system.ts';
import {
  get,
  inside,
  lab,
  nodes,
  outcome,
  swarm,
  until,
  untilReady,
  untilRunning,
  WEB_IMAGE,
  WEB_TAR,
} from '../support/lab.ts';
import { clientOf, scriptArguments } from '../support/terminal.ts';
import { TOP } from '../tidy/sources.ts';

/** Shown elsewhere: quickstart.test.ts, CI itself, install.test.ts and test/long/debian.test.ts. */
const ELSEWHERE = ['deploy/quickstart', 'npm test', 'deploy/install'];

interface Step {
  readonly block: number;
  readonly line: string;
}

const steps: Step[] = [];
let block = 0;
let shell = false;
for (const line of readFileSync(join(TOP, 'README.md'), 'utf8').split('\n')) {
  if (line.startsWith('```')) {
    shell = line === '```sh';
    if (shell) block += 1;
  } else if (shell && line !== '') {
    steps.push({ block, line: line.replace(/\s+#.*/, '') });
  }
}

const known = new Set<string>();

/** The steps that begin with the words, which must be on the page. */
function step(words: string): string {
  const found = steps.filter(({ line }) => line.startsWith(words));
  assert.notEqual(found.length, 0, `the README has no step "${words}"`);
  for (const { line } of found) known.add(line);
  return found[0].line
    .replaceAll('192.0.2.11', '10.99.0.11')
    .replace('IMAGE', WEB_IMAGE)
    .replace('/usr/local/lib/tsswarm/dist/images/web.tar', WEB_TAR)
    .replace('/run/tsswarm/tsswarm.sock', '$' + '{TSSWARM_HOST#unix://}');
}

/** Runs the step in a host's shell; its output. */
async function run(host: string, line: string): Promise<string> {
  const { code, stdout, stderr } = await inside(host, 'sh', '-c', line);
  assert.equal(code, 0, `${host}: ${line}: ${stderr}`);
  return stdout;
}

/** Runs `watch` on a terminal until it has drawn the words, then leaves it with ^C. */
async function watch(line: string, host: string | undefined, words: RegExp): Promise<void> {
  const command = host === undefined ? line : `deploy/lab exec ${host} ${line}`;
  const script = spawn('script', scriptArguments(command), {
    cwd: TOP,
    env: { ...process.env, TERM: 'xterm', COLUMNS: '120', LINES: '40' },
  });
  const terminal = clientOf(script);
  try {
    await until(`${line} draws ${String(words)}`, 20_000, () =>
      words.test(terminal.said()) ? true : undefined,
    );
    terminal.type('\x03');
    await terminal.ended;
  } catch (error) {
    for (const child of childrenOf(script.pid ?? 0)) process.kill(child, 'SIGTERM');
    throw new Error(`${String(error)}\n${terminal.said().slice(-2000)}`);
  }
}

before(async () => {
  await lab('down');
  await lab('up', '--hosts', '3');
  // The hosts of the page's second part are not in a swarm yet.
  for (const host of ['h3', 'h2', 'h1']) await swarm(host, 'leave', '--force');
});

after(async () => {
  await lab('down');
});

test('init says what to run on the others, and that line makes them part of the swarm', async () => {
  const said = await run('h1', step('tsswarm init'));
  const line = /tsswarm join --token SWMTKN-1-\S+ 10\.99\.0\.11:2377/.exec(said)?.[0] ?? '';
  const pattern = step('tsswarm join --token').replace('…', '\\S+');
  assert.match(line, new RegExp(`^${pattern}$`));
  for (const host of ['h2', 'h3']) await run(host, line);
  await untilReady('h1', 3);
  assert.match(await run('h1', 'tsswarm join-token manager'), /tsswarm join --token SWMTKN-1-/);
  for (const host of ['h2', 'h3']) await run('h1', `tsswarm node promote ${host}`);
  assert.equal((await nodes('h1')).filter((node) => node.manager !== '').length, 3);
});

test('a network and a service are made, listed and watched as the page says', async () => {
  const load = step('tsswarm image load');
  for (const host of ['h1', 'h2', 'h3']) await run(host, load);
  await run('h1', step('tsswarm network create'));
  await run('h1', step('tsswarm service create'));
  await untilRunning('h1', 'web', 3);
  assert.match(await run('h1', step('tsswarm service ps')), /web\.3 .*Running/);
  assert.match(await get('client', 'http://10.99.0.12:8080/'), /client=10\.99\.0\.100/);
  await watch(step('tsswarm watch'), 'h1', /web/);
});

test('the commands for the lab work as the page has them', async () => {
  const ls = await outcome('sh', ['-c', `cd ${TOP} && ${step('deploy/lab exec h1 tsswarm node')}`]);
  assert.match(ls.stdout, /h3/);
  await watch(step('deploy/lab exec h1 tsswarm watch'), undefined, /h2/);
  const curl = await outcome('sh', ['-c', `cd ${TOP} && ${step('deploy/lab exec client curl')}`]);
  assert.match(curl.stdout, /client=10\.99\.0\.100/);
});

test('docker drives the same daemon through its socket', async (context) => {
  const lines = [
    step('export DOCKER_HOST'),
    step('docker node ls'),
    step('docker service logs'),
    step('docker service create'),
  ];
  if ((await outcome('sh', ['-c', 'command -v docker'])).code !== 0) {
    context.skip('docker is not on this machine');
    return;
  }
  assert.match(await run('h1', `${lines[0]}; ${lines[1]}`), /h2/);
  await run('h1', `${lines[0]}; ${lines[2]}`);
  await run('h1', 'tsswarm service rm web');
  assert.match(await run('h1', `${lines[0]}; ${lines[3]}`), /converged/);
});

test('the lab goes as the page says, and no step of the page is left unrun', async () => {
  const down = await outcome('sh', ['-c', `cd ${TOP} && ${step('deploy/lab down')}`]);
  assert.equal(down.code, 0);
  for (const words of ELSEWHERE) step(words);
  assert.deepEqual(
    steps.map(({ line }) => line).filter((line) => !known.has(line)),
    [],
  );
});
