/**
 * Groups that several make and remove below one parent at the same time: whoever is last takes the
 * parent away, and who comes meanwhile makes it again with all that it needs. And what is removed
 * with a group: all that somebody made in it.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { findHierarchies } from '../../runtime/sys/cgroup.ts';
import { makeGroups, removeGroup } from '../../runtime/sys/cgroupTree.ts';
import { readMounts } from '../../runtime/sys/mount.ts';
import { until } from '../support/until.ts';

const WAIT_MS = 20_000;
const ROUNDS = 500;
const cpuset = findHierarchies(readMounts()).find(
  ({ version, controllers }) => version === 1 && controllers.includes('cpuset'),
);
/**
 * Removes the parent when nothing is in it, again and again at other moments; not at every one, as
 * nobody could make anything then.
 */
const REMOVER = `
const { workerData: [flag, directory] } = require('node:worker_threads');
const { rmdirSync } = require('node:fs');
for (let round = 0; Atomics.load(flag, 0) === 0; round += 1) {
  try { rmdirSync(directory); } catch { /* in use, or not there */ }
  Atomics.wait(flag, 0, 0, (round % 11) / 50);
}`;

test('a group made while its parent is taken away can be used', {
  skip: cpuset === undefined && 'this host has no cpuset hierarchy of cgroup v1',
}, async () => {
  assert(cpuset !== undefined);
  const parent = `parents-${process.pid}`;
  const directory = join(cpuset.path, parent);
  const flag = new Int32Array(new SharedArrayBuffer(4));
  const remover = new Worker(REMOVER, { eval: true, workerData: [flag, directory] });
  const ended = new Promise((resolve) => remover.once('exit', resolve));
  try {
    for (let round = 0; round < ROUNDS; round += 1) {
      makeGroups(cpuset, [parent, 'one'], []);
      assert.notEqual(readFileSync(join(directory, 'one/cpuset.cpus'), 'utf8'), '\n');
      assert(removeGroup(join(directory, 'one')));
    }
  } finally {
    Atomics.store(flag, 0, 1);
    await ended;
    removeGroup(directory);
  }
});

/** Divides its group as a container can that has one of its own, and stays in the innermost. */
const DIVIDER = `
const { mkdirSync, writeFileSync } = require('node:fs');
for (let depth = 0; depth < 1100; depth += 1) {
  if (depth % 10 === 0) mkdirSync('one');
  mkdirSync('two');
  process.chdir('two');
}
writeFileSync('cgroup.procs', '0');
console.log('in');
setInterval(() => {}, 1000);`;

test('groups that somebody divided very often are removed, deeper than any path is long', async () => {
  const [hierarchy] = findHierarchies(readMounts());
  const directory = join(hierarchy.path, `deep-${process.pid}`);
  mkdirSync(directory);
  const divider = spawn(process.execPath, ['-e', DIVIDER], { cwd: directory });
  try {
    await once(divider.stdout, 'data');
    assert.equal(removeGroup(directory), false);
  } finally {
    divider.kill('SIGKILL');
    await until('all to be gone', WAIT_MS, () => removeGroup(directory));
  }
  assert(!existsSync(directory));
});
