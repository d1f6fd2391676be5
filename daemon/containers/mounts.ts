/**
 * Mounts of a standalone container: volumes are made or found and held, binds are checked, what the
 * image declares gets a volume of its own. What was made for a container that then is not made is
 * taken back by the caller through `releaseVolumes`.
 */
import { mkdir, stat } from 'node:fs/promises';
import { messageOf, SwarmError } from '../../base/errors.ts';
import type { ContainerMount } from '../../runtime/container/types.ts';
import type { ImageStore } from '../../runtime/image/types.ts';
import type { VolumeStore } from '../../runtime/volume/types.ts';
import type { LocalEvents } from './events.ts';
import type { MountPoint, MountRequest } from './types.ts';

export interface MountContext {
  readonly volumes: VolumeStore;
  readonly images: Pick<ImageStore, 'find' | 'layers' | 'hold'>;
  readonly events: LocalEvents;
}

export interface MountInput {
  readonly containerId: string;
  readonly requests: readonly MountRequest[];
  /** Paths that get a volume of their own unless something else is mounted there. */
  readonly anonymous: readonly string[];
  /** Of other containers (--volumes-from). */
  readonly inherited: readonly MountPoint[];
  readonly layers: readonly string[];
}

/** All or none: what was held or made is let go again when one fails. */
export async function resolveMounts(
  context: MountContext,
  input: MountInput,
): Promise<readonly MountPoint[]> {
  const points = new Map<string, MountPoint>();
  try {
    for (const point of input.inherited) {
      if (point.type === 'tmpfs' || point.type === 'image') continue;
      hold(context, input.containerId, point);
      points.set(point.target, { ...point, anonymous: false });
    }
    for (const request of input.requests) {
      points.set(request.target, await resolve(context, input, request));
    }
    for (const target of input.anonymous) {
      if (points.has(target)) continue;
      points.set(target, await resolveVolume(context, input, { ...BARE_MOUNT, target }));
    }
    return [...points.values()];
  } catch (error) {
    await releaseVolumes(context, input.containerId, [...points.values()], true);
    throw error;
  }
}

/** Nothing asked for but a volume. */
export const BARE_MOUNT: MountRequest = {
  type: 'volume',
  source: '',
  target: '',
  readOnly: false,
  mode: '',
  createSource: false,
  propagation: undefined,
  nonRecursive: false,
  noCopy: false,
  labels: {},
  driverOptions: {},
  tmpfsSizeBytes: 0,
  tmpfsMode: 0,
  tmpfsExecutable: false,
};

function hold(context: MountContext, containerId: string, point: MountPoint): void {
  if (point.type === 'volume') context.volumes.hold(point.name, containerId);
}

async function resolve(
  context: MountContext,
  input: MountInput,
  request: MountRequest,
): Promise<MountPoint> {
  const { type, source, target, mode, readOnly, nonRecursive, writableBelow } = request;
  const common = {
    ...{ target, mode, readOnly, nonRecursive, name: '', anonymous: false },
    ...(writableBelow === true ? { writableBelow } : {}),
  };
  switch (type) {
    case 'bind':
      await checkSource(request);
      return { ...common, type, source, propagation: request.propagation ?? 'rprivate' };
    case 'tmpfs':
      return {
        ...common,
        type,
        source: '',
        propagation: '',
        ...(request.tmpfsSizeBytes > 0 ? { sizeBytes: request.tmpfsSizeBytes } : {}),
        ...(request.tmpfsMode > 0 ? { tmpfsMode: request.tmpfsMode } : {}),
        ...(request.tmpfsExecutable ? { executable: true } : {}),
      };
    case 'volume':
      return resolveVolume(context, input, request);
    case 'image':
      return resolveImage(context, input.containerId, request);
  }
}

/** Held until the container is removed: its layers are in use. */
async function resolveImage(
  { images }: MountContext,
  containerId: string,
  { source, target }: MountRequest,
): Promise<MountPoint> {
  const image = images.find(source);
  // Not 'not_found': Docker's client would take it for the container's own image, and pull that.
  if (image === undefined) throw new SwarmError('invalid', `No such image: ${source}`);
  const release = images.hold(image.id, containerId);
  try {
    const layers = await images.layers(image.id);
    const shown = { mode: '', propagation: '', readOnly: true, anonymous: false };
    return { ...shown, type: 'image', name: image.id, source, target, layers };
  } catch (error) {
    release();
    throw error;
  }
}

