/**
 * The C library's allocator (glibc): how many arenas it makes, and giving back what it holds free.
 * With another C library, which has no such calls, nothing is done. Not V8's heap: that is its own.
 */
import { define } from './libc.ts';

const M_ARENA_MAX = -8;

/** At most `count` arenas from now on, for all threads of this process. */
export function limitArenas(count: number): void {
  optional<(option: number, value: number) => number>('int mallopt(int option, int value)')?.(
    M_ARENA_MAX,
    count,
  );
}

/** Whole free pages go back to the kernel, of every arena. Takes some milliseconds. */
export function trimMemory(): void {
  optional<(pad: number) => number>('int malloc_trim(size_t pad)')?.(0);
}

const known = new Map<string, unknown>();

function optional<F extends (...args: never[]) => unknown>(signature: string): F | undefined {
  if (!known.has(signature)) {
    try {
      known.set(signature, define<F>('', signature));
    } catch {
      known.set(signature, undefined); // koffi throws when the symbol is not there: no glibc
    }
  }
  return known.get(signature) as F | undefined;
}
