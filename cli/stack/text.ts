/** A stack file in its long form as the YAML that `stack config` prints. */
import type { StackFile } from './types.ts';
import { yamlText } from './yaml.ts';

const BARE = new Set(['services']);

/**
 * Keys in the order of docker's command; sections that are empty are left out. What is printed is a
 * stack file again: dollars that are no variables any more are doubled.
 */
export function configText(file: StackFile, isInterpolated = true): string {
  const { version, name, services, networks, volumes, secrets, configs, extensions } = file;
  const sections = { services, networks, volumes, secrets, configs };
  const shown = Object.entries(sections).filter(
    ([key, section]) => BARE.has(key) || Object.keys(section).length > 0,
  );
  const text = {
    ...(version === undefined ? {} : { version }),
    ...(name === undefined ? {} : { name }),
    ...Object.fromEntries(shown.map(([key, section]) => [key, sorted(section)])),
    ...extensions,
  };
  return yamlText(isInterpolated ? escaped(text) : text);
}

function escaped(value: unknown): unknown {
  if (typeof value === 'string') return value.replaceAll('$', '$$$$');
  if (Array.isArray(value)) return value.map(escaped);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, escaped(item)]));
}

function sorted(section: object): object {
  const entries = Object.entries(section).map(([key, value]) => [key, printable(value)] as const);
  return Object.fromEntries(entries.sort(([left], [right]) => (left < right ? -1 : 1)));
}

/** Sizes are texts and equal limits one number, as docker's command prints them. */
function printable(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(printable);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => {
      if (key === 'memory') return [key, String(item)];
      if (key === 'depends_on') return [key, dependencies(item as Dependencies)];
      if (key === 'ulimits') return [key, ulimits(item as Limits)];
      return [key, printable(item)];
    }),
  );
}

type Dependencies = Readonly<Record<string, { readonly condition: string }>>;

/** The short form where it says all. */
function dependencies(all: Dependencies): unknown {
  const isPlain = Object.values(all).every((item) => item.condition === 'service_started');
  return isPlain ? Object.keys(all) : all;
}

type Limits = Readonly<Record<string, { readonly soft: number; readonly hard: number }>>;

function ulimits(limits: Limits): object {
  return Object.fromEntries(
    Object.entries(limits).map(([name, { soft, hard }]) => [
      name,
      soft === hard ? soft : { soft, hard },
    ]),
  );
}
