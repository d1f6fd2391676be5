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
    Object.defineProperty(this, 'containerId', CONTAINER_ID);
    Object.defineProperty(this, 'phases', PHASES);
  }

  static of(texts: SharedTexts, status: TaskStatus): PackedStatus {
    if (status instanceof PackedStatus) return status;
    return new PackedStatus(texts, status, pack(status));
  }

  /** Container id and phases: equal texts for equal ones. */
  static packed(status: PackedStatus): string {
    return status.#packed;
  }
}

const CONTAINER_ID: PropertyDescriptor = {
  enumerable: true,
  get(this: PackedStatus): string {
    return unpackContainerId(PackedStatus.packed(this));
  },
};

const PHASES: PropertyDescriptor = {
  enumerable: true,
  get(this: PackedStatus): TaskPhases {
    return unpackPhases(PackedStatus.packed(this));
  },
};

const ID_BYTES = 32;
const NO_ID = '-';
const BYTES_ID = 'b';

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
const HEX_ID = /^[0-9a-f]{64}$/;
/** Of a container id in hexadecimal digits. */
export const HEX_CHARACTERS = 2 * ID_BYTES;
/** An id's bytes and as many phases as there are digits for states, at their longest. */
const PACKED_CHARACTERS_MAX = 1024;
const NO_DIGIT = 0xff;
const HEX_DIGITS = new Uint8Array(256).fill(NO_DIGIT);
for (const [value, digit] of [...'0123456789abcdef'].entries()) {
  HEX_DIGITS[digit.charCodeAt(0)] = value;
}

/**
 * Packs one status after another: begin(), its container id if it has one, its phases in the order
 * of states, take(). The text is '-' for no id, 'b' and 32 characters of a byte each, or '4:name'
 * for an id of another form, then '0loy3v28b,2a,6-3': a digit for the state and the time since the
 * first one's.
 */
export class Packer {
  readonly #packed = Buffer.alloc(PACKED_CHARACTERS_MAX);
  #at = 0;
  /** Where phases begin. */
  #phases = 0;
  #otherId = '';
  #originMs = 0;
  #last = -1;

  begin(): void {
    this.#packed[0] = NO_ID.charCodeAt(0);
    this.#at = NO_ID.length;
    this.#phases = this.#at;
    this.#otherId = '';
    this.#last = -1;
  }

  containerId(id: string): void {
    if (id === '') return;
    if (HEX_ID.test(id)) {
      this.#packed.write(id, BYTES_ID.length, 'hex');
      this.#beginBytes();
    } else {
      this.#otherId = `${id.length}:${id}`;
    }
  }

  /** The same from its characters' bytes; false, and nothing is taken, where it is no usual one. */
  containerIdBytes(bytes: Uint8Array, start: number, end: number): boolean {
    if (end - start !== HEX_CHARACTERS) return false;
    const packed = this.#packed;
    for (let at = 0; at < ID_BYTES; at += 1) {
      const high = HEX_DIGITS[bytes[start + 2 * at]];
      const low = HEX_DIGITS[bytes[start + 2 * at + 1]];
      if (high === NO_DIGIT || low === NO_DIGIT) return false;
      packed[BYTES_ID.length + at] = high * 16 + low;
    }
    this.#beginBytes();
    return true;
  }

  #beginBytes(): void {
    this.#packed[0] = BYTES_ID.charCodeAt(0);
    this.#phases = BYTES_ID.length + ID_BYTES;
    this.#at = this.#phases;
  }

  /** In the order of states; false, and nothing is added, where it is not. */
  phase(state: number, atMs: number): boolean {
    if (state <= this.#last) return false;
    const digit = state / STATE_STEP;
    assert(Number.isInteger(digit) && digit < RADIX && Number.isSafeInteger(atMs), 'a phase', {
      state,
      atMs,
    });
    const isFirst = this.#last < 0;
    if (isFirst) this.#originMs = atMs;
    else this.#character(COMMA);
    this.#character(characterOf(digit));
    this.#number(isFirst ? atMs : atMs - this.#originMs);
    this.#last = state;
    return true;
  }

  take(): string {
    const isOther = this.#otherId !== '';
    const text = this.#packed.toString('latin1', isOther ? this.#phases : 0, this.#at);
    return isOther ? this.#otherId + text : text;
  }

  #character(code: number): void {
    this.#packed[this.#at] = code;
    this.#at += 1;
  }

  #number(value: number): void {
    if (value < 0) this.#character(MINUS);
    const size = Math.abs(value);
    let digits = 1;
    for (let rest = size; rest >= RADIX; rest = Math.floor(rest / RADIX)) digits += 1;
    this.#at += digits;
    let rest = size;
    for (let at = this.#at - 1; digits > 0; digits -= 1, at -= 1) {
      const above = Math.floor(rest / RADIX);
      this.#packed[at] = characterOf(rest - above * RADIX);
      rest = above;
    }
  }
}

/** '0' to '9', then 'a' to 'z'. */
function characterOf(digit: number): number {
  return digit < 10 ? 0x30 + digit : 0x57 + digit;
}

const packer = new Packer();

function pack({ containerId, phases }: TaskStatus): string {
  packer.begin();
  packer.containerId(containerId);
  // Whole numbers as keys come in their order.
  for (const key in phases) packer.phase(Number(key), phases[Number(key)]);
  return packer.take();
}

/** What a packed text holds, read into the same place again and again. */
export class Unpacker {
  /** The phases of the last text, in order; beyond `count` they are of others. */
  readonly states: number[] = [];
  readonly timesMs: number[] = [];
  count = 0;

  phases(packed: string): void {
    let originMs = 0;
    this.count = 0;
    for (let at = endOfContainerId(packed); at < packed.length; at += 1) {
      const state = digitOf(packed.charCodeAt(at)) * STATE_STEP;
      const isNegative = packed.charCodeAt(at + 1) === MINUS;
      let ms = 0;
      for (at += isNegative ? 2 : 1; at < packed.length; at += 1) {
        const code = packed.charCodeAt(at);
        if (code === COMMA) break;
        ms = ms * RADIX + digitOf(code);
      }
      if (isNegative) ms = -ms;
      this.states[this.count] = state;
      this.timesMs[this.count] = originMs + ms;
      if (this.count === 0) originMs = ms;
      this.count += 1;
    }
  }

  /** The container id's digits as bytes of text; false where it is none of the usual form. */
  containerId(packed: string, digits: Uint8Array): boolean {
    if (packed[0] !== BYTES_ID) return false;
    for (let at = 0; at < ID_BYTES; at += 1) {
      const byte = packed.charCodeAt(BYTES_ID.length + at);
      digits[2 * at] = characterOf(byte >> 4);
      digits[2 * at + 1] = characterOf(byte & 0xf);
    }
    return true;
  }
}

const unpacker = new Unpacker();

function unpackPhases(packed: string): TaskPhases {
  unpacker.phases(packed);
  const phases: Record<number, number> = {};
  for (let at = 0; at < unpacker.count; at += 1) phases[unpacker.states[at]] = unpacker.timesMs[at];
  return phases;
}

/** Of '0'-'9' and 'a'-'z'. */
function digitOf(code: number): number {
  return code < 0x3a ? code - 0x30 : code - 0x57;
}
