/**
 * A task's status in the least memory, as there may be a million: what takes the most room, the
 * container id and the times of phases, is packed in one text and unpacked when it is read. It
 * reads, copies and goes over the wire as any status does; it never changes.
 */
import { assert } from '../base/assert.ts';
import type { TaskState } from './taskState.ts';
import type { TaskPhases, TaskStatus } from './types.ts';

/** Texts that many tasks have alike ('started'); beyond it, new ones are not shared. */
const SHARED_TEXTS_MAX = 4096;
const SHARED_TEXT_CHARACTERS_MAX = 64;

/** For one store, or one that reads. */
export class SharedTexts {
  readonly #texts = new Map<string, string>();

  of(text: string): string {
    const known = this.#texts.get(text);
    if (known !== undefined) return known;
    const few = this.#texts.size < SHARED_TEXTS_MAX && text.length <= SHARED_TEXT_CHARACTERS_MAX;
    if (few) this.#texts.set(text, text);
    return text;
  }
}

export type UnpackedPart = Omit<TaskStatus, 'containerId' | 'phases'>;

export class PackedStatus implements TaskStatus {
  readonly state: TaskState;
  readonly atMs: number;
  readonly message: string;
  readonly error: string;
  declare readonly containerId: string;
  readonly pid: number;
  readonly exitCode: number;
  readonly oomKilled: boolean;
  readonly gatewayAddress: string;
  declare readonly phases: TaskPhases;
  readonly #packed: string;

  /** `status` with its id and phases packed in `packed`, for who has no object of them. */
  constructor(texts: SharedTexts, status: UnpackedPart, packed: string) {
    this.state = status.state;
    this.atMs = status.atMs;
    this.message = texts.of(status.message);
    this.error = texts.of(status.error);
    this.pid = status.pid;
    this.exitCode = status.exitCode;
    this.oomKilled = status.oomKilled;
    this.gatewayAddress = status.gatewayAddress;
    this.#packed = packed;
    // Properties of its own, so that a copy by spreading has them too.
    Object.defineProperties(this, UNPACKED);
  }

  static of(texts: SharedTexts, status: TaskStatus): PackedStatus {
    if (status instanceof PackedStatus) return status;
    return new PackedStatus(texts, status, pack(status.containerId, phasesText(status.phases)));
  }

  /** Container id and phases: equal texts for equal ones. */
  static packed(status: PackedStatus): string {
    return status.#packed;
  }
}

const UNPACKED: PropertyDescriptorMap = {
  containerId: {
    enumerable: true,
    get(this: PackedStatus): string {
      return unpackContainerId(PackedStatus.packed(this));
    },
  },
  phases: {
    enumerable: true,
    get(this: PackedStatus): TaskPhases {
      const packed = PackedStatus.packed(this);
      return unpackPhases(packed, endOfContainerId(packed));
    },
  },
};

const HEX_ID = /^[0-9a-f]{64}$/;
const ID_BYTES = 32;
const NO_ID = '-';
const BYTES_ID = 'b';

export function pack(containerId: string, phases: string): string {
  return packContainerId(containerId) + phases;
}

/** '-' for none, 'b' and 32 characters of a byte each, or '4:name' for one of another form. */
function packContainerId(id: string): string {
  if (id === '') return NO_ID;
  if (HEX_ID.test(id)) return BYTES_ID + Buffer.from(id, 'hex').toString('latin1');
  return `${id.length}:${id}`;
}

/** Where in a packed text the container id ends. */
function endOfContainerId(packed: string): number {
  if (packed[0] === NO_ID) return NO_ID.length;
  if (packed[0] === BYTES_ID) return BYTES_ID.length + ID_BYTES;
  const colon = packed.indexOf(':');
  return colon + 1 + Number(packed.slice(0, colon));
}

function unpackContainerId(packed: string): string {
  const end = endOfContainerId(packed);
  if (packed[0] === NO_ID) return '';
  if (packed[0] === BYTES_ID) return Buffer.from(packed.slice(1, end), 'latin1').toString('hex');
  return packed.slice(packed.indexOf(':') + 1, end);
}

/** States are multiples of it, up to 26 times. */
const STATE_STEP = 32;
const RADIX = 36;
const MINUS = 0x2d;
const COMMA = 0x2c;

/** '0loy3v28b,2a,6-3': a digit for the state, then the time since the first one's. */
export class PhasesText {
  #text = '';
  #originMs = 0;
  #last = -1;

  /** In the order of states; false, and nothing is added, where it is not. */
  add(state: number, atMs: number): boolean {
    if (state <= this.#last) return false;
    const digit = state / STATE_STEP;
    assert(Number.isInteger(digit) && digit < RADIX && Number.isSafeInteger(atMs), 'a phase', {
      state,
      atMs,
    });
    const isFirst = this.#last < 0;
    if (isFirst) this.#originMs = atMs;
    const ms = isFirst ? atMs : atMs - this.#originMs;
    this.#text += `${isFirst ? '' : ','}${digit.toString(RADIX)}${ms.toString(RADIX)}`;
    this.#last = state;
    return true;
  }

  get text(): string {
    return this.#text;
  }
}

function phasesText(phases: TaskPhases): string {
  const text = new PhasesText();
  // Whole numbers as keys come in their order.
  for (const key in phases) text.add(Number(key), phases[Number(key)]);
  return text.text;
}

function unpackPhases(packed: string, from: number): TaskPhases {
  const phases: Record<number, number> = {};
  let originMs: number | undefined;
  for (let at = from; at < packed.length; at += 1) {
    const state = digitOf(packed.charCodeAt(at)) * STATE_STEP;
    const isNegative = packed.charCodeAt(at + 1) === MINUS;
    let ms = 0;
    for (at += isNegative ? 2 : 1; at < packed.length; at += 1) {
      const code = packed.charCodeAt(at);
      if (code === COMMA) break;
      ms = ms * RADIX + digitOf(code);
    }
    if (isNegative) ms = -ms;
    phases[state] = (originMs ?? 0) + ms;
    originMs ??= ms;
  }
  return phases;
}

/** Of '0'-'9' and 'a'-'z'. */
function digitOf(code: number): number {
  return code < 0x3a ? code - 0x30 : code - 0x57;
}
