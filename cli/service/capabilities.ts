/**
 * --cap-add and --cap-drop, the same on create and update: what is added is not dropped and the
 * other way round, adding wins, ALL stands for all, and RESET forgets what was asked for before.
 */
import { type Command, collect } from '../command.ts';
import type { ServiceSpecJson } from '../docker.ts';

const RESET = 'CAP_RESET';

export function addCapabilities(command: Command): void {
  command.option('--cap-add <capability>', 'add a capability, e.g. NET_ADMIN', collect);
  command.option('--cap-drop <capability>', 'drop a capability, or ALL', collect);
}

/** 'net_admin' -> 'CAP_NET_ADMIN'. */
export function canonicalCapability(name: string): string {
  const word = name.trim().toUpperCase();
  return word === 'ALL' || word.startsWith('CAP_') ? word : `CAP_${word}`;
}

/** Without doubles, in order; ALL makes the others needless. */
function settled(names: ReadonlySet<string>): string[] {
  return names.has('ALL') ? ['ALL'] : [...names].sort();
}

export function applyCapabilities(
  spec: ServiceSpecJson,
  added: readonly string[],
  dropped: readonly string[],
): void {
  if (added.length + dropped.length === 0) return;
  const container = spec.TaskTemplate.ContainerSpec;
  const toAdd = new Set(added.map(canonicalCapability));
  const toDrop = new Set(dropped.map(canonicalCapability));
  const isAddReset = toAdd.delete(RESET);
  const isDropReset = toDrop.delete(RESET);
  const add = new Set(isAddReset ? [] : container.CapabilityAdd);
  const drop = new Set(isDropReset ? [] : container.CapabilityDrop);
  for (const name of toDrop) {
    if (toAdd.has(name)) continue;
    add.delete(name);
    drop.add(name);
  }
  for (const name of toAdd) {
    drop.delete(name);
    add.add(name);
  }
  container.CapabilityAdd = settled(add);
  container.CapabilityDrop = settled(drop);
}
