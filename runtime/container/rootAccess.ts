/**
 * Ways into a container's root for whoever copies files: a running container's own, or, while it
 * does not run, its layers mounted by a process of the shim's executable that does nothing else.
 * Two mounts of one writable layer must not meet: a start waits until the last such holder is gone.
 */
import { writeFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { messageOf, SwarmError } from '../../base/errors.ts';
import { Signal } from '../../base/queue.ts';
import { close, createMemfd, makeSocketPair, reap, spawnProcess } from '../sys/libc.ts';
import type { ContainerContext } from './context.ts';
import { InsideRoot } from './insideRoot.ts';
import type { IdMaps } from './specRecords.ts';

const REAP_PAUSE_MS = 2;
const REAP_TRIES = 1000;

export interface OpenRoot {
  readonly root: InsideRoot;
  /** Whose mount namespace it is. */
  readonly pid: number;
  /** The container's ids, where its files show as the host's; else they have them as they are. */
  readonly ids?: IdMaps;
  close(): void;
}

export class RootAccess {
  readonly #context: ContainerContext;
  readonly #idle = new Signal();
  #holders = 0;

  constructor(context: ContainerContext) {
    this.#context = context;
  }

  /** Resolves when no holder is left. */
  async idle(): Promise<void> {
    while (this.#holders > 0) {
      await new Promise<void>((resolve) => {
        const stop = this.#idle.listen(() => {
          stop();
          resolve();
        });
      });
    }
  }

  /** `pid` runs; `isSame` tells whether it still did once its root was open. */
  openRunning(pid: number, isSame: () => boolean): OpenRoot {
    const root = InsideRoot.at(`/proc/${pid}/root`);
    if (isSame()) return { root, pid, close: () => root.close() };
    root.close();
    throw new SwarmError('conflict', 'the container has just ended: try again');
  }

  async openStopped(spec: Uint8Array): Promise<OpenRoot> {
    this.#holders += 1;
    let isOver = false;
    const over = (): void => {
      if (isOver) return;
      isOver = true;
      this.#holders -= 1;
      this.#idle.emit();
    };
    try {
      return await this.#hold(spec, over);
    } catch (error) {
      over();
      throw error;
    }
  }

  async #hold(spec: Uint8Array, over: () => void): Promise<OpenRoot> {
    const { shimFd, nullFd } = this.#context;
    const [ours, theirs] = makeSocketPair();
    const socket = new Socket({ fd: ours });
    let specFd = -1;
    let pid = 0;
    try {
      specFd = createMemfd('spec');
      writeFileSync(specFd, spec);
      pid = spawnProcess({
        path: `/proc/self/fd/${shimFd}`,
        args: ['tsswarm-hold'],
        env: [],
        fds: [nullFd, nullFd, nullFd, specFd, theirs],
      });
    } finally {
      if (specFd >= 0) close(specFd);
      close(theirs);
      if (pid === 0) socket.destroy();
    }
    const end = (): void => {
      socket.destroy();
      this.#reap(pid, REAP_TRIES, over);
    };
    try {
      const said = await firstWords(socket);
      if (said !== '\n') throw new SwarmError('internal', `cannot look into it: ${said}`);
      const root = InsideRoot.at(`/proc/${pid}/root`);
      const letGo = (): void => {
        root.close();
        end();
      };
      return { root, pid, close: once(letGo) };
    } catch (error) {
      end();
      throw error;
    }
  }

  #reap(pid: number, triesLeft: number, over: () => void): void {
    if (reap(pid) || triesLeft === 0) over();
    else {
      this.#context.clock.after(REAP_PAUSE_MS, () => this.#reap(pid, triesLeft - 1, over));
    }
  }
}

function once(work: () => void): () => void {
  let isDone = false;
  return () => {
    if (isDone) return;
    isDone = true;
    work();
  };
}

function firstWords(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    socket.once('data', (data) => resolve(data.toString()));
    socket.once('error', (error) => resolve(messageOf(error)));
    socket.once('close', () => resolve('the process that was to mount it has ended'));
  });
}
