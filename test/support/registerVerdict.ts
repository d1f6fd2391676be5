/**
 * What is asserted of a history of register clients once all faults are over: the checks without a
 * search, and the search. A failure tells the operations around it.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkLinearizable, type Operation } from './linearizability.ts';
import {
  faultsOf,
  REGISTER,
  type RegisterInput,
  type RegisterOperation,
  type RegisterOutput,
} from './registerHistory.ts';

const TOLD_FAULTS = 10;
const TOLD_ORDER = 12;
const TOLD_LATER = 12;

/** What fails is kept, to be looked at. */
const KEPT = join(tmpdir(), 'tsswarm-history.json');

export function assertLinearizable(history: readonly RegisterOperation[]): void {
  try {
    judge(history);
  } catch (error) {
    // Infinity, of what was never answered, is null in JSON.
    writeFileSync(KEPT, JSON.stringify(history, undefined, 1));
    process.stderr.write(`the history is kept in ${KEPT}\n`);
    throw error;
  }
}

function judge(history: readonly RegisterOperation[]): void {
  const wrong = faultsOf(history);
  assert.equal(wrong.length, 0, wrong.slice(0, TOLD_FAULTS).join('\n'));
  const verdict = checkLinearizable(REGISTER, history);
  if (verdict.kind === 'linearizable') return;
  assert.ok(verdict.kind === 'violation', `${verdict.key}: the search took too long`);
  const { key, order, stuck } = verdict;
  const placed = new Set(order);
  const left = history.filter((each) => {
    return each.key === key && !placed.has(each) && each.calledAt < stuck.returnedAt;
  });
  assert.fail(
    [
      `${key}: not linearizable. The longest order ends with:`,
      ...order.slice(-TOLD_ORDER).map(line),
      'and has no place for:',
      ...[stuck, ...left.filter((each) => each !== stuck).slice(-TOLD_LATER)].map(line),
    ].join('\n'),
  );
}

function line(operation: Operation<RegisterInput, RegisterOutput>): string {
  const { client, at, said, calledAt, returnedAt, input, output } = operation as RegisterOperation;
  const who = `${calledAt}..${returnedAt} client ${client} at ${at}`;
  return `  ${who}: ${JSON.stringify(input)} -> ${JSON.stringify(output)} ${said}`;
}
