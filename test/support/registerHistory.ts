/**
 * What clients do with configs, as operations on registers: create, compare-and-set by version,
 * remove, read. Holds what such a register is (for test/support/linearizability), and the checks
 * of a whole history that need no search: nothing shown that nobody wrote, one version a value,
 * versions that only grow, no acknowledged write lost. Every write has a serial of its own.
 */
import { byKey, type Model, NEVER, type Operation } from './linearizability.ts';

/** What a read shows; '' = nothing is there. */
export interface Shown {
  /** Serial of the write that made the object: stands for its id. */
  readonly born: string;
  /** Serial of the write that is shown. */
  readonly serial: string;
  /** The object's version, as the API tells it. */
  readonly version: number;
}

export type RegisterInput =
  | { readonly kind: 'read' }
  | { readonly kind: 'create'; readonly serial: string }
  | {
      readonly kind: 'set';
      readonly born: string;
      readonly expected: string;
      /** Of what was expected. */
      readonly version: number;
      readonly serial: string;
    }
  | { readonly kind: 'remove'; readonly born: string };

export type RegisterOutput =
  /** Of a read; undefined = nothing there. */
  | { readonly kind: 'shown'; readonly shown: Shown | undefined }
  | { readonly kind: 'done' }
  /** There is one of this name already. */
  | { readonly kind: 'taken' }
  /** It is at another version. */
  | { readonly kind: 'stale' }
  /** There is none of this id. */
  | { readonly kind: 'absent' }
  /** Not made, for a reason that has nothing to do with the state. */
  | { readonly kind: 'refused' };

export type RegisterOperation = Operation<RegisterInput, RegisterOutput> & {
  readonly client: number;
  /** Which manager was asked; for the report. */
  readonly at: string;
  /** What an error said. */
  readonly said: string;
};

const ABSENT = '';

function stateOf(born: string, serial: string): string {
  return `${born}/${serial}`;
}

/** Besides 'refused'. */
const ANSWERS: Readonly<Record<RegisterInput['kind'], readonly RegisterOutput['kind'][]>> = {
  read: ['shown'],
  create: ['done', 'taken'],
  set: ['done', 'stale', 'absent'],
  remove: ['done', 'absent'],
};

/** The state is `born/serial`, or '' while there is none. */
export const REGISTER: Model<string, RegisterInput, RegisterOutput> = {
  initial: ABSENT,
  step(state, input, output) {
    if (output?.kind === 'refused') return state;
    if (output !== undefined && !ANSWERS[input.kind].includes(output.kind)) return undefined;
    switch (input.kind) {
      case 'read': {
        if (output?.kind !== 'shown') return undefined;
        const { shown } = output;
        const expected = shown === undefined ? ABSENT : stateOf(shown.born, shown.serial);
        return state === expected ? state : undefined;
      }
      case 'create':
        if (output?.kind === 'taken') return state === ABSENT ? undefined : state;
        return state === ABSENT ? stateOf(input.serial, input.serial) : undefined;
      case 'set':
        return set(state, input, output);
      case 'remove': {
        const isThere = state.startsWith(`${input.born}/`);
        if (output?.kind === 'absent') return isThere ? undefined : state;
        // A removal whose fate is not known is asked for once more: what is gone then is done.
        return isThere ? ABSENT : output === undefined ? undefined : state;
      }
    }
  },
  isIdle: (_input, output) => output !== undefined && output.kind !== 'done',
  isOver(state, input, hasBeen) {
    if (input.kind === 'set') {
      const needed = stateOf(input.born, input.expected);
      return state !== needed && hasBeen(needed);
    }
    if (input.kind !== 'remove') return false;
    return !state.startsWith(`${input.born}/`) && hasBeen(stateOf(input.born, input.born));
  },
};

function set(
  state: string,
  input: RegisterInput & { readonly kind: 'set' },
  output: RegisterOutput | undefined,
): string | undefined {
  const isThere = state.startsWith(`${input.born}/`);
  const matches = state === stateOf(input.born, input.expected);
  if (output?.kind === 'absent') return isThere ? undefined : state;
  if (output?.kind === 'stale') return isThere && !matches ? state : undefined;
  return matches ? stateOf(input.born, input.serial) : undefined;
}

/** All that is wrong with a history, without a search; [] when nothing is. */
export function faultsOf(history: readonly RegisterOperation[]): string[] {
  const wrong: string[] = [];
  const versions = versionsOf(history, wrong);
  phantoms(history, wrong);
  for (const [key, operations] of byKey(history)) {
    oneWinner(key, operations, wrong);
    noneLost(key, operations, wrong);
  }
  inOrder(history, versions, wrong);
  return wrong;
}

interface Moment {
  readonly at: number;
  readonly operation: RegisterOperation;
  readonly isCall: boolean;
}

/** Calls, and returns that came, in the order of time. */
function momentsOf(history: readonly RegisterOperation[]): Moment[] {
  const moments = history.flatMap((operation) => [
    { at: operation.calledAt, operation, isCall: true },
    { at: operation.returnedAt, operation, isCall: false },
  ]);
  return moments.filter(({ at }) => at !== NEVER).sort((left, right) => left.at - right.at);
}

