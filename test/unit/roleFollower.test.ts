/** A host's role follows what the leader says, whatever it says while the host is changing. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLog } from '../../base/log.ts';
import { RoleFollower } from '../../daemon/roleFollower.ts';
import type { NodeRole } from '../../model/types.ts';
import { ManualClock, settle } from '../support/manualClock.ts';

/** A host whose changes end when `finish` is called. */
class Host {
  readonly clock = new ManualClock();
  readonly changes: NodeRole[] = [];
  role: NodeRole;
  finish: (error?: Error) => void = () => {};
  readonly follower: RoleFollower;

  constructor(role: NodeRole) {
    this.role = role;
    this.follower = new RoleFollower({
      clock: this.clock,
      log: silentLog,
      current: () => this.role,
      change: (next) => this.#change(next),
    });
  }

  async #change(next: NodeRole): Promise<void> {
    this.changes.push(next);
    await new Promise<void>((resolve, reject) => {
      this.finish = (error) => (error === undefined ? resolve() : reject(error));
    });
    this.role = next;
  }
}

test('a role wanted back while the host gives it up is taken again', async () => {
  const host = new Host('manager');
  host.follower.follow('worker');
  host.follower.follow('manager');
  host.finish();
  await settle();
  assert.deepEqual(host.changes, ['worker', 'manager']);
  host.finish();
  await settle();
  assert.equal(host.role, 'manager');
});

test('a change that fails is tried again later', async () => {
  const host = new Host('worker');
  host.follower.follow('manager');
  host.finish(new Error('nobody leads'));
  await settle();
  assert.equal(host.role, 'worker');
  await host.clock.advance(1000);
  host.finish();
  await settle();
  assert.equal(host.role, 'manager');
});

test('a manager that was taken out of the group becomes one anew', async () => {
  const host = new Host('manager');
  host.follower.follow('manager');
  host.follower.expelled();
  // Each of the other managers says so.
  host.follower.expelled();
  host.finish();
  await settle();
  host.finish();
  await settle();
  assert.deepEqual(host.changes, ['worker', 'manager']);
  assert.equal(host.role, 'manager');
});
