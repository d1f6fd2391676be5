/**
 * A Debian 12 machine with systemd and Debian's own kernel (pure cgroup v2), under qemu: installed,
 * a swarm and a service made, the daemon restarted and killed with the containers unharmed, the
 * machine rebooted and back by itself, uninstalled without a trace; then a lab of two hosts on it.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { type Machine, runDebian } from '../support/debianMachine.ts';
import { TOP } from '../tidy/sources.ts';

const TIMEOUT_MS = 900_000;
const STORY = join(TOP, 'test', 'support', 'guestScripts', 'debianStory');

let machine: Machine;

function fact(key: string): string {
  const value = machine.facts.get(key);
  assert.ok(value !== undefined, `the machine told no "${key}":\n${machine.output}`);
  return value;
}

before(async () => {
  machine = await runDebian(readFileSync(STORY, 'utf8'), TIMEOUT_MS);
});

test("on Debian's kernel with cgroup v2 alone, the installed unit is up once it is ready", () => {
  assert.match(fact('kernel'), /^6\.1\./);
  assert.equal(fact('cgroup'), 'cgroup2fs|');
  assert.equal(fact('install.code'), '0');
  const unit = fact('unit');
  for (const part of ['Type=notify', 'ActiveState=active', 'SubState=running', 'State=enabled']) {
    assert.ok(unit.includes(part), unit);
  }
});

test('a service runs there, called through its port and by its name', () => {
  assert.equal(fact('init.code'), '0|');
  assert.match(fact('load'), /Loaded image: tsswarm\/web:latest/);
  assert.match(fact('service'), /converged/);
  assert.match(fact('outside'), /^task=web\.[12]\..*client=192\.0\.2\.11:/);
  assert.match(fact('inside'), /^(task=web\.[12]\.[^|]*\|){4}/);
});

test('systemctl restart and kill -9 of the daemon leave the containers running', () => {
  assert.equal(fact('restart.code'), '0|');
  assert.equal(machine.facts.has('restarted'), false, 'the main process is a new one');
  assert.match(fact('before'), /^(\d+\|){4,}$/);
  assert.equal(fact('after'), fact('before'));
  assert.match(fact('restarted.answer'), /^task=web/);
  assert.match(fact('restarted.ps'), /^web\.1 Running[^|]*\|web\.2 Running[^|]*\|$/);
  assert.equal(fact('killed.after'), fact('before'));
});

test('after a reboot the node and its tasks are back by themselves', () => {
  assert.equal(fact('rebooted.node'), 'debian Ready Leader|');
  assert.match(fact('rebooted.ps'), /^web\.\d Running[^|]*\|web\.\d Running[^|]*\|$/);
  assert.match(fact('rebooted.answer'), /^task=web/);
});

test('uninstalled with containers running, nothing is left', () => {
  assert.equal(fact('uninstall.code'), '0|');
  assert.equal(fact('left.files'), '');
  assert.doesNotMatch(fact('left.unit'), /enabled/);
  assert.equal(fact('left.group'), 'none|');
  assert.equal(fact('left.tables'), '');
  assert.doesNotMatch(fact('left.links'), /tsswarm/);
  assert.equal(fact('left.mounts'), 'none|');
  assert.equal(fact('left.processes'), 'none|');
});

test("two hosts over Debian's kernel: by name, through every host's port, and gone again", () => {
  assert.equal(fact('lab.up.code'), '0|');
  assert.match(fact('lab.service'), /converged/);
  const calls = [...fact('lab.inside').matchAll(/(\d+) +host=(h[12])/g)];
  assert.deepEqual(calls.map((match) => match[2]).sort(), ['h1', 'h2'], fact('lab.inside'));
  assert.equal(
    calls.reduce((sum, match) => sum + Number(match[1]), 0),
    16,
  );
  const answers = fact('lab.outside');
  assert.equal(answers.match(/task=[^|]* client=10\.99\.0\.100:/g)?.length, 6, answers);
  assert.equal(fact('lab.down.code'), '0|');
  assert.equal(fact('lab.left'), '');
  assert.equal(fact('done'), 'yes');
});