function serialOf(input: RegisterInput): string | undefined {
  return input.kind === 'create' || input.kind === 'set' ? input.serial : undefined;
}

function shownBy(operation: RegisterOperation): Shown | undefined {
  return operation.output?.kind === 'shown' ? operation.output.shown : undefined;
}

/** The one version each serial was shown with. */
function versionsOf(history: readonly RegisterOperation[], wrong: string[]): Map<string, number> {
  const versions = new Map<string, number>();
  const serials = new Map<number, string>();
  for (const operation of history) {
    const shown = shownBy(operation);
    if (shown === undefined) continue;
    const { serial, version } = shown;
    const known = versions.get(serial) ?? version;
    if (known !== version) wrong.push(`${serial} has versions ${known} and ${version}`);
    const other = serials.get(version) ?? serial;
    if (other !== serial) wrong.push(`version ${version} is of ${other} and of ${serial}`);
    versions.set(serial, version);
    serials.set(version, serial);
  }
  return versions;
}

/** Shown is only what was asked for before on this key, and was not refused. */
function phantoms(history: readonly RegisterOperation[], wrong: string[]): void {
  const writes = new Map<string, RegisterOperation>();
  for (const operation of history) {
    const serial = serialOf(operation.input);
    if (serial !== undefined) writes.set(serial, operation);
  }
  for (const operation of history) {
    const shown = shownBy(operation);
    if (shown === undefined) continue;
    const write = writes.get(shown.serial);
    const what = `${operation.key}: a read of ${operation.at} shows ${shown.serial}`;
    if (write === undefined || write.key !== operation.key) {
      wrong.push(`${what}, which nobody wrote there`);
    } else if (write.calledAt > operation.returnedAt) {
      wrong.push(`${what} before it was written`);
    } else if (write.output !== undefined && write.output.kind !== 'done') {
      wrong.push(`${what}, whose write was answered "${write.output.kind}": ${write.said}`);
    }
  }
}

/** Of all that would replace one value, one at most. */
function oneWinner(key: string, operations: readonly RegisterOperation[], wrong: string[]): void {
  const winners = new Map<string, string>();
  for (const { input, output } of operations) {
    if (input.kind !== 'set' || output?.kind !== 'done') continue;
    const from = `${input.born}/${input.expected}`;
    const other = winners.get(from);
    if (other !== undefined) {
      wrong.push(`${key}: ${other} and ${input.serial} both took the place of ${input.expected}`);
    }
    winners.set(from, input.serial);
  }
}

/**
 * Once a write has been acknowledged, or a value shown, no read shows an earlier one, nor nothing
 * while nobody asked for a removal.
 */
function noneLost(key: string, operations: readonly RegisterOperation[], wrong: string[]): void {
  /** Versions below it are over. */
  let floor = 0;
  let floorOf = '';
  let present = false;
  const removes = operations.filter(({ input }) => input.kind === 'remove');
  const firstRemove = Math.min(NEVER, ...removes.map((operation) => operation.calledAt));
  const atCall = new Map<RegisterOperation, number>();
  const mustBeThere = new Set<RegisterOperation>();
  for (const { at, operation, isCall } of momentsOf(operations)) {
    if (isCall) {
      atCall.set(operation, floor);
      if (present) mustBeThere.add(operation);
      continue;
    }
    const { input, output } = operation;
    const shown = shownBy(operation);
    const least = atCall.get(operation) ?? 0;
    if (shown !== undefined && shown.version < least) {
      wrong.push(
        `${key}: ${operation.at} shows ${shown.serial} at version ${shown.version} ` +
          `to a read that began after ${floorOf} (at least ${least})`,
      );
    }
    const isGone = output?.kind === 'shown' && shown === undefined;
    if (isGone && mustBeThere.has(operation) && at < firstRemove) {
      wrong.push(`${key}: ${operation.at} shows nothing, and nobody removed it`);
    }
    const done = output?.kind === 'done';
    if (shown !== undefined || (done && input.kind !== 'remove')) present = true;
    const over = done && input.kind === 'set' ? input.version + 1 : (shown?.version ?? 0);
    if (over > floor) {
      floor = over;
      floorOf = serialOf(input) ?? shown?.serial ?? '';
    }
  }
}

/**
 * Versions number all writes, whatever the key: one that began after another was shown, or was
 * acknowledged and shown at some time, has the higher number.
 */
function inOrder(
  history: readonly RegisterOperation[],
  versions: ReadonlyMap<string, number>,
  wrong: string[],
): void {
  let highest = 0;
  for (const { operation, isCall } of momentsOf(history)) {
    const serial = serialOf(operation.input);
    const version = serial === undefined ? undefined : versions.get(serial);
    if (isCall && version !== undefined && version <= highest) {
      wrong.push(`${operation.key}: ${serial} is at ${version}, and began after ${highest}`);
    }
    if (isCall) continue;
    const told = operation.output?.kind === 'done' ? version : shownBy(operation)?.version;
    highest = Math.max(highest, told ?? 0);
  }
}
