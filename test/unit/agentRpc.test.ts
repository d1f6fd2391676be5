/** The agent's edges over real gRPC and TLS on loopback: its session, and what its host answers. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { TaskLogRecord } from '../../agent/controller.ts';
import { describeHost } from '../../agent/describe.ts';
import { batches, Host } from '../../agent/host.ts';
import type { SessionRequest } from '../../agent/link.ts';
import { hostHandlers, pingOver } from '../../agent/rpcHost.ts';
import { dialOver } from '../../agent/rpcLink.ts';
import { SystemClock } from '../../base/clock.ts';
import { SwarmError } from '../../base/errors.ts';
import { silentLog } from '../../base/log.ts';
import type { AssignmentMessage, SessionMessage } from '../../model/assignment.ts';
import { TaskState } from '../../model/taskState.ts';
import type { TaskStatus } from '../../model/types.ts';
import {
  assignmentToWire,
  descriptionFromWire,
  sessionToWire,
  statusUpdateFromWire,
} from '../../proto/convert.ts';
import type { NodeCredentials } from '../../proto/credentials.ts';
import { client, RpcChannel, RpcServer } from '../../proto/rpc.ts';
import { Dispatcher, Host as HostDescriptor } from '../../proto/services.ts';
import { ASSIGNED_STATUS, complete, makeTask, taskItem } from '../support/agentParts.ts';
import { TestAuthority } from '../support/certificates.ts';

const clock = new SystemClock();
const SESSION: SessionMessage = {
  sessionId: 's1',
  nodeId: 'node1',
  hostIndex: 3,
  role: 'worker',
  managers: [{ nodeId: 'm', address: 'a:1', isLeader: true }],
  heartbeatMs: 400,
  vxlanPort: 4789,
  rootCaCertificate: 'pem',
  wantedIssuer: '',
  certificateExpiryMs: 1,
};
let server: RpcServer;
let address: string;
let credentials: NodeCredentials;
let asked: unknown;
const statuses = new Map<string, TaskStatus>();

function record(line: number): TaskLogRecord {
  return { timeNs: BigInt(line), stream: 'stdout', data: Buffer.from(`line ${line}\n`) };
}

before(async () => {
  const authority = await TestAuthority.make(clock.wallMs());
  credentials = await authority.node('w1', 'worker', clock.wallMs());
  const own = await authority.node('m1', 'manager', clock.wallMs());
  server = new RpcServer({ log: silentLog, clock, authorize: () => {} });
  server.handle(Dispatcher, {
    session: async (request, send, context) => {
      asked = {
        ...request,
        description: request.description && descriptionFromWire(request.description),
      };
      if (request.previousSessionId === 'elsewhere') {
        throw new SwarmError('not_leader', 'ask b', { detail: { leader: 'b:1' } });
      }
      await send(sessionToWire(SESSION));
      await new Promise<void>((resolve) =>
        context.signal.addEventListener('abort', () => resolve()),
      );
    },
    heartbeat: async () => ({ periodMs: 250n }),
    assignments: async (_request, send) => {
      await send(assignmentToWire(complete(4, [taskItem(makeTask('t1'))])));
    },
    updateTaskStatus: async (request) => {
      for (const update of request.updates.map(statusUpdateFromWire)) {
        statuses.set(update.taskId, update.status);
      }
      return {};
    },
  });
  const host = new Host({
    clock,
    nodeId: 'm1',
    ping: pingOver(channelTo),
    logs: async function* (taskId, query) {
      if (taskId === 'none') throw new SwarmError('not_found', 'no container of task none');
      for (let line = 0; line < query.tail; line += 1) yield record(line);
    },
  });
  server.handle(HostDescriptor, hostHandlers(host));
  const { port } = await server.listen({ host: '127.0.0.1', port: 0, tls: own });
  address = `127.0.0.1:${port}`;
});

after(() => server.close());

function channelTo(to: string): RpcChannel {
  return new RpcChannel(to, { kind: 'node', credentials }, { clock });
}

function request(previousSessionId: string): SessionRequest {
  const description = describeHost({ engineVersion: '0.1.0' });
  const tls = { issuer: 'i', trust: 't' };
  return { description, address: '10.99.0.11', port: 2377, ...tls, previousSessionId };
}

test('a link carries session, heartbeat, assignments and statuses unchanged', async () => {
  const link = dialOver(channelTo)(address);
  const ended = new AbortController();
  const messages = link.openSession(request('s0'), ended.signal)[Symbol.asyncIterator]();
  assert.deepEqual((await messages.next()).value, SESSION);
  assert.deepEqual({ ...(asked as object) }, { ...(asked as object), ...request('s0') });
  assert.deepEqual(await link.heartbeat('s1', 1000), { periodMs: 250 });
  const received: AssignmentMessage[] = [];
  for await (const message of link.assignments('s1', ended.signal)) received.push(message);
  assert.deepEqual(received, [complete(4, [taskItem(makeTask('t1'))])]);
  const status = { ...ASSIGNED_STATUS, state: TaskState.RUNNING, containerId: 'c1' };
  await link.updateTaskStatus('s1', [{ taskId: 't1', status }], 1000);
  assert.deepEqual(statuses.get('t1'), status);
  ended.abort();
  await assert.rejects(Promise.resolve(messages.next()), { code: 'cancelled' });
  link.close();
});

test('a manager that does not lead says who does', async () => {
  const link = dialOver(channelTo)(address);
  const messages = link.openSession(request('elsewhere'), new AbortController().signal);
  await assert.rejects(
    async () => {
      for await (const _ of messages) assert.fail('no session is given');
    },
    { code: 'not_leader', detail: { leader: 'b:1' } },
  );
  link.close();
});

test('a host answers pings, and probes another one for whoever asks', async () => {
  assert.equal(await pingOver(channelTo)(address, 1000), 'm1');
  const channel = channelTo(address);
  const host = client(HostDescriptor, channel);
  const probe = async (nodeId: string, to: string) => {
    const { reachable, error } = await host.probeOther({ nodeId, address: to, timeoutMs: 300 });
    return { reachable, error };
  };
  assert.deepEqual(await probe('m1', address), { reachable: true, error: '' });
  assert.deepEqual(await probe('w9', address), {
    reachable: false,
    error: `${address} is node m1 now`,
  });
  assert.equal((await probe('w9', '127.0.0.1:1')).reachable, false);
  channel.close();
});

test('task logs come in batches, in order and whole; an unknown task says so', async () => {
  const channel = channelTo(address);
  const host = client(HostDescriptor, channel);
  const query = { follow: false, sinceNs: 0n, stdout: true, stderr: true };
  let lines = 0;
  let answers = 0;
  for await (const answer of host.taskLogs({ ...query, taskId: 't1', tail: 3000n })) {
    answers += 1;
    for (const one of answer.records) {
      assert.equal(Buffer.from(one.data).toString(), `line ${lines}\n`);
      lines += 1;
    }
  }
  assert.equal(lines, 3000);
  assert.ok(answers < 1500, `${answers} messages for 3000 lines`);
  await assert.rejects(
    async () => {
      for await (const _ of host.taskLogs({ ...query, taskId: 'none', tail: 1n })) {
        assert.fail('nothing is sent');
      }
    },
    { code: 'not_found', message: /no container of task none/ },
  );
  channel.close();
});

test('batches read no further ahead than their limit', async () => {
  let read = 0;
  const source = (async function* () {
    for (;;) {
      read += 1;
      yield read;
    }
  })();
  const taken = batches(source, 8)[Symbol.asyncIterator]();
  const first = (await taken.next()).value as number[];
  await new Promise((resolve) => setImmediate(resolve));
  assert.ok(first.length >= 1 && first.length <= 8);
  assert.ok(read <= first.length + 8, `${read} read`);
  const second = (await taken.next()).value as number[];
  assert.equal(second[0], first.length + 1);
  await taken.return?.();
});
