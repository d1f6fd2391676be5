/**
 * The checkers of client histories (test/support/linearizability, registerHistory): histories small
 * enough to be judged by eye, random ones judged by trying every order, and one as long as those
 * that the tests of real managers make.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Random, SeededRandom } from '../../base/random.ts';
import { checkLinearizable, NEVER } from '../support/linearizability.ts';
import {
  faultsOf,
  REGISTER,
  type RegisterInput,
  type RegisterOperation,
  type RegisterOutput,
} from '../support/registerHistory.ts';

const DONE = { kind: 'done' } as const;
const STALE = { kind: 'stale' } as const;
const ABSENT = { kind: 'absent' } as const;
const UNKNOWN = undefined;
const READ = { kind: 'read' } as const;
const REMOVE = { kind: 'remove', born: 'a' } as const;

let clients = 0;

function operation(
  calledAt: number,
  returnedAt: number,
  input: RegisterInput,
  output: RegisterOutput | undefined,
  key = 'k',
): RegisterOperation {
  clients += 1;
  const client = clients;
  return { key, calledAt, returnedAt, input, output, client, at: `h${client % 3}`, said: '' };
}

const create = (serial: string) => ({ kind: 'create', serial }) as const;
/** The version of a serial is its place in the alphabet. */
const versionOf = (serial: string): number => serial.charCodeAt(0);
const set = (expected: string, serial: string, born = 'a') =>
  ({ kind: 'set', born, expected, version: versionOf(expected), serial }) as const;
const shown = (serial: string, born = 'a') =>
  ({ kind: 'shown', shown: { born, serial, version: versionOf(serial) } }) as const;
const NOTHING = { kind: 'shown', shown: undefined } as const;
const made = operation(0, 1, create('a'), DONE);

const GOOD: Readonly<Record<string, readonly RegisterOperation[]>> = {
  'one after another': [
    made,
    operation(2, 3, READ, shown('a')),
    operation(4, 5, set('a', 'b'), DONE),
    operation(6, 7, READ, shown('b')),
    operation(8, 9, set('a', 'c'), STALE),
    operation(10, 11, REMOVE, DONE),
    operation(12, 13, READ, NOTHING),
    operation(14, 15, set('b', 'd'), ABSENT),
  ],
  'reads during a write see it or not': [
    made,
    operation(2, 20, set('a', 'b'), DONE),
    operation(3, 4, READ, shown('a')),
    operation(5, 6, READ, shown('b')),
    operation(7, 8, READ, shown('b')),
  ],
  'one of two that race wins, and the loser may be told before': [
    made,
    operation(2, 30, set('a', 'b'), DONE),
    operation(3, 10, set('a', 'c'), STALE),
    operation(31, 32, READ, shown('b')),
  ],
  'a write whose outcome is unknown shows long after': [
    made,
    operation(2, NEVER, set('a', 'b'), UNKNOWN),
    operation(10, 11, READ, shown('a')),
    operation(20, 21, READ, shown('a')),
    operation(30, 31, READ, shown('b')),
  ],
  'a write whose outcome is unknown never shows': [
    made,
    operation(2, NEVER, set('a', 'b'), UNKNOWN),
    operation(10, 11, set('a', 'c'), DONE),
    operation(20, 21, READ, shown('c')),
  ],
  'only a write of unknown outcome explains a refusal': [
    made,
    operation(2, NEVER, set('a', 'b'), UNKNOWN),
    operation(10, 11, set('a', 'c'), STALE),
    operation(12, 13, REMOVE, DONE),
  ],
  'an unknown removal, and another of the name': [
    made,
    operation(2, NEVER, REMOVE, UNKNOWN),
    operation(4, 5, READ, shown('a')),
    operation(6, 7, create('c'), DONE),
    operation(8, 9, READ, shown('c', 'c')),
  ],
  'keys know nothing of each other': [
    made,
    operation(2, 3, create('b'), DONE, 'other'),
    operation(4, 5, READ, shown('a')),
    operation(
      6,
      7,
      READ,
      { kind: 'shown', shown: { born: 'b', serial: 'b', version: 98 } },
      'other',
    ),
  ],
};