async function resolveVolume(
  context: MountContext,
  input: MountInput,
  request: MountRequest,
): Promise<MountPoint> {
  const { volumes, events } = context;
  const { target, mode, readOnly, labels, driverOptions, subpath } = request;
  const isNew = request.source === '' || volumes.get(request.source) === undefined;
  const volume = await volumes.create({
    name: request.source,
    driver: '',
    labels,
    options: driverOptions,
  });
  if (isNew) events.emit('volume', 'create', volume.name, { driver: volume.driver });
  volumes.hold(volume.name, input.containerId);
  const point: MountPoint = {
    type: 'volume',
    name: volume.name,
    source: volume.mountpoint,
    target,
    mode: mode === '' ? 'z' : mode,
    readOnly,
    propagation: '',
    anonymous: request.source === '',
    ...(subpath === undefined ? {} : { subpath }),
  };
  try {
    // What the image has at the target is no part of the volume's inside.
    if (!request.noCopy && subpath === undefined) {
      await volumes.mount(volume.name);
      await volumes.fill(volume.name, { layers: input.layers, path: target });
    }
    return point;
  } catch (error) {
    await releaseVolumes(context, input.containerId, [point], true);
    throw error;
  }
}

async function checkSource(request: MountRequest): Promise<void> {
  const { source, createSource } = request;
  try {
    await stat(source);
    return;
  } catch (cause) {
    if (!createSource) throw missing(source, cause);
  }
  try {
    await mkdir(source, { recursive: true });
  } catch (cause) {
    throw new SwarmError(
      'invalid',
      `error while creating mount source path '${source}': ${messageOf(cause)}`,
      { cause },
    );
  }
}

function missing(source: string, cause: unknown): SwarmError {
  return new SwarmError(
    'invalid',
    `invalid mount config for type "bind": bind source path does not exist: ${source}`,
    { cause },
  );
}

/** Before each start: what was there when it was made may be gone. */
export async function readyMounts(
  context: MountContext,
  containerId: string,
  points: readonly MountPoint[],
): Promise<void> {
  for (const point of points) {
    if (point.type === 'bind') {
      await stat(point.source).catch((cause: unknown) => {
        throw missing(point.source, cause);
      });
    } else if (point.type === 'volume') {
      await context.volumes.mount(point.name);
      context.events.emit('volume', 'mount', point.name, {
        container: containerId,
        destination: point.target,
        driver: 'local',
        propagation: '',
        'read/write': String(!point.readOnly),
      });
    }
  }
}

/** Lets go of a container's volumes; `anonymous`: and removes those made for it alone. */
export async function releaseVolumes(
  context: MountContext,
  containerId: string,
  points: readonly MountPoint[],
  anonymous: boolean,
): Promise<void> {
  const { volumes, events } = context;
  for (const point of points) {
    if (point.type === 'image') context.images.hold(point.name, containerId)();
    if (point.type !== 'volume') continue;
    volumes.release(point.name, containerId);
    if (!anonymous || !point.anonymous || volumes.users(point.name).length > 0) continue;
    if (volumes.get(point.name) === undefined) continue;
    await volumes.remove(point.name);
    events.emit('volume', 'destroy', point.name, { driver: 'local' });
  }
}

/** As the runtime takes them. */
export function containerMounts(points: readonly MountPoint[]): readonly ContainerMount[] {
  return points.map((point): ContainerMount => {
    const { target, readOnly } = point;
    if (point.type === 'tmpfs') {
      return {
        type: 'tmpfs',
        target,
        readOnly,
        ...(point.sizeBytes === undefined ? {} : { sizeBytes: point.sizeBytes }),
        ...(point.tmpfsMode === undefined ? {} : { mode: point.tmpfsMode }),
        ...(point.executable === true ? { executable: true } : {}),
      };
    }
    if (point.type === 'image') {
      return { type: 'image', target, readOnly, layers: point.layers ?? [] };
    }
    const propagation = point.propagation as ContainerMount['propagation'] | '';
    return {
      type: 'bind',
      source: point.source,
      target,
      readOnly,
      ...(propagation === '' || propagation === undefined ? {} : { propagation }),
      ...(point.nonRecursive === true ? { nonRecursive: true } : {}),
      ...(point.writableBelow === true ? { writableBelow: true } : {}),
      ...(point.subpath === undefined ? {} : { subpath: point.subpath }),
      // Files of volumes have on disk the ids that they have inside, whatever those are mapped to.
      ...(point.type === 'volume' ? { idMapped: true } : {}),
    };
  });
}
