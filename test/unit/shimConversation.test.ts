/**
 * A newer daemon manages an older shim: test/fixtures/shim/conversation-1.json is what a shim of
 * format 1 and its daemon said to each other, recorded from the shim as it was then. Whatever is
 * changed later, this daemon says the same and understands the answers.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { SystemClock } from '../../base/clock.ts';
import { hasCode } from '../../base/errors.ts';
import { ShimClient, type ShimState } from '../../runtime/container/shimClient.ts';
import type { ExitRecord } from '../../runtime/container/types.ts';
import { until } from '../support/until.ts';

interface Step {
  readonly from: 'shim' | 'daemon';
  readonly what: string;
  readonly hex: string;
}

const steps = JSON.parse(
  readFileSync(resolve('test/fixtures/shim/conversation-1.json'), 'utf8'),
) as readonly Step[];
const TYPE_AT = 5;
const REQUEST_AT = 6;
const REPLY = 128;
const UNKNOWN = 99;
const bytesOf = (step: Step): Buffer => Buffer.from(step.hex, 'hex');

/** What the daemon said with `type`, and the messages the shim then sent. */
function exchange(type: number, nth = 0): { readonly asked: Buffer; readonly answers: Buffer[] } {
  const asks = steps.flatMap((step, index) =>
    step.from === 'daemon' && bytesOf(step)[TYPE_AT] === type ? [index] : [],
  );
  const start = asks[nth];
  const next = steps.findIndex((step, index) => index > start && step.from === 'daemon');
  const answers = steps.slice(start + 1, next < 0 ? undefined : next).map(bytesOf);
  return { asked: bytesOf(steps[start]), answers };
}

const withRequest = (message: Buffer, request: number): Buffer => {
  const copy = Buffer.from(message);
  copy.writeUInt16LE(request, REQUEST_AT);
  return copy;
};

/** A shim that says what the recorded one said. */
async function playShim(
  body: (client: ShimClient, seen: Seen, expect: (what: Exchange) => void) => Promise<void>,
): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'shim-conversation-'));
  const queue: Exchange[] = [];
  const seen: Seen = { states: [], exits: [], isClosed: false };
  const wrong: string[] = [];
  const server = createServer((connection: Socket) => {
    connection.write(bytesOf(steps[0]));
    connection.on('data', (data: Buffer) => {
      const next = queue.shift();
      const request = data.readUInt16LE(REQUEST_AT);
      if (next === undefined || !withRequest(next.asked, request).equals(data)) {
        wrong.push(data.toString('hex'));
      }
      for (const answer of next?.answers ?? []) {
        connection.write(answer[TYPE_AT] === REPLY ? withRequest(answer, request) : answer);
      }
    });
  });
  await new Promise<void>((listening) => {
    server.listen(join(dir, 'control.sock'), listening);
  });
  const client = ShimClient.connect(dir, new SystemClock(), {
    state: (state) => seen.states.push(state),
    exited: (record) => seen.exits.push(record),
    closed: () => {
      seen.isClosed = true;
    },
  });
  try {
    await body(client, seen, (one) => queue.push(one));
    assert.deepEqual(wrong, [], 'the daemon says what it said then');
  } finally {
    client.close();
    server.close();
    rmSync(dir, { recursive: true });
  }
}

type Exchange = ReturnType<typeof exchange>;
interface Seen {
  readonly states: ShimState[];
  readonly exits: ExitRecord[];
  isClosed: boolean;
}

test('a daemon manages a shim of format 1, from its greeting to its last word', async () => {
  await playShim(async (client, seen, expect) => {
    await until('the greeting', 5000, () => seen.states.length === 1);
    assert.deepEqual(seen.states[0], {
      phase: 'running',
      pid: 24066,
      startedAtMs: 1795290510542,
      frozen: false,
      startTicks: undefined,
    });
    expect(exchange(2, 0));
    await client.freeze(true);
    expect(exchange(2, 1));
    await client.freeze(false);
    assert.deepEqual(
      seen.states.map(({ frozen }) => frozen),
      [false, true, false],
    );
    expect(exchange(3));
    await client.resize(30, 100);
    expect(exchange(1));
    await client.kill(15);
    await until('its last word', 5000, () => seen.exits.length === 1);
    assert.deepEqual([seen.exits[0].exitCode, seen.exits[0].error], [42, undefined]);
    assert.equal(seen.isClosed, false);
  });
});

test('what an older shim does not know is refused as that, and it is managed on', async () => {
  await playShim(async (client, seen, expect) => {
    expect({ asked: exchange(3).asked, answers: exchange(UNKNOWN).answers });
    await assert.rejects(client.resize(30, 100), (error) => {
      assert(hasCode(error, 'unsupported'));
      assert.match(error.message, /its supervisor is of an older version: restart the container/);
      return true;
    });
    expect(exchange(2, 0));
    await client.freeze(true);
    assert.equal(seen.states.at(-1)?.frozen, true);
  });
});

test('a newer shim may say more: what follows, and what it calls by numbers yet unknown', async () => {
  await playShim(async (client, seen, expect) => {
    const { asked, answers } = exchange(2, 0);
    const longer = answers.map((answer) => {
      const more = Buffer.concat([answer, Buffer.from('and more')]);
      more.writeUInt32LE(more.length - 4, 0);
      return more;
    });
    const unknown = Buffer.from(answers[0]);
    unknown.writeUInt8(250, TYPE_AT);
    expect({ asked, answers: [unknown, ...longer] });
    await client.freeze(true);
    assert.equal(seen.states.at(-1)?.frozen, true);
  });
});