/** With what the checks without a search say; '' where only the search can tell. */
const BAD: Readonly<Record<string, readonly [RegExp | '', readonly RegisterOperation[]]>> = {
  'a stale read': [
    /to a read that began after/,
    [made, operation(2, 3, set('a', 'b'), DONE), operation(4, 5, READ, shown('a'))],
  ],
  'a read that goes back behind another': [
    /to a read that began after/,
    [
      made,
      operation(2, 20, set('a', 'b'), DONE),
      operation(3, 4, READ, shown('b')),
      operation(5, 6, READ, shown('a')),
    ],
  ],
  'an acknowledged write that is lost': [
    /shows nothing, and nobody removed it/,
    [made, operation(2, 3, READ, NOTHING)],
  ],
  'two that both take the place of one': [
    /both took the place of a/,
    [made, operation(2, 10, set('a', 'b'), DONE), operation(3, 11, set('a', 'c'), DONE)],
  ],
  'a value that nobody wrote': [
    /which nobody wrote there/,
    [made, operation(2, 3, READ, shown('z'))],
  ],
  'a value before it was written': [
    /before it was written/,
    [made, operation(2, 3, READ, shown('b')), operation(4, 5, set('a', 'b'), DONE)],
  ],
  'a refused write that shows': [
    /answered "stale"/,
    [made, operation(2, 3, set('a', 'b'), STALE), operation(4, 5, READ, shown('b'))],
  ],
  'a refusal without a reason': ['', [made, operation(2, 3, set('a', 'b'), STALE)]],
  'an object said to be absent that is there': [
    '',
    [made, operation(2, 3, set('a', 'b'), ABSENT), operation(4, 5, READ, shown('a'))],
  ],
  'a name said to be taken that is free': [
    '',
    [
      made,
      operation(2, 3, REMOVE, DONE),
      operation(4, 5, create('b'), { kind: 'taken' }),
      operation(6, 7, READ, NOTHING),
    ],
  ],
  'a write of unknown outcome that comes and goes': [
    /to a read that began after/,
    [
      made,
      operation(2, NEVER, set('a', 'b'), UNKNOWN),
      operation(4, 5, READ, shown('b')),
      operation(6, 7, READ, shown('a')),
    ],
  ],
  'a removed object that is back': [
    '',
    [made, operation(2, 3, REMOVE, DONE), operation(4, 5, READ, shown('a'))],
  ],
};

for (const [what, history] of Object.entries(GOOD)) {
  test(`linearizable: ${what}`, () => {
    assert.equal(checkLinearizable(REGISTER, history).kind, 'linearizable');
    assert.equal(isAnyOrder(history), true);
    assert.deepEqual(faultsOf(history), []);
  });
}

for (const [what, [said, history]] of Object.entries(BAD)) {
  test(`not linearizable: ${what}`, () => {
    assert.equal(checkLinearizable(REGISTER, history).kind, 'violation');
    assert.equal(isAnyOrder(history), false);
    const faults = faultsOf(history);
    if (said === '') assert.deepEqual(faults, []);
    else assert.match(faults.join('; '), said);
  });
}

test('two versions of one value, or two values of one version, are told', () => {
  const at = (version: number, serial: string): RegisterOutput => ({
    kind: 'shown',
    shown: { born: 'a', serial, version },
  });
  const twice = [made, operation(2, 3, READ, at(5, 'a')), operation(4, 5, READ, at(6, 'a'))];
  assert.match(faultsOf(twice).join(), /a has versions 5 and 6/);
  const other = operation(2, 3, create('b'), DONE, 'other');
  const shared = { kind: 'shown', shown: { born: 'b', serial: 'b', version: 5 } } as const;
  const both = [
    made,
    other,
    operation(4, 5, READ, at(5, 'a')),
    operation(6, 7, READ, shared, 'other'),
  ];
  assert.match(faultsOf(both).join(), /version 5 is of a and of b/);
});

test('a write with a lower version than one of another key that was shown before is told', () => {
  const history = [
    operation(0, 1, create('m'), DONE, 'other'),
    operation(2, 3, READ, shown('m', 'm'), 'other'),
    operation(4, 5, create('a'), DONE),
    operation(6, 7, READ, shown('a')),
  ];
  assert.match(faultsOf(history).join(), /a is at 97, and began after 109/);
});

/** Every order of some of the operations that holds all which returned, tried one by one. */
function isAnyOrder(history: readonly RegisterOperation[]): boolean {
  return [...new Set(history.map(({ key }) => key))].every((key) => {
    const own = history.filter((each) => each.key === key);
    return extend('', own);
  });
}

function extend(state: string, left: readonly RegisterOperation[]): boolean {
  if (left.every((each) => each.returnedAt === NEVER)) return true;
  return left.some((next) => {
    if (left.some((other) => other.returnedAt < next.calledAt)) return false;
    const after = REGISTER.step(state, next.input, next.output);
    const rest = left.filter((each) => each !== next);
    return after !== undefined && extend(after, rest);
  });
}

