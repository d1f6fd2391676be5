/**
 * A task as the store keeps it: the same fields as any task, in the least memory, as there may be a
 * million. Every record has one shape; what tasks have in common (ids of services, nodes, networks,
 * specifications, usual texts, empty lists) is shared; the times of phases rest packed in a text
 * and are an object only when read. Adds, drops and decides nothing.
 */
import { assert } from '../../base/assert.ts';
import { sameValue } from '../../model/equal.ts';
import type { TaskState } from '../../model/taskState.ts';
import type {
  GenericResource,
  Labels,
  ObjectBase,
  PortConfig,
  Service,
  Task,
  TaskNetwork,
  TaskPhases,
  TaskSpec,
  TaskStatus,
} from '../../model/types.ts';
import type { Contents } from './contents.ts';

const NO_NETWORKS: readonly TaskNetwork[] = [];
const NO_PORTS: readonly PortConfig[] = [];
const NO_RESOURCES: readonly GenericResource[] = [];
const NO_ALIASES: readonly string[] = [];

/** Texts that many tasks have alike ('started'); beyond it, new ones are not shared. */
const SHARED_TEXTS_MAX = 4096;
const SHARED_TEXT_CHARACTERS_MAX = 64;

/** Of one store. */
export class SharedTexts {
  readonly #texts = new Map<string, string>();

  of(text: string): string {
    const known = this.#texts.get(text);
    if (known !== undefined) return known;
    const few = this.#texts.size < SHARED_TEXTS_MAX && text.length <= SHARED_TEXT_CHARACTERS_MAX;
    if (few) this.#texts.set(text, text);
    return text;
  }
}

/** `before`: what it takes the place of. */
export function taskRecord(
  contents: Contents,
  before: Task | undefined,
  after: Task,
  base: Omit<ObjectBase, 'id'>,
): Task {
  const service = contents.get('service', after.serviceId);
  return {
    id: before?.id ?? after.id,
    version: base.version,
    createdAtMs: base.createdAtMs,
    updatedAtMs: base.updatedAtMs,
    serviceId: service?.id ?? before?.serviceId ?? after.serviceId,
    serviceName: before?.serviceName ?? service?.spec.name ?? after.serviceName,
    slot: after.slot,
    generation: after.generation,
    nodeId: contents.get('node', after.nodeId)?.id ?? after.nodeId,
    spec: sharedSpec(before, service, after.spec),
    serviceLabels: sharedLabels(before, service, after.serviceLabels),
    specVersion: after.specVersion,
    desiredState: after.desiredState,
    status:
      after.status === before?.status ? after.status : new StatusRecord(contents, after.status),
    networks: sharedNetworks(contents, before, after.networks),
    ports: after.ports.length === 0 ? NO_PORTS : after.ports,
    notBeforeMs: after.notBeforeMs,
    movedFrom: after.movedFrom,
    jobIteration: after.jobIteration,
    genericResources: after.genericResources.length === 0 ? NO_RESOURCES : after.genericResources,
  };
}

function sharedSpec(before: Task | undefined, service: Service | undefined, spec: TaskSpec) {
  const candidates = [before?.spec, service?.spec.task, service?.previousSpec?.task];
  return candidates.find((known) => known !== undefined && sameValue(known, spec)) ?? spec;
}

function sharedLabels(before: Task | undefined, service: Service | undefined, labels: Labels) {
  const candidates = [before?.serviceLabels, service?.spec.labels];
  return candidates.find((known) => known !== undefined && sameValue(known, labels)) ?? labels;
}

function sharedNetworks(
  contents: Contents,
  before: Task | undefined,
  networks: readonly TaskNetwork[],
): readonly TaskNetwork[] {
  if (networks.length === 0) return NO_NETWORKS;
  if (before !== undefined && sameValue(before.networks, networks)) return before.networks;
  return networks.map(({ networkId, address, aliases }) => ({
    networkId: contents.get('network', networkId)?.id ?? networkId,
    address,
    aliases: aliases.length === 0 ? NO_ALIASES : aliases,
  }));
}

/** Reads and copies as any status does. */
class StatusRecord implements TaskStatus {
  readonly state: TaskState;
  readonly atMs: number;
  readonly message: string;
  readonly error: string;
  readonly containerId: string;
  readonly pid: number;
  readonly exitCode: number;
  readonly oomKilled: boolean;
  readonly gatewayAddress: string;
  declare readonly phases: TaskPhases;
  readonly #phases: string;

  constructor({ texts }: Contents, status: TaskStatus) {
    this.state = status.state;
    this.atMs = status.atMs;
    this.message = texts.of(status.message);
    this.error = texts.of(status.error);
    this.containerId = status.containerId;
    this.pid = status.pid;
    this.exitCode = status.exitCode;
    this.oomKilled = status.oomKilled;
    this.gatewayAddress = status.gatewayAddress;
    this.#phases = packPhases(status.phases);
    // A property of its own, so that a copy by spreading has it too.
    Object.defineProperty(this, 'phases', PHASES);
  }

  static phasesOf(status: StatusRecord): TaskPhases {
    return unpackPhases(status.#phases);
  }
}

const PHASES: PropertyDescriptor = {
  enumerable: true,
  get(this: StatusRecord): TaskPhases {
    return StatusRecord.phasesOf(this);
  },
};

/** States are multiples of it, up to 26 times. */
const STATE_STEP = 32;
const RADIX = 36;

/** '0loy3v28b,2a,6-3': a digit for the state, then the time since the first one's. */
export function packPhases(phases: TaskPhases): string {
  let packed = '';
  let originMs = 0;
  for (const key in phases) {
    const state = Number(key);
    const digit = state / STATE_STEP;
    const atMs = phases[state];
    assert(Number.isInteger(digit) && digit < RADIX && Number.isSafeInteger(atMs), 'a phase', {
      state,
      atMs,
    });
    if (packed !== '') packed += ',';
    packed += digit.toString(RADIX) + (atMs - originMs).toString(RADIX);
    if (originMs === 0) originMs = atMs;
  }
  return packed;
}

export function unpackPhases(packed: string): TaskPhases {
  const phases: Record<number, number> = {};
  if (packed === '') return phases;
  let originMs = 0;
  for (const part of packed.split(',')) {
    const atMs = originMs + Number.parseInt(part.slice(1), RADIX);
    phases[Number.parseInt(part[0], RADIX) * STATE_STEP] = atMs;
    if (originMs === 0) originMs = atMs;
  }
  return phases;
}
