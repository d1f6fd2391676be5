/**
 * Which update settings hold for a service now, for whoever places or replaces its tasks. Reads the
 * service and nothing else.
 */
import type { Service, UpdateConfig } from '../../model/types.ts';

export function isRollingBack(service: Service): boolean {
  return service.update?.state.startsWith('rollback') ?? false;
}

/** Those of the rollback while one is under way. */
export function activeConfig(service: Service): UpdateConfig {
  return isRollingBack(service) ? service.spec.rollback : service.spec.update;
}
