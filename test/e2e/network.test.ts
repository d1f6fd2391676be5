/**
 * The network of a swarm as services meet it, on a lab of two hosts: ports published in mode host,
 * who may have one, and what others take from a host.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { get, lab, loadImage, raise, until, untilReady, WEB_IMAGE } from '../support/lab.ts';
import { within } from '../support/labHosts.ts';

const WAIT_MS = 20_000;
const MEND_MS = 5000;
const HOSTS = { h1: '10.99.0.11', h2: '10.99.0.12' } as const;

async function docker(host: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await within(host, 'docker', ...args);
  assert.equal(code, 0, `docker ${args.join(' ')}: ${stderr}`);
  return stdout;
}

before(async () => {
  await raise(2, 1);
  await loadImage('h1', 'h2');
  await untilReady('h1', 2);
});

after(async () => {
  await lab('down');
});

test('a port in mode host is published by each task on its own host', async () => {
  const publish = ['--publish', 'published=8080,target=80,mode=host'];
  const env = ['--env', 'TASK_NAME={{.Node.Hostname}}'];
  const create = ['service', 'create', '--detach', '--mode', 'global', '--name', 'edge'];
  await docker('h1', ...create, ...publish, ...env, WEB_IMAGE);
  for (const [name, address] of Object.entries(HOSTS)) {
    const url = `http://${address}:8080/`;
    const answer = await until('edge answers', WAIT_MS, () => get('client', url));
    assert.match(answer, new RegExp(`\\b${name}\\b`), `${address} is answered by its own task`);
  }
  assert.match(await get('h1', 'http://127.0.0.1:8080/'), /\bh1\b/);
});

test('an update hands the port over: the new task has it when the old one has ended', async () => {
  await docker('h1', 'service', 'update', '--detach', '--env-add', 'TASK_NAME=second', 'edge');
  for (const address of Object.values(HOSTS)) {
    await until('the second answers', WAIT_MS, async () =>
      /second/.test(await get('client', `http://${address}:8080/`)) ? true : undefined,
    );
  }
  const said = await docker('h1', 'service', 'ps', '--no-trunc', '--format', '{{.Error}}', 'edge');
  assert.doesNotMatch(said, /taken/);
});

test('what somebody takes from a host is mended within 5 s', async () => {
  const address = HOSTS.h2;
  await within('h2', 'nft', 'flush', 'ruleset');
  await until('published again', MEND_MS, async () =>
    /second/.test(await get('client', `http://${address}:8080/`)) ? true : undefined,
  );
});
