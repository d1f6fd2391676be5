/**
 * What V8 is told about a daemon, which runs for weeks, a little of everything at a time, beside
 * others who need the processors: flags, each with what it was measured to give.
 */
import { setFlagsFromString } from 'node:v8';

/** Of bytecode, from one look at whether a function is worth it to the next; V8's own: 67,584. */
const LOOK_BYTES = 16_000;

/**
 * As early as can be: a function's count begins with what holds then. V8 waits for a function to
 * run long before it compiles it well, as pages do not live long; a manager that gets 300 writes a
 * second would run for minutes at half its speed. With four looks for one, a write took 13 to 15 %
 * less processor time (six clusters in turns, two of them with this, both below all others).
 */
export function compileSoon(): void {
  setFlagsFromString(`--interrupt-budget=${LOOK_BYTES}`);
}

/**
 * From now on young garbage is collected by the main thread alone. What lives on is little, once
 * what was stored is loaded, and helpers are threads that a busy machine has to wake first, one by
 * one, while everything waits: with two processors shared among many a collection took 0.85 ms
 * (one in ten 4.8), alone 0.65 (1.0).
 */
export function collectAlone(): void {
  setFlagsFromString('--no-parallel-scavenge');
}
