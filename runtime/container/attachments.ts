/**
 * The clients attached to one container. Those that come while it runs are handed to its shim at
 * once; those that come before wait here and are handed over as the shim is spawned, so that they
 * miss nothing. What happens to the bytes is the shim's.
 */
import type { Clock } from '../../base/clock.ts';
import { SwarmError } from '../../base/errors.ts';
import { ShimClient, TYPE } from './shimClient.ts';
import { openStreams, type StreamOptions, type StreamPipes } from './streams.ts';
import type { Streams } from './types.ts';

/** Waiting for a start; as many as the shim takes (streams.h). */
const EARLY_MAX = 16;

export class Attachments {
  readonly #execDir: string;
  readonly #clock: Clock;
  readonly #shortId: string;
  #early: StreamPipes[] = [];

  constructor(execDir: string, clock: Clock, shortId: string) {
    this.#execDir = execDir;
    this.#clock = clock;
    this.#shortId = shortId;
  }

  /** For the next start. */
  expect(options: StreamOptions): Streams {
    this.#early = this.#early.filter((candidate) => !candidate.isClosed);
    if (this.#early.length >= EARLY_MAX) {
      throw new SwarmError(
        'exhausted',
        `${EARLY_MAX} clients wait for container ${this.#shortId} to start: no more are taken`,
      );
    }
    const pipes = openStreams(options);
    this.#early.push(pipes);
    return pipes.streams;
  }

  /**
   * To the shim that runs. SwarmError not_found when it does not, exhausted when it has too many.
   */
  async add(options: StreamOptions): Promise<Streams> {
    const pipes = openStreams(options);
    try {
      await this.#send([pipes]);
      return pipes.streams;
    } catch (error) {
      pipes.streams.close();
      throw error;
    }
  }

  /** The requests wait in the socket for the shim that is about to be spawned. */
  sendEarly(): void {
    const pipes = this.#early.filter((candidate) => !candidate.isClosed);
    this.#early = [];
    if (pipes.length === 0) return;
    this.#send(pipes).catch(() => {
      // The container could not be started: the pipes are closed with the shim, and start() tells.
    });
  }

  /** Nothing will start: whoever waits sees the end. */
  drop(): void {
    for (const pipes of this.#early.splice(0)) pipes.handOver();
  }

  async #send(pipes: readonly StreamPipes[]): Promise<void> {
    try {
      const { client, done } = ShimClient.withDescriptors(
        this.#execDir,
        this.#clock,
        { state: () => {}, exited: () => {}, closed: () => {} },
        pipes.map(({ payload, fds }) => ({ type: TYPE.attach, payload, fds })),
        `attach to container ${this.#shortId}`,
      );
      await done.finally(() => client.close());
    } finally {
      for (const one of pipes) one.handOver();
    }
  }
}
