/**
 * A wake-up for one sleeper: pokes while it is busy are remembered as one. Carries no data.
 */
export class Pulse {
  #poked = false;
  #wake: (() => void) | undefined;

  poke(): void {
    this.#poked = true;
    this.#wake?.();
  }

  /** Resolves at once when poked since the last wait. */
  async wait(): Promise<void> {
    if (!this.#poked) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
    this.#poked = false;
  }
}
