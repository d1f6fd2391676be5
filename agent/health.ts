/**
 * A task's health check: runs it in the task's container and tells when its verdict changes. What
 * follows from that is step's to decide; when it runs and what a streak means is the runtime's.
 */
import type { Clock } from '../base/clock.ts';
import {
  effectiveCheck,
  type Health,
  HealthMonitor,
  NO_HEALTH,
  noteHealth,
} from '../runtime/container/health.ts';
import { probeIn } from '../runtime/container/healthProbe.ts';
import type { Container } from '../runtime/container/types.ts';
import type { HealthReport } from './controller.ts';

/** A status is one line; what a probe wrote may be pages. */
const OUTPUT_SHOWN = 200;

/** Returns the stop. Nothing is told of a container without a check. */
export function watchHealth(
  clock: Clock,
  container: Container,
  wasHealthy: boolean,
  tell: (report: HealthReport) => void,
): () => void {
  const check = effectiveCheck(container.config.healthCheck);
  if (check === undefined) return () => {};
  const monitor = new HealthMonitor({
    clock,
    check,
    exec: probeIn(container, check),
    onResult: (health, before) => {
      noteHealth(container, health);
      if (health.status === before.status) return;
      if (health.status === 'healthy') tell({ isHealthy: true, error: '' });
      if (health.status === 'unhealthy') tell({ isHealthy: false, error: reasonOf(health) });
    },
  });
  const known: Health = wasHealthy ? { ...NO_HEALTH, status: 'healthy' } : NO_HEALTH;
  noteHealth(container, known);
  monitor.start(known, Math.max(0, clock.wallMs() - container.startedAtMs));
  return () => monitor.stop();
}

/** 'unhealthy container: 3 health checks in a row failed, the last with exit code 1: ...' */
function reasonOf({ failingStreak, results }: Health): string {
  const last = results.at(-1);
  const output = (last?.output ?? '').trim().replace(/\s+/g, ' ').slice(0, OUTPUT_SHOWN);
  const said = output === '' ? '' : `: ${output}`;
  const how = last === undefined || last.exitCode === -1 ? '' : ` with exit code ${last.exitCode}`;
  const streak = `${failingStreak} health checks failed in a row, the last${how}`;
  return `unhealthy container: ${streak}${said}`;
}
