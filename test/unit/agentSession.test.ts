/** How an agent finds the leader, keeps its session and gets its statuses through. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PASSING_STATE_MS, Reporter, STATUS_BATCH } from '../../agent/reporter.ts';
import { REFUSALS, Session, type SessionHandlers } from '../../agent/session.ts';
import { SwarmError } from '../../base/errors.ts';
import { silentLog } from '../../base/log.ts';
import { SeededRandom } from '../../base/random.ts';
import type { TaskStatusUpdate } from '../../model/assignment.ts';
import { TaskState } from '../../model/taskState.ts';
import type { TaskStatus } from '../../model/types.ts';
import { ASSIGNED_STATUS, change, complete } from '../support/agentParts.ts';
import { ManualClock, settle } from '../support/manualClock.ts';
import { scriptedManagers } from '../support/scriptedManager.ts';

const DESCRIPTION = {
  hostname: 'h1',
  os: 'linux',
  architecture: 'x86_64',
  kernel: '6',
  nanoCpus: 2e9,
  memoryBytes: 1e9,
  engineVersion: '1',
  engineLabels: {},
  machineId: '',
  genericResources: [],
};

function setUp(...addresses: string[]) {
  const clock = new ManualClock();
  const { managers, dial } = scriptedManagers(...addresses);
  const events: string[] = [];
  const handlers: SessionHandlers = {
    up: (message) => events.push(`up ${message.sessionId}`),
    message: (message) => events.push(`message ${message.role}`),
    assignment: (message) => {
      events.push(`assignment ${message.resultsIn}`);
      return message.resultsIn !== 99;
    },
    settled: async () => {
      events.push('settled');
    },
    down: (reason) => events.push(`down ${reason}`),
    refused: (error) => events.push(`refused ${error.message}`),
  };
  const session = new Session({
    clock,
    random: new SeededRandom(1),
    log: silentLog,
    dial,
    request: () => ({
      description: DESCRIPTION,
      address: '10.99.0.11',
      port: 2377,
      issuer: '',
      trust: '',
    }),
    handlers,
  });
  session.setManagers(addresses);
  return { clock, managers, session, events };
}

test('a session opens with the leader, heartbeats in time and passes assignments', async () => {
  const { clock, managers, session, events } = setUp('a:1');
  session.start();
  await settle();
  assert.equal(managers[0].session.request.address, '10.99.0.11');
  managers[0].assign(complete(1, []));
  managers[0].session.messages.push({ ...managers[0].message('a:1#1'), role: 'manager' });
  await clock.advance(2600);
  assert.deepEqual(events, ['up a:1#1', 'assignment 1', 'message manager']);
  assert.equal(managers[0].session.heartbeats, 5);
  await session.stop();
});

test('networks that are in place are confirmed to a manager that asks, by message', async () => {
  const { managers, session, events } = setUp('a:1');
  session.start();
  await settle();
  managers[0].assign(complete(1, []));
  managers[0].assign({ ...change(2, []), confirm: true });
  await settle();
  assert.deepEqual(events.slice(1), ['assignment 1', 'assignment 2', 'settled']);
  assert.deepEqual(managers[0].applied, [2]);
  await session.stop();
});

test('a manager that does not lead is left for the one it names, without a pause', async () => {
  const { managers, session, events } = setUp('a:1', 'b:1', 'c:1');
  managers[0].behaviour = { redirectsTo: 'c:1' };
  session.start();
  await settle();
  assert.deepEqual(events, ['up c:1#1']);
  assert.equal(managers[1].dials, 0);
  await session.stop();
});

test('a silent manager is passed over after a deadline; a redirect to it waits', async () => {
  const { clock, managers, session, events } = setUp('a:1', 'b:1');
  managers[0].behaviour = 'silent';
  managers[1].behaviour = { redirectsTo: 'a:1' };
  session.start();
  await clock.advance(1400);
  assert.equal(managers[1].dials, 0);
  await clock.advance(600);
  assert.ok(managers[1].dials >= 1);
  assert.equal(managers[0].dials, 1, 'the one that was silent just now is not dialled again');
  managers[1].behaviour = 'leads';
  await clock.advance(3000);
  assert.deepEqual(events, ['up b:1#1']);
  await session.stop();
});

test('three heartbeats without an answer end the session; the next manager is tried', async () => {
  const { clock, managers, session, events } = setUp('a:1', 'b:1');
  session.start();
  await clock.advance(1200);
  managers[0].behaviour = 'silent';
  await clock.advance(1500);
  assert.equal(events[0], 'up a:1#1');
  assert.match(events[1], /^down 3 heartbeats were not answered/);
  assert.equal(events[2], 'up b:1#1');
  assert.equal(managers[1].session.request.previousSessionId, 'a:1#1');
  await session.stop();
});

test('a manager that ends the stream, or that was told not to lead, is left at once', async () => {
  const { clock, managers, session, events } = setUp('a:1', 'b:1');
  session.start();
  await settle();
  managers[0].behaviour = { redirectsTo: 'b:1' };
  managers[0].session.messages.end(new SwarmError('not_leader', 'stepped down'));
  await clock.advance(250);
  assert.equal(events[2], 'up b:1#1');
  session.setManagers(['a:1', 'b:1'], 'b:1');
  await settle();
  assert.equal(events.length, 3, 'it is there already');
  managers[0].behaviour = 'leads';
  session.setManagers(['a:1', 'b:1'], 'a:1');
  await settle();
  assert.match(events[3], /^down manager a:1 leads now/);
  assert.equal(events[4], 'up a:1#2');
  await session.stop();
});

test('while every manager refuses, tries are spaced out and never stop', async () => {
  const { clock, managers, session } = setUp('a:1', 'b:1', 'c:1');
  for (const manager of managers) manager.behaviour = { redirectsTo: '' };
  session.start();
  await clock.advance(60_000);
  const dials = managers.map((manager) => manager.dials);
  const total = dials.reduce((sum, count) => sum + count, 0);
  assert.ok(total > 200 && total < 500, `${total} dials in a minute`);
  assert.ok(Math.max(...dials) - Math.min(...dials) <= 2, 'each gets its turn');
  await session.stop();
});

test('a node that is refused again and again hears why, and asks only now and then', async () => {
  const { clock, managers, session, events } = setUp('a:1');
  managers[0].behaviour = { refuses: new SwarmError('forbidden', 'node1 was removed') };
  session.start();
  await clock.advance(9000);
  assert.deepEqual(events, Array(2).fill('refused node1 was removed'));
  assert.equal(managers[0].dials, REFUSALS + 1);
  await session.stop();
});

test('assignments that do not fit are asked for anew on the same session', async () => {
  const { clock, managers, session, events } = setUp('a:1');
  session.start();
  await settle();
  managers[0].assign(complete(99, []));
  await clock.advance(200);
  assert.equal(managers[0].session.streams, 2);
  managers[0].assign(complete(1, []));
  await settle();
  assert.deepEqual(events, ['up a:1#1', 'assignment 99', 'assignment 1']);
  await session.stop();
});

test('a session without any manager waits until it is told of one', async () => {
  const { clock, session, events } = setUp('a:1');
  session.setManagers([]);
  session.start();
  await clock.advance(10_000);
  assert.deepEqual(events, []);
  session.setManagers(['a:1']);
  await settle();
  assert.deepEqual(events, ['up a:1#1']);
  await session.stop();
});

// ---- reporter -----------------------------------------------------------------------------------

function status(state: TaskState): TaskStatus {
  return { ...ASSIGNED_STATUS, state };
}

function reporting() {
  const clock = new ManualClock();
  const reporter = new Reporter({ clock, log: silentLog });
  const sent: (readonly TaskStatusUpdate[])[] = [];
  let answer: () => Promise<void> = async () => {};
  const send = async (updates: readonly TaskStatusUpdate[]): Promise<void> => {
    sent.push(updates);
    await answer();
  };
  return {
    clock,
    reporter,
    sent,
    send,
    answerWith: (next: () => Promise<void>) => {
      answer = next;
    },
  };
}

test('states that pass quickly are not reported by themselves; RUNNING goes at once', async () => {
  const { clock, reporter, sent, send } = reporting();
  reporter.open(send);
  reporter.report('t1', status(TaskState.PREPARING));
  await clock.advance(PASSING_STATE_MS / 2);
  reporter.report('t1', status(TaskState.RUNNING));
  await settle();
  assert.equal(sent.length, 1);
  assert.equal(sent[0][0].status.state, TaskState.RUNNING);
  assert.equal(reporter.pending, 0);
  reporter.report('t2', status(TaskState.PREPARING));
  await clock.advance(PASSING_STATE_MS);
  assert.equal(sent.length, 2, 'a state that lasts is reported');
});

test('while a call is under way the rest gathers, latest per task, in batches', async () => {
  const { reporter, sent, send, answerWith } = reporting();
  let release = (): void => {};
  answerWith(() => new Promise((resolve) => (release = resolve)));
  reporter.open(send);
  reporter.report('t0', status(TaskState.RUNNING));
  await settle();
  for (let at = 1; at <= STATUS_BATCH + 5; at += 1) {
    reporter.report(`t${at}`, status(TaskState.RUNNING));
  }
  reporter.report('t1', status(TaskState.FAILED));
  await settle();
  assert.equal(sent.length, 1);
  release();
  await settle();
  assert.equal(sent[1].length, STATUS_BATCH);
  assert.equal(sent[1][0].status.state, TaskState.FAILED);
  release();
  await settle();
  assert.equal(sent[2].length, 5);
  release();
  await settle();
  assert.equal(reporter.pending, 0);
});

test('a status replaced while it was sent is sent again', async () => {
  const { reporter, sent, send, answerWith } = reporting();
  let release = (): void => {};
  answerWith(() => new Promise((resolve) => (release = resolve)));
  reporter.open(send);
  reporter.report('t1', status(TaskState.RUNNING));
  await settle();
  reporter.report('t1', status(TaskState.FAILED));
  release();
  await settle();
  assert.equal(sent.length, 2);
  assert.equal(sent[1][0].status.state, TaskState.FAILED);
});

test('what a lost session left unacknowledged goes to the next; failures back off', async () => {
  const { clock, reporter, sent, send, answerWith } = reporting();
  answerWith(() => Promise.reject(new SwarmError('unavailable', 'not now')));
  reporter.report('t1', status(TaskState.RUNNING));
  await clock.advance(1000);
  assert.equal(sent.length, 0, 'no session, no call');
  reporter.open(send);
  await clock.advance(60_000);
  assert.ok(sent.length > 10 && sent.length < 30, `${sent.length} calls in a minute`);
  reporter.close();
  const before = sent.length;
  await clock.advance(60_000);
  assert.equal(sent.length, before);
  answerWith(async () => {});
  reporter.open(send);
  await settle();
  assert.equal(sent.length, before + 1);
  assert.equal(reporter.pending, 0);
});

test('a call that hangs in a lost session holds nothing up in the next one', async () => {
  const { reporter, sent, send, answerWith } = reporting();
  answerWith(() => new Promise(() => {}));
  reporter.open(send);
  reporter.report('t1', status(TaskState.RUNNING));
  await settle();
  reporter.close();
  answerWith(async () => {});
  reporter.open(send);
  await settle();
  assert.equal(sent.length, 2);
  assert.equal(reporter.pending, 0);
});
