/**
 * The status that goes with its answer leans on two fields that grpc-js keeps to itself: here they
 * are named, so that an update that drops one is noticed, and an answer comes without them, too.
 */
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import * as grpc from '@grpc/grpc-js';
import { statusAtOnce } from '../../proto/statusAtOnce.ts';

const require = createRequire(import.meta.url);
const { version } = require('@grpc/grpc-js/package.json') as { version: string };
/** What it was made for; look at server-interceptors.js of another one before changing it here. */
const MADE_FOR = '1.14.7';

const toBytes = (value: string): Buffer => Buffer.from(value);
const fromBytes = (bytes: Buffer): string => bytes.toString();
const kinds = {
  requestSerialize: toBytes,
  requestDeserialize: fromBytes,
  responseSerialize: toBytes,
  responseDeserialize: fromBytes,
};
const service = {
  echo: { path: '/test.Test/echo', requestStream: false, responseStream: false, ...kinds },
  fail: { path: '/test.Test/fail', requestStream: false, responseStream: false, ...kinds },
  count: { path: '/test.Test/count', requestStream: false, responseStream: true, ...kinds },
} as const;

type Call = grpc.ServerInterceptingCall;

/** As it is inside grpc-js. */
interface Inner {
  wantTrailers?: boolean;
  stream?: { _final?(done: () => void): void };
}

interface Answers {
  readonly echoed: readonly string[];
  readonly failure: string;
  readonly counted: readonly string[];
}

const implementation: grpc.UntypedServiceImplementation = {
  echo: (call: { request: string }, answer: grpc.sendUnaryData<string>) => {
    answer(null, call.request);
  },
  fail: (_call: unknown, answer: grpc.sendUnaryData<string>) => {
    answer({ code: grpc.status.NOT_FOUND, details: 'no such thing' });
  },
  count: (call: grpc.ServerWritableStream<string, string>) => {
    for (const text of ['1', '2', '3']) call.write(text);
    call.end();
  },
};

const same = (call: Call): Call => call;

/** What callers hear of a server whose calls went through `inner`, then ours, then `outer`. */
async function answersOf(inner: (call: Call) => Call, outer = same): Promise<Answers> {
  const server = new grpc.Server({
    interceptors: [(method, call) => outer(statusAtOnce(method, inner(call as Call)))],
  });
  server.addService(service, implementation);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) => {
      if (error === null) resolve(bound);
      else reject(error);
    });
  });
  const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
  const ask = (path: string, text: string): Promise<string> =>
    new Promise((resolve, reject) => {
      client.makeUnaryRequest(path, toBytes, fromBytes, text, (error, answer) => {
        if (error === null) resolve(answer ?? '');
        else reject(error);
      });
    });
  try {
    const texts = Array.from({ length: 20 }, (_, at) => `text ${at}`);
    const echoed = await Promise.all(texts.map((text) => ask(service.echo.path, text)));
    assert.deepEqual(echoed, texts);
    const failure = await ask(service.fail.path, 'it').then(
      () => 'none',
      (error: grpc.ServiceError) => `${error.code} ${error.details}`,
    );
    const counted: string[] = [];
    for await (const text of client.makeServerStreamRequest(
      service.count.path,
      toBytes,
      fromBytes,
      'three',
    )) {
      counted.push(String(text));
    }
    return { echoed, failure, counted };
  } finally {
    client.close();
    server.forceShutdown();
  }
}

const EXPECTED = { failure: '5 no such thing', counted: ['1', '2', '3'] };

test('grpc-js has the fields that the status at once looks for, and an answer uses them', async () => {
  assert.equal(version, MADE_FOR, 'proto/statusAtOnce.ts was made for another grpc-js: look again');
  let atOnce = 0;
  let isSending = false;
  const inner = (call: Call): Call => {
    const { wantTrailers, stream } = call as unknown as Inner;
    assert.equal(wantTrailers, false, "grpc-js's call has no wantTrailers any more");
    assert.ok(stream?._final !== undefined, "grpc-js's call has no stream any more");
    const final = stream._final.bind(stream);
    stream._final = (done) => {
      if (isSending) atOnce += 1;
      final(done);
    };
    return call;
  };
  const outer = (call: Call): Call => {
    const sendMessage = call.sendMessage.bind(call);
    call.sendMessage = (message, sent) => {
      isSending = true;
      sendMessage(message, sent);
      isSending = false;
    };
    return call;
  };
  const { echoed, failure, counted } = await answersOf(inner, outer);
  assert.deepEqual({ failure, counted }, EXPECTED);
  // Not those of a stream.
  assert.equal(atOnce, echoed.length);
});

/** The call as it would be if these of its fields were others. */
const changed =
  (fields: Readonly<Record<string, unknown>>) =>
  (call: Call): Call =>
    new Proxy(call, {
      get: (target, name) => {
        if (name in fields) return fields[String(name)];
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
      set: (target, name, value) => Reflect.set(target, name, value, target),
    });

test('where grpc-js has one of the fields no more, answers and their status come all the same', async () => {
  const without = { wantTrailers: undefined, stream: undefined };
  for (const fields of [
    { wantTrailers: undefined },
    { stream: undefined },
    without,
    { stream: {} },
  ]) {
    const { failure, counted } = await answersOf(changed(fields));
    assert.deepEqual({ failure, counted }, EXPECTED, JSON.stringify(Object.keys(fields)));
  }
});
