/**
 * Protobuf's bytes read by hand, field by field, for what comes by the million. It gives the same
 * as the general way (fromBinary) or throws Unusual, and then that is asked. Texts that come again
 * and again are made once. It knows no type and no field.
 */

/** The general way has to read it. */
export class Unusual extends Error {}

/** First byte of a mark that texts may begin with. */
const BOM = 0xef;
/** Texts of up to so many bytes are looked for among those that are known. */
const KNOWN_TEXT_BYTES = 64;
/** A power of two. */
const KNOWN_TEXTS = 16_384;

/**
 * Texts that many tasks have alike, found by their bytes: looking is quicker than making another,
 * and whoever uses it as a key knows its hash already. A newer one takes an older one's place.
 */
class KnownTexts {
  readonly #texts: string[] = Array.from({ length: KNOWN_TEXTS }, () => '');

  /** ASCII only. `sum`: of its bytes, as Reader makes it. */
  of(bytes: Buffer, start: number, end: number, sum: number): string {
    const place = (sum ^ (sum >>> 15)) & (KNOWN_TEXTS - 1);
    const known = this.#texts[place];
    if (known.length === end - start && isText(bytes, start, known)) return known;
    const text = bytes.toString('latin1', start, end);
    this.#texts[place] = text;
    return text;
  }
}

function isText(bytes: Buffer, start: number, text: string): boolean {
  for (let at = 0; at < text.length; at += 1) {
    if (bytes[start + at] !== text.charCodeAt(at)) return false;
  }
  return true;
}

const knownTexts = new KnownTexts();

/** One for all records, one after another. */
export class Reader {
  bytes: Buffer = Buffer.alloc(0);
  at = 0;
  end = 0;

  begin(bytes: Uint8Array): void {
    const { buffer, byteOffset, length } = bytes;
    this.bytes = Buffer.isBuffer(bytes) ? bytes : Buffer.from(buffer, byteOffset, length);
    this.at = 0;
    this.end = length;
  }

  number(): number {
    const first = this.bytes[this.at];
    if (first < 0x80 && this.at < this.end) {
      this.at += 1;
      return first;
    }
    return this.#longNumber();
  }

  #longNumber(): number {
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = this.bytes[this.at];
      this.at += 1;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) break;
      scale *= 0x80;
      if (scale > 2 ** 49) throw new Unusual();
    }
    if (value > Number.MAX_SAFE_INTEGER || this.at > this.end) throw new Unusual();
    return value;
  }

  /** Of a part that lies within this one. */
  length(): number {
    const length = this.number();
    if (this.at + length > this.end) throw new Unusual();
    return length;
  }

  /** One that no other task has. */
  ownText(): string {
    return this.#text(false);
  }

  /** One that other tasks may have too. */
  text(): string {
    return this.#text(true);
  }

  #text(isShared: boolean): string {
    const length = this.length();
    const start = this.at;
    this.at += length;
    const { bytes, at: end } = this;
    let sum = length;
    let all = 0;
    for (let at = start; at < end; at += 1) {
      all |= bytes[at];
      sum = Math.imul(sum ^ bytes[at], 0x01000193);
    }
    if (all > 0x7f) return this.#unicode(start);
    const isKnown = isShared && length <= KNOWN_TEXT_BYTES;
    return isKnown ? knownTexts.of(bytes, start, end, sum) : bytes.toString('latin1', start, end);
  }

  #unicode(start: number): string {
    // A mark at its beginning is no part of a text: who else would write one?
    if (this.bytes[start] === BOM) throw new Unusual();
    const text = this.bytes.toString('utf8', start, this.at);
    // Put there by decoding, or really written: the general way tells.
    if (text.includes('\ufffd')) throw new Unusual();
    return text;
  }

  part(): Buffer {
    const length = this.length();
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }

  /** Goes on within a part; what is given back is for leave(). */
  enter(): number {
    const length = this.length();
    const after = this.end;
    this.end = this.at + length;
    return after;
  }

  /** The part was read to its end. */
  leave(after: number): void {
    if (this.at !== this.end) throw new Unusual();
    this.end = after;
  }
}
