/**
 * What a fuzz target is, and how its inputs are made: from a seed and a number alone, so that any
 * case can be made again. An input is one from the corpus, or one that the target generates, both
 * changed a little, by bytes or, where they are JSON, by values. Blind to coverage.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Random, SeededRandom } from '../../base/random.ts';
import { TOP } from '../tidy/sources.ts';

export interface FuzzTarget {
  /** Words and bytes that mean something in these inputs. */
  readonly words: readonly string[];
  /** Whether inputs are JSON documents: their values are changed, not only their bytes. */
  readonly json?: boolean;
  /** Builds what the target needs; may take its time. */
  prepare?(): void;
  /** An input that is right, or nearly. */
  generate(random: Random): Uint8Array | Promise<Uint8Array>;
  /**
   * Throws for what must not be: any error that is no SwarmError counts, and so does a broken
   * promise of the target's own. `random` is the case's own, for choices beside the input.
   */
  run(input: Uint8Array, random: Random): unknown;
  /** Lets go of what the target holds on the machine. */
  close?(): void | Promise<void>;
}

const MAX_INPUT_BYTES = 64 * 1024;
const NUMBERS = [0, 1, -1, 127, 128, 255, 256, 4095, 65_535, 65_536, 2 ** 31 - 1, 2 ** 31, 2 ** 32];
const ODD_VALUES: readonly unknown[] = [
  ...[null, true, false, 0, -1, 1.5, 1e308, -1e308, 2 ** 53, 2 ** 63, '', ' ', '-', '0'],
  ...['-1', '1e9', '%00', '../..', '/', '\u0000', '\ud800', 'é', '__proto__', 'a'.repeat(5000)],
  ...[[], {}, [[]], [null], [{}], { a: 1 }, { constructor: {} }],
];

export function corpusOf(target: string): Uint8Array[] {
  const directory = join(TOP, 'test', 'fixtures', 'fuzz', target);
  return readdirSync(directory)
    .sort()
    .map((name) => readFileSync(join(directory, name)));
}

/** Of the case: another for each number, the same each time. */
export function randomOf(seed: number, at: number): SeededRandom {
  return new SeededRandom((Math.imul(seed, 0x9e3779b1) + Math.imul(at + 1, 0x85ebca77)) >>> 0);
}

export function one<T>(random: Random, from: readonly T[]): T {
  return from[random.below(from.length)];
}

/** Case `at`: the corpus itself comes first. */
export async function inputOf(
  target: FuzzTarget,
  corpus: readonly Uint8Array[],
  random: Random,
  at: number,
): Promise<Uint8Array> {
  if (at < corpus.length) return corpus[at];
  const isGenerated = corpus.length === 0 || random.below(2) === 0;
  let input: Buffer = Buffer.from(
    isGenerated ? await target.generate(random) : one(random, corpus),
  );
  if (isGenerated && random.below(4) === 0) return input;
  for (let turns = 1 + random.below(6); turns > 0; turns -= 1) {
    const changed = target.json === true && random.below(4) > 0 ? changeJson(input, random) : input;
    input = changed === input ? changeBytes(input, corpus, target.words, random) : changed;
  }
  return input.subarray(0, MAX_INPUT_BYTES);
}

function insert(into: Buffer, at: number, what: Uint8Array): Buffer {
  return Buffer.concat([into.subarray(0, at), what, into.subarray(at)]);
}

function changeBytes(
  input: Buffer,
  corpus: readonly Uint8Array[],
  words: readonly string[],
  random: Random,
): Buffer {
  const at = random.below(input.length + 1);
  const length = 1 + random.below(Math.min(256, input.length + 1));
  const copy = Buffer.from(input);
  switch (random.below(9)) {
    case 0:
      if (at < copy.length) copy[at] ^= 1 << random.below(8);
      return copy;
    case 1:
      if (at < copy.length) copy[at] = random.below(256);
      return copy;
    case 2: {
      const number = one(random, NUMBERS) + random.below(3) - 1;
      if (at + 4 <= copy.length) copy.writeInt32LE(number | 0, at);
      return copy;
    }
    case 3:
      return insert(copy, at, Buffer.from(String(one(random, NUMBERS) - random.below(3))));
    case 4:
      return Buffer.concat([copy.subarray(0, at), copy.subarray(at + length)]);
    case 5:
      return insert(copy, at, random.bytes(length));
    case 6:
      return insert(copy, random.below(copy.length + 1), copy.subarray(at, at + length));
    case 7: {
      if (corpus.length === 0) return copy.subarray(0, at);
      const other = one(random, corpus);
      const from = random.below(other.length + 1);
      return insert(copy, at, other.subarray(from, from + length));
    }
    default:
      return insert(copy, at, Buffer.from(words.length === 0 ? '\0' : one(random, words)));
  }
}

/** The same document with one value in it another, twice there, gone, or elsewhere. */
function changeJson(input: Buffer, random: Random): Buffer {
  let root: unknown;
  try {
    root = JSON.parse(input.toString());
  } catch {
    return input; // bytes were changed before
  }
  const places: { readonly owner: Record<string, unknown>; readonly key: string }[] = [];
  const walk = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return;
    for (const key of Object.keys(value)) {
      places.push({ owner: value as Record<string, unknown>, key });
      walk((value as Record<string, unknown>)[key]);
    }
  };
  walk(root);
  if (places.length === 0) return Buffer.from(JSON.stringify(one(random, ODD_VALUES)) ?? 'null');
  const { owner, key } = one(random, places);
  const other = one(random, places);
  switch (random.below(6)) {
    case 0:
      if (Array.isArray(owner)) owner.splice(Number(key), 1);
      else delete owner[key];
      break;
    case 1:
      owner[key] = structuredClone(other.owner[other.key]);
      break;
    case 2:
      if (Array.isArray(owner)) owner.push(owner[Number(key)]);
      else owner[key] = [owner[key]];
      break;
    case 3:
      if (typeof owner[key] === 'string')
        owner[key] += JSON.stringify(one(random, ODD_VALUES)) ?? '';
      else if (typeof owner[key] === 'number') owner[key] = one(random, NUMBERS);
      else owner[key] = one(random, ODD_VALUES);
      break;
    default:
      owner[key] = one(random, ODD_VALUES);
  }
  return Buffer.from(JSON.stringify(root) ?? 'null');
}
