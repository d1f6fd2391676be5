/** What can be done to any container of this host, a user's or a task's. */
import type { Container, ContainerResources, Streams } from '../../runtime/container/types.ts';
import type { ContainerView, ExitStatus, RestartPolicy, WaitCondition } from './types.ts';

export interface Managed {
  readonly id: string;
  readonly name: string;
  readonly container: Container;
  view(): ContainerView;
  /** False when it runs already. SwarmError with detail.exitCode as Container.start. */
  start(): Promise<boolean>;
  /** False when it does not run. `graceMs` undefined = its own; Infinity = for ever. */
  stop(graceMs?: number, signal?: string): Promise<boolean>;
  restart(graceMs?: number, signal?: string): Promise<void>;
  kill(signal: string): Promise<void>;
  pause(): Promise<void>;
  unpause(): Promise<void>;
  /** Resolves to what it was called until then. */
  rename(name: string): Promise<string>;
  /** Resolves with what was cut or has no effect here. */
  update(
    resources: ContainerResources,
    restart: RestartPolicy | undefined,
  ): Promise<readonly string[]>;
  /** SwarmError conflict when it runs and `force` is not given. */
  remove(options: { readonly force: boolean; readonly volumes: boolean }): Promise<void>;
  /** Resolves as soon as the condition holds; SwarmError cancelled when the caller goes first. */
  wait(condition: WaitCondition, signal: AbortSignal): Promise<ExitStatus>;
  /** Of a container that does not run: of its next run, from the first byte. */
  attach(options: { readonly stdin: boolean }): Promise<Streams>;
}

/** How long a stop waits before it kills, unless the container or the request says otherwise. */
export const DEFAULT_STOP_GRACE_MS = 10_000;
