/**
 * Identifiers. Objects (node, service, task, network, ...) get 25 characters of [0-9a-z], as Docker
 * Swarm's do; containers 64 hex digits, as Docker's do. This file is nanoid's only door.
 */
import { customRandom } from 'nanoid';
import type { Random } from './random.ts';

const OBJECT_ALPHABET = '0123456789abcdefghijklmnopqrstuvwxyz';
const OBJECT_ID_LENGTH = 25;
const CONTAINER_ID_BYTES = 32;
const SHORT_ID_LENGTH = 12;

export class Ids {
  readonly #random: Random;
  readonly #object: () => string;

  constructor(random: Random) {
    this.#random = random;
    this.#object = customRandom(OBJECT_ALPHABET, OBJECT_ID_LENGTH, (count) => random.bytes(count));
  }

  /** 25 characters of [0-9a-z], about 129 bits. */
  object(): string {
    return this.#object();
  }

  /** 64 lower-case hex digits. */
  container(): string {
    return Buffer.from(this.#random.bytes(CONTAINER_ID_BYTES)).toString('hex');
  }
}

/** As people read and type a container's, a network's, an image's id. */
export function shortId(id: string): string {
  return id.slice(0, SHORT_ID_LENGTH);
}
