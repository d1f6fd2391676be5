/**
 * Ends what the swarm ran on this host: its containers, networks, secrets and the agent's journal.
 * Containers that users made here, and their volumes, stay. Knows nothing of the identity.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { HostRuntime } from '../agent/containerController.ts';
import { messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';

/** At once when `graceMs` is 0. */
export async function forgetTasks(
  runtime: HostRuntime,
  dataRoot: string,
  graceMs: number,
  log: Log,
): Promise<void> {
  const { containers, memoryFiles, network, volumes } = runtime;
  const standalone = containers.list().filter((each) => each.config.standalone === true);
  const ends = containers.list().map(async (container) => {
    if (container.config.standalone === true) return;
    if (container.state === 'running' && graceMs > 0) {
      await container.stop(graceMs).catch((error: unknown) => {
        // Removing it below kills what would not stop.
        log.warn('container did not stop', { error: messageOf(error) });
      });
    }
    await container.remove();
  });
  await Promise.all(ends);
  const kept = new Set(standalone.map((each) => each.config.id));
  for (const { name } of volumes.list()) {
    for (const user of volumes.users(name)) if (!kept.has(user)) volumes.release(name, user);
  }
  for (const id of memoryFiles.ids()) memoryFiles.drop(id);
  await network.prune(kept);
  await network.setSelf(undefined);
  await rm(join(dataRoot, 'agent'), { recursive: true, force: true });
}
