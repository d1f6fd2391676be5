/**
 * Long computations in slices: when they pause, and who comes next.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { atOnce, SLICE_MS, Slices, type Steps } from '../../base/slices.ts';
import { ManualClock } from '../support/manualClock.ts';

/** A clock on which each step takes as long as it says. */
class Scene {
  readonly timers = new ManualClock();
  readonly told: string[] = [];
  readonly slices: Slices;
  #spentMs = 0;

  constructor() {
    this.slices = new Slices({
      nowMs: () => this.timers.nowMs() + this.#spentMs,
      after: (delayMs, callback) => this.timers.after(delayMs, callback),
    });
  }

  *steps(name: string, count: number, stepMs: number): Steps<string> {
    for (let at = 1; at <= count; at += 1) {
      this.#spentMs += stepMs;
      this.told.push(`${name}${at}`);
      yield;
    }
    return `${name} is done`;
  }

  start(name: string, count: number, stepMs: number): () => void {
    return this.slices.start(
      this.steps(name, count, stepMs),
      (value) => this.told.push(value),
      (error) => this.told.push(String(error)),
    );
  }
}

test('what fits one slice is done before start() returns', () => {
  const scene = new Scene();
  scene.start('a', 3, SLICE_MS / 8);
  assert.deepEqual(scene.told, ['a1', 'a2', 'a3', 'a is done']);
});

test('two that take long take turns, and rest after each slice', async () => {
  const scene = new Scene();
  scene.start('a', 2, SLICE_MS);
  scene.start('b', 1, SLICE_MS);
  assert.deepEqual(scene.told, ['a1']);
  await scene.timers.advance(SLICE_MS / 2);
  assert.deepEqual(scene.told, ['a1'], 'the thread is everybody’s for a while');
  await scene.timers.advance(100);
  assert.deepEqual(scene.told, ['a1', 'a2', 'b1', 'a is done', 'b is done']);
});

test('one that is given up does nothing more, and holds nobody up', async () => {
  const scene = new Scene();
  const giveUp = scene.start('a', 5, SLICE_MS);
  scene.start('b', 1, 0);
  giveUp();
  await scene.timers.advance(100);
  assert.deepEqual(scene.told, ['a1', 'b1', 'b is done']);
});

test('one that throws is told so, and the next one goes on', async () => {
  const scene = new Scene();
  const breaks = function* (): Steps<never> {
    yield;
    throw new Error('broken');
  };
  scene.start('a', 2, SLICE_MS);
  const broken = scene.slices.run(breaks());
  scene.start('b', 1, 0);
  const rejected = assert.rejects(broken, /broken/);
  await scene.timers.advance(100);
  await rejected;
  assert.ok(scene.told.includes('b is done'));
});

test('a computation can be made at once by those who may wait', () => {
  assert.equal(atOnce(new Scene().steps('a', 4, SLICE_MS)), 'a is done');
});