/** As many clients on one register that is real, with answers that are wrong now and then. */
function randomHistory(
  random: Random,
  length: number,
  wrongOneIn: number,
  unknownOneIn: number,
): RegisterOperation[] {
  const moments = new Map<number, [calledAt: number, placedAt: number, returnedAt: number]>();
  for (let at = 0; at < length; at += 1) {
    const three = [random.float(), random.float(), random.float()].sort(
      (left, right) => left - right,
    );
    const [calledAt, placedAt, returnedAt] = three.map((share) => (at + share * 4) * 1000);
    moments.set(at, [calledAt, placedAt, returnedAt]);
  }
  const order = [...moments].sort(([, left], [, right]) => left[1] - right[1]);
  const serials = [...'abcdefghijklmnop'];
  let state = '';
  const known = ['a', 'b'];
  return order.map(([at, [calledAt, , returnedAt]]) => {
    const [born, serial] = state.split('/');
    const some = (): string => known[random.below(known.length)];
    const next = serials[at] ?? `s${at}`;
    const inputs: RegisterInput[] = [
      READ,
      READ,
      create(next),
      set(random.below(3) > 0 ? (serial ?? 'a') : some(), next, born || 'a'),
      set(serial ?? 'a', next, born || 'a'),
      { kind: 'remove', born: random.below(3) > 0 ? born || 'a' : some() },
    ];
    const input = inputs[random.below(inputs.length)];
    const right = answerIn(state, input);
    const unknown = input.kind !== 'read' && random.below(unknownOneIn) === 0;
    const isPlaced = !unknown || random.below(2) === 0;
    if (isPlaced) state = REGISTER.step(state, input, unknown ? UNKNOWN : right) ?? state;
    known.push(next);
    const isWrong = random.below(wrongOneIn) === 0;
    const no = input.kind === 'remove' ? ABSENT : STALE;
    const wrong = input.kind === 'read' ? shown(some()) : right.kind === 'done' ? no : DONE;
    const output = unknown ? UNKNOWN : isWrong && input.kind !== 'create' ? wrong : right;
    return operation(calledAt, unknown ? NEVER : returnedAt, input, output);
  });
}

function answerIn(state: string, input: RegisterInput): RegisterOutput {
  if (input.kind === 'read') {
    const [born, serial] = state.split('/');
    return state === '' ? NOTHING : shown(serial, born);
  }
  const answers: RegisterOutput[] = [DONE, { kind: 'taken' }, STALE, ABSENT];
  const wanted = answers.find((output) => REGISTER.step(state, input, output) !== undefined);
  assert.ok(wanted !== undefined);
  return wanted;
}

test('random histories of few operations are judged as by trying every order', () => {
  const random = new SeededRandom(4);
  const counts = { linearizable: 0, violation: 0, undecided: 0 };
  for (let round = 0; round < 4_000; round += 1) {
    const history = randomHistory(random, 2 + random.below(7), 6, 4);
    const verdict = checkLinearizable(REGISTER, history);
    counts[verdict.kind] += 1;
    const expected = isAnyOrder(history) ? 'linearizable' : 'violation';
    assert.equal(verdict.kind, expected, JSON.stringify(history, undefined, 1));
    if (expected === 'linearizable') assert.deepEqual(faultsOf(wellNumbered(history)), []);
  }
  assert.ok(counts.linearizable > 500 && counts.violation > 500, JSON.stringify(counts));
});

/** Without versions, which this random register does not keep. */
function wellNumbered(history: readonly RegisterOperation[]): RegisterOperation[] {
  return history.filter(({ input }) => input.kind !== 'read');
}

const RARELY = 1_000_000_000;

test('a history of thousands of operations is judged in a few steps each, right and wrong', () => {
  const random = new SeededRandom(5);
  const steps = 300_000;
  const right = randomHistory(random, 3_000, RARELY, 40);
  assert.equal(checkLinearizable(REGISTER, right, steps).kind, 'linearizable');
  const history = randomHistory(random, 3_000, RARELY, 40);
  const late = history.filter(({ input }) => input.kind === 'read').at(-9);
  assert.ok(late !== undefined);
  const wrong = history.map((each) => (each === late ? { ...late, output: shown('a') } : each));
  const verdict = checkLinearizable(REGISTER, wrong, steps);
  assert.ok(verdict.kind === 'violation', verdict.kind);
  assert.ok(verdict.order.length > history.length / 2);
});

test('a search that takes too long is given up, and says so', () => {
  const reads = Array.from({ length: 30 }, (_, at) => operation(at, 100 + at, READ, NOTHING));
  assert.equal(checkLinearizable(REGISTER, reads, 10).kind, 'undecided');
  assert.equal(checkLinearizable(REGISTER, reads, 31).kind, 'linearizable');
});
