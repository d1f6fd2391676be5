/**
 * Keeps the store's sweep (removal of what no image refers to) apart from work that is still
 * putting blobs and layers in place: a sweep runs only while nobody holds a lease, and new leases
 * wait for it. It knows nothing of what is swept.
 */
export class Leases {
  #held = 0;
  #sweep: Promise<void> | undefined;
  #wanted: (() => Promise<void>) | undefined;
  #waiters: (() => void)[] = [];

  get busy(): boolean {
    return this.#held > 0;
  }

  /** Runs `work`; what it puts into the store is not swept before it has ended. */
  async during<T>(work: () => Promise<T>): Promise<T> {
    while (this.#sweep !== undefined) await this.#sweep;
    this.#held += 1;
    try {
      return await work();
    } finally {
      this.#held -= 1;
      this.#runIfFree();
    }
  }

  /**
   * Runs `sweep`, which must not reject, once nobody holds a lease; resolves when it, or a later
   * one in its place, is done.
   */
  sweep(sweep: () => Promise<void>): Promise<void> {
    this.#wanted = sweep;
    const done = new Promise<void>((resolve) => this.#waiters.push(resolve));
    this.#runIfFree();
    return done;
  }

  #runIfFree(): void {
    if (this.#held > 0 || this.#sweep !== undefined || this.#wanted === undefined) return;
    const wanted = this.#wanted;
    const waiters = this.#waiters;
    this.#wanted = undefined;
    this.#waiters = [];
    this.#sweep = wanted().finally(() => {
      this.#sweep = undefined;
      for (const waiter of waiters) waiter();
      this.#runIfFree();
    });
  }
}
