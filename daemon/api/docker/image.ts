/** Images as Docker's JSON. Names are short ('web:1', not docker.io/library/web:1). */
import type { Image } from '../../../runtime/image/types.ts';
import { timeOf } from './common.ts';

const HUB = 'docker.io/';
const OFFICIAL = 'docker.io/library/';

/** 'docker.io/library/web:1' -> 'web:1'. */
export function familiar(reference: string): string {
  if (reference.startsWith(OFFICIAL)) return reference.slice(OFFICIAL.length);
  return reference.startsWith(HUB) ? reference.slice(HUB.length) : reference;
}

export function imageSummary(image: Image, containers: number): object {
  return {
    Id: image.id,
    ParentId: '',
    RepoTags: image.tags.map(familiar),
    RepoDigests: image.digests.map(familiar),
    Created: Math.floor(image.config.createdAtMs / 1000),
    Size: image.sizeBytes,
    SharedSize: -1,
    Labels: image.config.labels,
    Containers: containers,
  };
}

export function imageToDocker(image: Image): object {
  const { config } = image;
  return {
    Id: image.id,
    RepoTags: image.tags.map(familiar),
    RepoDigests: image.digests.map(familiar),
    Parent: '',
    Comment: '',
    Created: timeOf(config.createdAtMs),
    DockerVersion: '',
    Author: '',
    Config: {
      User: config.user,
      ExposedPorts: asSet(config.exposedPorts),
      Env: config.env,
      Cmd: config.cmd,
      Volumes: asSet(config.volumes),
      WorkingDir: config.workingDir,
      Entrypoint: config.entrypoint,
      Labels: config.labels,
      ...(config.stopSignal === '' ? {} : { StopSignal: config.stopSignal }),
    },
    Architecture: config.architecture,
    Os: config.os,
    Size: image.sizeBytes,
    GraphDriver: { Name: 'overlay', Data: {} },
    RootFS: { Type: 'layers', Layers: image.diffIds },
    Metadata: { LastTagTime: timeOf(0) },
  };
}

function asSet(names: readonly string[]): Record<string, object> | null {
  return names.length === 0 ? null : Object.fromEntries(names.map((name) => [name, {}]));
}

/** One entry: the store keeps no record of how layers were made. */
export function imageHistory(image: Image): object[] {
  return [
    {
      Id: image.id,
      Created: Math.floor(image.config.createdAtMs / 1000),
      CreatedBy: `${image.diffIds.length} layers`,
      Tags: image.tags.map(familiar),
      Size: image.sizeBytes,
      Comment: '',
    },
  ];
}

/**
 * The answer of /distribution/<name>/json from an image that is here: the digest a service pins.
 * undefined when the image has none. The size is of no use to clients that pin; Docker wants a
 * number.
 */
export function distribution(image: Image): object | undefined {
  const [reference] = image.digests;
  if (reference === undefined) return undefined;
  return {
    Descriptor: {
      mediaType: 'application/vnd.docker.distribution.manifest.v2+json',
      digest: reference.slice(reference.indexOf('@') + 1),
      size: image.sizeBytes,
    },
    Platforms:
      image.config.architecture === ''
        ? []
        : [{ architecture: image.config.architecture, os: image.config.os || 'linux' }],
  };
}
