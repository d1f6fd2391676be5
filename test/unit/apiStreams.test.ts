/** Bytes between a client's connection and a program: frames, the end of input, detaching. */
import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { frame, joinStreams, parseDetachKeys } from '../../daemon/api/streams.ts';
import { settle } from '../support/manualClock.ts';

function joined(tty: boolean, detachKeys: readonly number[] = parseDetachKeys('')) {
  const connection = { input: new PassThrough(), output: new PassThrough() };
  const program = {
    stdin: new PassThrough(),
    stdout: new PassThrough(),
    stderr: new PassThrough(),
  };
  let closed = false;
  const options = { tty, stdin: true, stdout: true, stderr: true, detachKeys };
  const streams = {
    ...program,
    close: () => {
      closed = true;
    },
  };
  const how = joinStreams(connection, streams, options);
  return { connection, program, how, isClosed: () => closed };
}

test('output comes in frames, and the connection ends with it', async () => {
  const { connection, program, how, isClosed } = joined(false);
  program.stdout.end('out');
  program.stderr.end('err');
  assert.equal(await how, 'ended');
  const bytes = connection.output.read() as Buffer;
  assert.deepEqual(
    bytes,
    Buffer.concat([frame('stdout', Buffer.from('out')), frame('stderr', Buffer.from('err'))]),
  );
  assert.deepEqual([...bytes.subarray(0, 8)], [1, 0, 0, 0, 0, 0, 0, 3]);
  assert.ok(isClosed());
});

test('a client that went before the streams were there leaves none of them open', async () => {
  const connection = { input: new PassThrough(), output: new PassThrough() };
  connection.output.destroy();
  await settle();
  const streams = {
    stdin: new PassThrough(),
    stdout: new PassThrough(),
    stderr: new PassThrough(),
    close: () => streams.stdout.destroy(),
  };
  const options = { tty: false, stdin: true, stdout: true, stderr: true, detachKeys: [] };
  assert.equal(await joinStreams(connection, streams, options), 'gone');
  assert.ok(streams.stdout.destroyed);
});

test('the end of what is typed ends the input and not the output', async () => {
  const { connection, program, how } = joined(false);
  connection.input.end('typed');
  await settle();
  assert.equal((program.stdin.read() as Buffer).toString(), 'typed');
  await settle();
  assert.ok(program.stdin.writableEnded);
  program.stdout.end('late');
  program.stderr.end();
  assert.equal(await how, 'ended');
  assert.match((connection.output.read() as Buffer).toString(), /late$/);
});

test('the detach keys let go of a terminal; half of them are typed text', async () => {
  const { connection, program, how, isClosed } = joined(true);
  connection.input.write(Buffer.from([0x61, 16]));
  connection.input.write(Buffer.from([0x62]));
  await settle();
  assert.deepEqual([...(program.stdin.read() as Buffer)], [0x61, 16, 0x62]);
  connection.input.write(Buffer.from([16]));
  connection.input.write(Buffer.from([17]));
  assert.equal(await how, 'detached');
  assert.ok(isClosed());
  assert.ok(!program.stdin.writableEnded, 'the program keeps its input');
});

test('without a terminal the keys are bytes as any other', async () => {
  const { connection, program, how } = joined(false);
  connection.input.write(Buffer.from([16, 17]));
  await settle();
  assert.deepEqual([...(program.stdin.read() as Buffer)], [16, 17]);
  connection.output.destroy();
  assert.equal(await how, 'gone');
});

test('detach keys are read as Docker writes them', () => {
  assert.deepEqual(parseDetachKeys(''), [16, 17]);
  assert.deepEqual(parseDetachKeys('ctrl-a,d'), [1, 0x64]);
  assert.deepEqual(parseDetachKeys('ctrl-@,ctrl-_'), [0, 31]);
  assert.throws(() => parseDetachKeys('ctrl-aa'), { code: 'invalid' });
});
