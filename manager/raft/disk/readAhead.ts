/**
 * A file read from front to back in large blocks, the next one on its way while the last one is
 * used: small reads cost no call each, and nobody waits for the disk and the processor in turns.
 * Holds two blocks at most. It checks nothing and closes nothing.
 */
import { KIB } from '../../../base/bytes.ts';
import type { ReadFile } from './files.ts';

/** Small enough that working on one, a few thousand records, holds up the event loop for ~5 ms. */
const BLOCK_BYTES = 256 * KIB;

interface Block {
  readonly at: number;
  readonly bytes: Promise<Buffer>;
}

export class ReadAhead implements Pick<ReadFile, 'read'> {
  readonly #file: ReadFile;
  #at = 0;
  #bytes: Buffer = Buffer.alloc(0);
  #next: Block | undefined;

  constructor(file: ReadFile) {
    this.#file = file;
  }

  /** As the file's; quick where reads follow on each other. */
  async read(at: number, length: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    let missing = length;
    while (missing > 0) {
      const place = at + length - missing;
      if (place < this.#at || place >= this.#at + this.#bytes.length) await this.#turnTo(place);
      const part = this.#bytes.subarray(place - this.#at, place - this.#at + missing);
      if (part.length === 0) break;
      parts.push(part);
      missing -= part.length;
    }
    return parts.length === 1 ? parts[0] : Buffer.concat(parts);
  }

  async #turnTo(at: number): Promise<void> {
    const block = this.#next?.at === at ? this.#next : this.#begin(at);
    this.#bytes = await block.bytes;
    this.#at = at;
    this.#next = this.#begin(at + this.#bytes.length);
  }

  #begin(at: number): Block {
    const bytes = this.#file.read(at, BLOCK_BYTES);
    bytes.catch(() => {}); // told to who reads that far; nobody may
    return { at, bytes };
  }
}
