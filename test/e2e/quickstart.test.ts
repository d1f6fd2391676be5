/**
 * `deploy/quickstart` as a user meets it: interrupted and killed at several moments, then run twice
 * in a row. What it prints is what the README promises; the lab stays up behind it.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { get, lab, nodes, running, swarm, until, untilReady } from '../support/lab.ts';
import { TOP } from '../tidy/sources.ts';

const QUICKSTART = join(TOP, 'deploy', 'quickstart');
const RUN_TIMEOUT_MS = 60_000;

interface Session {
  readonly pid: number;
  said(): string;
  readonly code: Promise<number | null>;
}

/** Starts it as a shell starts a foreground job: a process group of its own. */
function begin(): Session {
  const child = spawn(QUICKSTART, { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  let said = '';
  const hear = (chunk: Buffer): void => {
    said += chunk.toString();
  };
  child.stdout.on('data', hear);
  child.stderr.on('data', hear);
  const code = new Promise<number | null>((resolve) => child.on('exit', resolve));
  assert.ok(child.pid !== undefined);
  return { pid: child.pid, said: () => said, code };
}

async function interrupt(words: string, signal: 'SIGINT' | 'SIGKILL'): Promise<void> {
  const session = begin();
  await until(words, RUN_TIMEOUT_MS, () => (session.said().includes(words) ? true : undefined));
  // ^C goes to the whole foreground group, an unkind end to the one process.
  process.kill(signal === 'SIGINT' ? -session.pid : session.pid, signal);
  assert.notEqual(await session.code, 0);
  assert.doesNotMatch(session.said(), /score:/);
}

function assertStory(said: string): void {
  const steps = [
    /raising three hosts on this machine/,
    /loading the web image on each host/,
    /tsswarm service create --name web --replicas 3 --publish 8080:80/,
    /web\.1 .* Running/,
    /36 calls of http:\/\/web\/ from a container on each host: web\.1 \d+, web\.2 \d+, web\.3 \d+/,
    /h1: task=web\.\d\..* client=10\.99\.0\.100:/,
    /h3: task=web\.\d\..* client=10\.99\.0\.100:/,
    /h\d is cut off \(\d replica there\); h\d watches:/,
    /\+\d+ ms {2}h\d is called down/,
    /\+\d+ ms {2}web\.\d is placed on h\d/,
    /\+\d+ ms {2}web\.\d runs on h\d/,
    /score: lost 0 ms \/ detected \d+ ms \/ placed \d+ ms \/ running \d+ ms/,
    /deploy\/lab heal h\d/,
    /tsswarm watch/,
    /tsswarm service scale web=6/,
    /deploy\/lab down/,
  ];
  let at = 0;
  for (const step of steps) {
    const match = step.exec(said.slice(at));
    assert.ok(match !== null, `${String(step)} in order in:\n${said}`);
    at += match.index + match[0].length;
  }
}

after(async () => {
  await lab('down');
});

test('interrupted or killed at any step, it leaves nothing that blocks the next run', async () => {
  await interrupt('raising three hosts', 'SIGINT');
  await interrupt('booting 3 hosts', 'SIGKILL');
  await interrupt('hosts booted', 'SIGINT');
  await interrupt('service create', 'SIGKILL');
  await interrupt('is cut off', 'SIGINT');
});

test('run twice in a row it tells the whole story twice and leaves the lab up', async () => {
  for (const round of ['first', 'second']) {
    const session = begin();
    assert.equal(await session.code, 0, `${round}: ${session.said()}`);
    assertStory(session.said());
  }
  const lost = (await nodes('h1')).find((node) => node.status === 'Down')?.hostname;
  assert.ok(lost !== undefined);
});

test('the commands that it names to try next work', async () => {
  const rows = await nodes('h1').catch(() => nodes('h2'));
  const lost = rows.find((node) => node.status === 'Down')?.hostname ?? '';
  const observer = rows.find((node) => node.manager === 'Leader')?.hostname ?? '';
  await lab('heal', lost);
  await untilReady(observer, 3);
  await swarm(observer, 'service', 'scale', 'web=6');
  assert.equal((await running(observer, 'web')).length, 6);
  assert.match(await get('client', 'http://10.99.0.11:8080/'), /^task=web\./);
});
