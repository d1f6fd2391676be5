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
    spec: sharedSpec(contents, before, service, after.spec),
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

function sharedSpec(
  { equalSpecs }: Contents,
  before: Task | undefined,
  service: Service | undefined,
  spec: TaskSpec,
): TaskSpec {
  // A thousand tasks that were read one after another hold one specification: compared once.
  const found = equalSpecs.get(spec);
  if (found !== undefined && (found === before?.spec || found === service?.spec.task)) return found;
  const candidates = [before?.spec, service?.spec.task, service?.previousSpec?.task];
  const equal = candidates.find((known) => known !== undefined && sameValue(known, spec));
  if (equal !== undefined && equal !== spec) equalSpecs.set(spec, equal);
  return equal ?? spec;
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

/** Reads and copies as any status does; what takes the most room is packed in one text. */
export class StatusRecord implements TaskStatus {
  readonly state: TaskState;
  readonly atMs: number;
  readonly message: string;
  readonly error: string;
  declare readonly containerId: string;
  readonly pid: number;
  readonly exitCode: number;
  readonly oomKilled: boolean;
  readonly gatewayAddress: string;
  declare readonly phases: TaskPhases;
  readonly #packed: string;

  constructor({ texts }: Contents, status: TaskStatus) {
    this.state = status.state;
    this.atMs = status.atMs;
    this.message = texts.of(status.message);
    this.error = texts.of(status.error);
    this.pid = status.pid;
    this.exitCode = status.exitCode;
    this.oomKilled = status.oomKilled;
    this.gatewayAddress = status.gatewayAddress;
    this.#packed = packContainerId(status.containerId) + packPhases(status.phases);
    // Properties of its own, so that a copy by spreading has them too.
    Object.defineProperties(this, UNPACKED);
  }

  /** Container id and phases: equal texts for equal ones. */
  static packed(status: StatusRecord): string {
    return status.#packed;
  }
}

const UNPACKED: PropertyDescriptorMap = {
  containerId: {
    enumerable: true,
    get(this: StatusRecord): string {
      return unpackContainerId(StatusRecord.packed(this));
    },
  },
  phases: {
    enumerable: true,
    get(this: StatusRecord): TaskPhases {
      const packed = StatusRecord.packed(this);
      return unpackPhases(packed, endOfContainerId(packed));
    },
  },
};

const HEX_ID = /^[0-9a-f]{64}$/;
const ID_BYTES = 32;
const NO_ID = '-';
const BYTES_ID = 'b';

/** '-' for none, 'b' and 32 characters of a byte each, or '4:name' for one of another form. */
function packContainerId(id: string): string {
  if (id === '') return NO_ID;
  if (HEX_ID.test(id)) return BYTES_ID + Buffer.from(id, 'hex').toString('latin1');
  return `${id.length}:${id}`;
}

/** Where in a packed text the container id ends. */
function endOfContainerId(packed: string): number {
  if (packed[0] === NO_ID) return NO_ID.length;
  if (packed[0] === BYTES_ID) return BYTES_ID.length + ID_BYTES;
  const colon = packed.indexOf(':');
  return colon + 1 + Number(packed.slice(0, colon));
}

function unpackContainerId(packed: string): string {
  const end = endOfContainerId(packed);
  if (packed[0] === NO_ID) return '';
  if (packed[0] === BYTES_ID) return Buffer.from(packed.slice(1, end), 'latin1').toString('hex');
  return packed.slice(packed.indexOf(':') + 1, end);
}

/** States are multiples of it, up to 26 times. */
const STATE_STEP = 32;
const RADIX = 36;
const MINUS = 0x2d;
const COMMA = 0x2c;

/** '0loy3v28b,2a,6-3': a digit for the state, then the time since the first one's. */
function packPhases(phases: TaskPhases): string {
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
    if (packed === '') originMs = atMs;
    const sinceMs = packed === '' ? atMs : atMs - originMs;
    packed += `${packed === '' ? '' : ','}${digit.toString(RADIX)}${sinceMs.toString(RADIX)}`;
  }
  return packed;
}

function unpackPhases(packed: string, from: number): TaskPhases {
  const phases: Record<number, number> = {};
  let originMs: number | undefined;
  for (let at = from; at < packed.length; at += 1) {
    const state = digitOf(packed.charCodeAt(at)) * STATE_STEP;
    const isNegative = packed.charCodeAt(at + 1) === MINUS;
    let ms = 0;
    for (at += isNegative ? 2 : 1; at < packed.length; at += 1) {
      const code = packed.charCodeAt(at);
      if (code === COMMA) break;
      ms = ms * RADIX + digitOf(code);
    }
    if (isNegative) ms = -ms;
    phases[state] = (originMs ?? 0) + ms;
    originMs ??= ms;
  }
  return phases;
}

/** Of '0'-'9' and 'a'-'z'. */
function digitOf(code: number): number {
  return code < 0x3a ? code - 0x30 : code - 0x57;
}
