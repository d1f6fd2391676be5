/** Programs run beside a container's first one: how long their records are kept. */
import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { Ids } from '../../base/id.ts';
import { SeededRandom } from '../../base/random.ts';
import { LocalEvents } from '../../daemon/containers/events.ts';
import { Execs } from '../../daemon/containers/execs.ts';
import type { Container, Exec } from '../../runtime/container/types.ts';
import { ManualClock } from '../support/manualClock.ts';
import { exec } from '../support/probeExec.ts';

const REQUEST = {
  config: exec([]),
  detachKeys: '',
  openStdout: false,
  openStderr: false,
};

/** As much of a running container as an exec asks of it; each exec ends when the test says so. */
function runningContainer(id: string, ends: ((code: number) => void)[]): Container {
  const exec = async (): Promise<Exec> => {
    const over = new Promise<number>((resolve) => ends.push(resolve));
    return {
      pid: 1,
      streams: {
        stdin: undefined,
        stdout: Readable.from([]),
        stderr: Readable.from([]),
        close: () => {},
      },
      wait: () => over,
      kill: async () => {},
      resize: async () => {},
    };
  };
  const config = { id, name: id, labels: {}, image: { reference: 'image', id: 'image' } };
  return { config, state: 'running', paused: false, exec } as unknown as Container;
}

test('what has ended can be asked about until its container is removed', async () => {
  const execs = new Execs(new Ids(new SeededRandom(1)), new LocalEvents(new ManualClock()));
  const ends: ((code: number) => void)[] = [];
  const removed = runningContainer('removed', ends);
  const stays = runningContainer('stays', ends);
  const ended = execs.create(removed, REQUEST);
  const waiting = execs.create(removed, REQUEST);
  const running = execs.create(removed, REQUEST);
  const other = execs.create(stays, REQUEST);
  const exec = await execs.start(ended, [0, 0]);
  const otherExec = await execs.start(other, [0, 0]);
  ends.forEach((end, at) => {
    end(at);
  });
  await Promise.all([exec.wait(), otherExec.wait()]);
  await execs.start(running, [0, 0]);
  assert.equal(execs.get(ended).exitCode, 0);
  execs.forget('removed');
  assert.equal(execs.get(ended).exitCode, 0);
  assert.throws(() => execs.get(waiting), /No such exec instance/);
  execs.forgetRemoved('removed');
  assert.throws(() => execs.get(ended), /No such exec instance/);
  assert.equal(execs.get(running).state, 'running');
  assert.equal(execs.get(other).exitCode, 1);
});
