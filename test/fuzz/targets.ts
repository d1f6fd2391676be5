/** The fuzz targets by name; each is loaded when it is asked for. */
import type { FuzzTarget } from './target.ts';

export const TARGETS: Readonly<Record<string, () => Promise<FuzzTarget>>> = {
  api: async () => (await import('./targets/api.ts')).target,
  launch: async () => (await import('./targets/launch.ts')).target,
  layer: async () => (await import('./targets/layer.ts')).target,
  logs: async () => (await import('./targets/logs.ts')).target,
  manifest: async () => (await import('./targets/manifest.ts')).target,
  reference: async () => (await import('./targets/reference.ts')).target,
  registry: async () => (await import('./targets/registry.ts')).target,
  stack: async () => (await import('./targets/stack.ts')).target,
};
