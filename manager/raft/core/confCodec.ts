/**
 * A configuration change and a ConfState as bytes, in log entries and snapshot messages. Fixed
 * layout, little endian, ids as 8 bytes. No bytes at all = leave the joint configuration. Checks
 * lengths; an unknown byte is an assertion, as entries are checksummed where they are read.
 */
import { assert } from '../../../base/assert.ts';
import type {
  ConfChange,
  ConfChangeStep,
  ConfChangeType,
  ConfState,
  ConfTransition,
} from './types.ts';
import { EMPTY_BYTES } from './types.ts';

const TRANSITIONS: readonly ConfTransition[] = ['auto', 'jointImplicit', 'jointExplicit'];
const TYPES: readonly ConfChangeType[] = ['addVoter', 'remove', 'update', 'addLearner'];
const STEP_BYTES = 9;
const HEAD_BYTES = 3;
const TWO_TO_32 = 4_294_967_296;

export function encodeConfChange(change: ConfChange): Uint8Array {
  if (change.transition === 'auto' && change.changes.length === 0 && change.context.length === 0) {
    return EMPTY_BYTES;
  }
  const steps = change.changes.length * STEP_BYTES;
  const out = new Uint8Array(HEAD_BYTES + steps + change.context.length);
  const view = new DataView(out.buffer);
  out[0] = TRANSITIONS.indexOf(change.transition);
  view.setUint16(1, change.changes.length, true);
  let at = HEAD_BYTES;
  for (const step of change.changes) {
    out[at] = TYPES.indexOf(step.type);
    setId(view, at + 1, step.id);
    at += STEP_BYTES;
  }
  out.set(change.context, at);
  return out;
}

export function decodeConfChange(bytes: Uint8Array): ConfChange {
  if (bytes.length === 0) return { transition: 'auto', changes: [], context: EMPTY_BYTES };
  assert(bytes.length >= HEAD_BYTES, 'raft: short conf change', { length: bytes.length });
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const transition = TRANSITIONS[bytes[0]];
  const count = view.getUint16(1, true);
  assert(
    transition !== undefined && bytes.length >= HEAD_BYTES + count * STEP_BYTES,
    'raft: malformed conf change',
    { transition: bytes[0], count },
  );
  const changes: ConfChangeStep[] = [];
  for (let step = 0; step < count; step += 1) {
    const at = HEAD_BYTES + step * STEP_BYTES;
    const type = TYPES[bytes[at]];
    assert(type !== undefined, 'raft: unknown conf change', { type: bytes[at] });
    changes.push({ type, id: getId(view, at + 1) });
  }
  return { transition, changes, context: bytes.slice(HEAD_BYTES + count * STEP_BYTES) };
}

export function encodeConfState(state: ConfState): Uint8Array {
  const sets = [state.voters, state.votersOutgoing, state.learners, state.learnersNext];
  const count = sets.reduce((sum, set) => sum + set.length, 0);
  const out = new Uint8Array(1 + sets.length * 2 + count * 8);
  const view = new DataView(out.buffer);
  out[0] = state.autoLeave ? 1 : 0;
  let at = 1;
  for (const set of sets) {
    view.setUint16(at, set.length, true);
    at += 2;
    for (const id of set) {
      setId(view, at, id);
      at += 8;
    }
  }
  return out;
}

/** Throws AssertionError on bytes that encodeConfState did not make. */
export function decodeConfState(bytes: Uint8Array): ConfState {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const sets: number[][] = [];
  let at = 1;
  for (let set = 0; set < 4; set += 1) {
    assert(at + 2 <= bytes.length, 'raft: short conf state');
    const count = view.getUint16(at, true);
    at += 2;
    assert(at + count * 8 <= bytes.length, 'raft: short conf state', { count });
    const ids: number[] = [];
    for (let id = 0; id < count; id += 1) ids.push(getId(view, at + id * 8));
    at += count * 8;
    sets.push(ids);
  }
  return {
    voters: sets[0],
    votersOutgoing: sets[1],
    learners: sets[2],
    learnersNext: sets[3],
    autoLeave: bytes[0] === 1,
  };
}

function setId(view: DataView, at: number, id: number): void {
  view.setUint32(at, id % TWO_TO_32, true);
  view.setUint32(at + 4, Math.floor(id / TWO_TO_32), true);
}

function getId(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * TWO_TO_32 + view.getUint32(at, true);
}
