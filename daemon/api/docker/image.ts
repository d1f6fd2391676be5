/** Images as Docker's JSON. Names are short ('web:1', not docker.io/library/web:1). */
import { familiarReference } from '../../../runtime/image/reference.ts';
import type { Distribution, Image, LayerUse } from '../../../runtime/image/types.ts';
import { isRecord } from '../fields.ts';
import { STORAGE_DRIVER, timeOf } from './common.ts';

type Json = Readonly<Record<string, unknown>>;

/** `sharedBytes` and `containers` are -1 where they were not asked for. */
export function imageSummary(image: Image, containers: number, sharedBytes = -1): object {
  return {
    Id: image.id,
    ParentId: '',
    RepoTags: image.tags.map(familiarReference),
    RepoDigests: image.digests.map(familiarReference),
    Created: Math.floor(image.config.createdAtMs / 1000),
    Size: image.sizeBytes,
    SharedSize: sharedBytes,
    Labels: image.config.labels,
    Containers: containers,
  };
}

/** `configuration`: as the image's maker wrote it; its fields are shown as they stand. */
export function imageToDocker(
  image: Image,
  configuration: Json,
  layerPaths: readonly string[],
): object {
  const text = (name: string): string => {
    const value = configuration[name];
    return typeof value === 'string' ? value : '';
  };
  const variant = text('variant');
  return {
    Id: image.id,
    RepoTags: image.tags.map(familiarReference),
    RepoDigests: image.digests.map(familiarReference),
    Parent: '',
    Comment: lastComment(configuration),
    Created: text('created') || timeOf(image.config.createdAtMs),
    DockerVersion: text('docker_version'),
    Author: text('author'),
    Config: shownConfig(configuration['config']),
    Architecture: image.config.architecture,
    ...(variant === '' ? {} : { Variant: variant }),
    Os: image.config.os,
    ...(text('os.version') === '' ? {} : { OsVersion: text('os.version') }),
    Size: image.sizeBytes,
    GraphDriver: {
      Name: STORAGE_DRIVER,
      Data:
        layerPaths.length === 0
          ? null
          : {
              LowerDir: layerPaths.slice(0, -1).toReversed().join(':'),
              UpperDir: layerPaths.at(-1),
            },
    },
    RootFS: { Type: 'layers', Layers: image.diffIds },
    Metadata: { LastTagTime: timeOf(image.taggedAtMs) },
  };
}

/** Without what is empty, as Docker leaves it out. */
function shownConfig(config: unknown): object {
  if (!isRecord(config)) return {};
  const isSaid = (value: unknown): boolean =>
    !(
      value === null ||
      value === undefined ||
      value === '' ||
      value === false ||
      (Array.isArray(value) && value.length === 0) ||
      (isRecord(value) && Object.keys(value).length === 0)
    );
  return Object.fromEntries(Object.entries(config).filter(([, value]) => isSaid(value)));
}

interface HistoryEntry {
  readonly createdAtMs: number;
  readonly createdBy: string;
  readonly comment: string;
  readonly isEmpty: boolean;
}

function historyOf(configuration: Json): HistoryEntry[] {
  const list = configuration['history'];
  if (!Array.isArray(list)) return [];
  return list.filter(isRecord).map((item) => {
    const text = (name: string): string =>
      typeof item[name] === 'string' ? (item[name] as string) : '';
    const createdAtMs = Date.parse(text('created'));
    return {
      createdAtMs: Number.isFinite(createdAtMs) ? createdAtMs : 0,
      createdBy: text('created_by'),
      comment: text('comment'),
      isEmpty: item['empty_layer'] === true,
    };
  });
}

function lastComment(configuration: Json): string {
  return historyOf(configuration).at(-1)?.comment ?? '';
}

/** Newest first. Layers that no entry tells of (made by old tools) come without words. */
export function imageHistory(
  image: Image,
  configuration: Json,
  layers: readonly LayerUse[],
): object[] {
  const entries = historyOf(configuration);
  const told = entries.filter((entry) => !entry.isEmpty).length;
  for (let more = told; more < layers.length; more += 1) {
    const { createdAtMs } = image.config;
    entries.unshift({ createdAtMs, createdBy: '', comment: '', isEmpty: false });
  }
  let layer = 0;
  const sized = entries.map((entry) => {
    const sizeBytes = entry.isEmpty ? 0 : (layers[layer]?.sizeBytes ?? 0);
    if (!entry.isEmpty) layer += 1;
    return { ...entry, sizeBytes };
  });
  return sized.toReversed().map((entry, at) => ({
    Id: at === 0 ? image.id : '<missing>',
    Created: Math.floor(entry.createdAtMs / 1000),
    CreatedBy: entry.createdBy,
    Tags: at === 0 ? image.tags.map(familiarReference) : null,
    Size: entry.sizeBytes,
    Comment: entry.comment,
  }));
}

/** The answer of /distribution/<name>/json. */
export function distributionToDocker(found: Distribution): object {
  return {
    Descriptor: { mediaType: found.mediaType, digest: found.digest, size: found.sizeBytes },
    Platforms: found.platforms.map(({ os, architecture, variant }) => ({
      architecture,
      os,
      ...(variant === undefined ? {} : { variant }),
    })),
  };
}
