/**
 * In which order services of a stack are created: what others depend on first, else as in the file.
 * Pure.
 */
import { wrong } from './read.ts';
import type { StackFile } from './types.ts';

export interface Step {
  readonly key: string;
  /** Services that must have converged before this one is created. */
  readonly waitsFor: readonly string[];
}

/** SwarmError invalid for a dependency that is not in the file, and for a circle. */
export function deployOrder(file: StackFile): Step[] {
  const steps = new Map<string, Step>();
  const under: string[] = [];
  const visit = (key: string): void => {
    if (steps.has(key)) return;
    if (under.includes(key)) {
      const circle = [...under.slice(under.indexOf(key)), key].join(' -> ');
      throw wrong(`services.${key}.depends_on`, `it depends on itself: ${circle}`);
    }
    under.push(key);
    const needs = Object.entries(file.services[key].depends_on ?? {});
    for (const [name] of needs) {
      if (!Object.hasOwn(file.services, name)) {
        throw wrong(`services.${key}.depends_on`, `there is no service "${name}"`);
      }
      visit(name);
    }
    under.pop();
    const waitsFor = needs
      .filter(([, { condition }]) => condition !== 'service_started')
      .map(([name]) => name);
    steps.set(key, { key, waitsFor });
  };
  for (const key of Object.keys(file.services)) visit(key);
  return [...steps.values()];
}
