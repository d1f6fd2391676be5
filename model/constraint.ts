/**
 * Placement constraints: 'KEY==VALUE' or 'KEY!=VALUE' over what a node is, in Docker Swarm's
 * grammar. Parsed once and matched against a node; values compare without regard to case, and
 * architectures under either of their names (amd64 = x86_64). A label that is absent is ''.
 */
import { SwarmError } from '../base/errors.ts';
import { type Block, blockAt, contains, parseAddress } from './address.ts';
import type { Labels, Node, Placement } from './types.ts';

export interface Constraint {
  readonly key: string;
  readonly equal: boolean;
  readonly value: string;
}

const GRAMMAR = /^\s*([A-Za-z_][A-Za-z0-9_.\-/]*)\s*(==|!=)\s*([^\s=!][^=!]*?)\s*$/;
const NODE_LABEL = 'node.labels.';
const ENGINE_LABEL = 'engine.labels.';
const FIELDS: ReadonlyMap<string, (node: Node) => string> = new Map([
  ['node.id', (node: Node) => node.id],
  ['node.hostname', (node: Node) => node.description.hostname],
  ['node.role', (node: Node) => node.role],
  ['node.ip', (node: Node) => node.address],
  ['node.platform.os', (node: Node) => node.description.os],
  ['node.platform.arch', (node: Node) => node.description.architecture],
]);
const ARCHITECTURES: ReadonlyMap<string, string> = new Map([
  ['amd64', 'x86_64'],
  ['x86-64', 'x86_64'],
  ['arm64', 'aarch64'],
]);

/** SwarmError invalid, naming what may be written. */
export function parseConstraint(text: string): Constraint {
  const match = GRAMMAR.exec(text);
  if (match !== null) {
    const [, written, operator, value] = match;
    const key = normalKey(written);
    if (key === 'node.ip' && blockOf(value) === undefined) {
      throw new SwarmError(
        'invalid',
        `invalid constraint "${text}": write an address or a block, like 192.0.2.7 or 192.0.2.0/24`,
      );
    }
    if (key !== undefined) return { key, equal: operator === '==', value };
  }
  throw new SwarmError(
    'invalid',
    `invalid constraint "${text}": use node.id, node.hostname, node.ip, node.role, ` +
      'node.platform.os, node.platform.arch, node.labels.* or engine.labels.* with == or !=',
  );
}

/** Field names in any case; label names keep theirs. */
function normalKey(written: string): string | undefined {
  const lower = written.toLowerCase();
  if (FIELDS.has(lower)) return lower;
  for (const prefix of [NODE_LABEL, ENGINE_LABEL]) {
    if (lower.startsWith(prefix) && lower.length > prefix.length) {
      return prefix + written.slice(prefix.length);
    }
  }
  return undefined;
}

/** '192.0.2.7' or '192.0.2.0/24'; bits right of the prefix do not matter, as Docker has it. */
function blockOf(text: string): Block | undefined {
  const [address, prefix, more] = text.split('/');
  const value = parseAddress(address);
  if (value === undefined || more !== undefined) return undefined;
  if (prefix === undefined) return blockAt(value, 32);
  return /^\d{1,2}$/.test(prefix) && Number(prefix) <= 32
    ? blockAt(value, Number(prefix))
    : undefined;
}

/** The value a node has for 'node.labels.zone' and the like; '' when it has none. */
export function nodeValue(key: string, node: Node): string {
  if (key.startsWith(NODE_LABEL)) return label(node.spec.labels, key.slice(NODE_LABEL.length));
  if (key.startsWith(ENGINE_LABEL)) {
    return label(node.description.engineLabels, key.slice(ENGINE_LABEL.length));
  }
  return FIELDS.get(key)?.(node) ?? '';
}

/** Only what was set: 'constructor' is a label name like any other. */
function label(labels: Labels, name: string): string {
  return Object.hasOwn(labels, name) ? labels[name] : '';
}

export function meetsConstraint(constraint: Constraint, node: Node): boolean {
  if (constraint.key === 'node.ip') {
    const [block, address] = [blockOf(constraint.value), parseAddress(node.address)];
    const isInside = block !== undefined && address !== undefined && contains(block, address);
    return isInside === constraint.equal;
  }
  const have = comparable(constraint.key, nodeValue(constraint.key, node));
  return (have === comparable(constraint.key, constraint.value)) === constraint.equal;
}

/** All of the placement's constraints; one that cannot be parsed is met by no node. */
export function meetsConstraints(constraints: readonly Constraint[], node: Node): boolean {
  return constraints.every((constraint) => meetsConstraint(constraint, node));
}

export function meetsPlatforms(platforms: Placement['platforms'], node: Node): boolean {
  if (platforms.length === 0) return true;
  const { os, architecture } = node.description;
  return platforms.some(
    (platform) =>
      (platform.os === '' || platform.os.toLowerCase() === os.toLowerCase()) &&
      (platform.architecture === '' ||
        normalArchitecture(platform.architecture) === normalArchitecture(architecture)),
  );
}

/** Where the node is by constraints and platform; counts and resources are the scheduler's. */
export function fitsPlacement(placement: Placement, node: Node): boolean {
  return (
    meetsPlatforms(placement.platforms, node) &&
    meetsConstraints(placement.constraints.map(parseConstraint), node)
  );
}

/** 'amd64' -> 'x86_64', 'arm64' -> 'aarch64'; others in lower case. */
export function normalArchitecture(architecture: string): string {
  const lower = architecture.toLowerCase();
  return ARCHITECTURES.get(lower) ?? lower;
}

function comparable(key: string, value: string): string {
  return key === 'node.platform.arch' ? normalArchitecture(value) : value.toLowerCase();
}
