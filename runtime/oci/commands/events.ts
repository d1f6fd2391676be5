/** events: what the kernel counts of a container, and when it killed for want of memory. */
import { parseDuration } from '../../../base/duration.ts';
import { SwarmError } from '../../../base/errors.ts';
import { firstWord, type OciCommand } from '../command.ts';
import type { OciContext } from '../context.ts';
import { readStats } from '../stats.ts';
import type { StoredContainer } from '../store.ts';

const DEFAULT_INTERVAL = '5s';
/** How often is looked whether there was a kill, or an end. */
const LOOK_MS = 50;

export const events: OciCommand = {
  name: 'events',
  summary:
    'display container events such as OOM notifications, cpu, memory, and IO usage statistics',
  words: '<container-id>',
  description:
    'The events command displays information about the container. By default the\n' +
    'information is displayed once every 5 seconds.',
  flags: [
    {
      name: 'interval',
      value: true,
      help: 'set the stats collection interval',
      byDefault: DEFAULT_INTERVAL,
    },
    { name: 'stats', help: "display the container's stats then exit" },
  ],
  least: 1,
  most: 1,
  run: async (context, args) => {
    const intervalMs = parseDuration(args.text('interval') ?? DEFAULT_INTERVAL);
    if (intervalMs <= 0)
      throw new SwarmError('invalid', 'duration interval must be greater than 0');
    const container = context.store.load(firstWord(args));
    if (container.status === 'stopped') {
      throw new SwarmError('conflict', `container with id ${container.id} is not running`);
    }
    if (args.flag('stats')) tell(container, 'stats', readStats(container.cgroups));
    else await watch(context, container, intervalMs);
    return 0;
  },
};

function tell(container: StoredContainer, type: string, data?: unknown): void {
  process.stdout.write(`${JSON.stringify({ type, id: container.id, data })}\n`);
}

async function watch(
  context: OciContext,
  container: StoredContainer,
  intervalMs: number,
): Promise<void> {
  let kills = container.cgroups.oomKills();
  let nextMs = context.clock.nowMs();
  while (container.isAlive) {
    const now = container.cgroups.oomKills();
    if (now > kills) tell(container, 'oom');
    kills = now;
    if (context.clock.nowMs() >= nextMs) {
      nextMs += intervalMs;
      if (container.cgroups.exists) tell(container, 'stats', readStats(container.cgroups));
    }
    await context.clock.sleep(LOOK_MS);
  }
}
