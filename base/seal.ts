/**
 * Sealing bytes under a key (AES-256-GCM): nobody without the key reads them, and a changed byte,
 * or the wrong place (`place` is bound to it), is noticed. The form is nonce (12), ciphertext, tag
 * (16). What older keys sealed is opened too. It keeps no key on any disk; whoever has one does.
 */
import { createCipheriv, createDecipheriv } from 'node:crypto';
import type { Random } from './random.ts';

export const SEAL_KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** How much longer sealed bytes are. */
export const SEAL_BYTES = NONCE_BYTES + TAG_BYTES;
const ALGORITHM = 'aes-256-gcm';

export class Seal {
  readonly #key: Uint8Array;
  readonly #random: Random;
  readonly #older: readonly Uint8Array[];

  /** Seals with `key`; opens with it and with `older` ones. */
  constructor(key: Uint8Array, random: Random, older: readonly Uint8Array[] = []) {
    this.#key = key;
    this.#random = random;
    this.#older = older;
  }

  /** Nonces are random: one key is good for 2^32 seals. */
  seal(parts: readonly Uint8Array[], place: Uint8Array): Buffer {
    const nonce = this.#random.bytes(NONCE_BYTES);
    const cipher = createCipheriv(ALGORITHM, this.#key, nonce);
    cipher.setAAD(place);
    const body = parts.map((part) => cipher.update(part));
    return Buffer.concat([nonce, ...body, cipher.final(), cipher.getAuthTag()]);
  }

  /** undefined when the key or the place is another, or the bytes were changed. */
  open(sealed: Uint8Array, place: Uint8Array): Buffer | undefined {
    return this.openNew(sealed, place) ?? this.#openOld(sealed, place);
  }

  /** The same, but undefined too when an older key sealed it. */
  openNew(sealed: Uint8Array, place: Uint8Array): Buffer | undefined {
    return openWith(this.#key, sealed, place);
  }

  #openOld(sealed: Uint8Array, place: Uint8Array): Buffer | undefined {
    for (const key of this.#older) {
      const plain = openWith(key, sealed, place);
      if (plain !== undefined) return plain;
    }
    return undefined;
  }
}

function openWith(key: Uint8Array, sealed: Uint8Array, place: Uint8Array): Buffer | undefined {
  if (sealed.length < SEAL_BYTES) return undefined;
  const end = sealed.length - TAG_BYTES;
  const nonce = sealed.subarray(0, NONCE_BYTES);
  const cipher = createDecipheriv(ALGORITHM, key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(place);
  cipher.setAuthTag(sealed.subarray(end));
  try {
    return Buffer.concat([cipher.update(sealed.subarray(NONCE_BYTES, end)), cipher.final()]);
  } catch {
    // The library's only way to say that the tag does not fit.
    return undefined;
  }
}
