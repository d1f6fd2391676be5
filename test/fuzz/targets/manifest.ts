/** Manifests, indexes and configurations of images: read whole or refused, and bounded. */
import assert from 'node:assert/strict';
import {
  choosePlatform,
  hostPlatform,
  MAX_LAYERS,
  OCI_CONFIG,
  OCI_INDEX,
  OCI_LAYER,
  OCI_MANIFEST,
  parseConfig,
  parseManifest,
  parsePlatform,
  writeManifest,
} from '../../../runtime/image/manifest.ts';
import type { FuzzTarget } from '../target.ts';
import { one } from '../target.ts';

const digest = (letter: string): string => `sha256:${letter.repeat(64)}`;
const CONFIG = {
  architecture: 'amd64',
  os: 'linux',
  created: '2025-06-01T00:00:00Z',
  config: {
    Entrypoint: ['/x'],
    Cmd: ['-y'],
    Env: ['A=b'],
    Labels: { a: 'b' },
    ExposedPorts: { '80/tcp': {} },
    Volumes: { '/data': {} },
    Healthcheck: { Test: ['CMD', '/x'], Interval: 1e9, Timeout: 1e9, Retries: 3 },
    StopSignal: 'SIGINT',
  },
  rootfs: { type: 'layers', diff_ids: [digest('a')] },
};
const MANIFEST = {
  schemaVersion: 2,
  mediaType: OCI_MANIFEST,
  config: { mediaType: OCI_CONFIG, digest: digest('b'), size: 100 },
  layers: [{ mediaType: `${OCI_LAYER}+gzip`, digest: digest('c'), size: 1000 }],
};
const INDEX = {
  schemaVersion: 2,
  mediaType: OCI_INDEX,
  manifests: [
    {
      ...{ mediaType: OCI_MANIFEST, digest: digest('d'), size: 500 },
      platform: { os: 'linux', architecture: 'arm64', variant: 'v8' },
      annotations: { a: 'b' },
    },
  ],
};

export const target: FuzzTarget = {
  words: ['sha256:', '"layers"', '"manifests"', 'linux/arm64/v8', digest('0'), OCI_INDEX],
  json: true,
  generate: (random) => Buffer.from(JSON.stringify(one(random, [CONFIG, MANIFEST, INDEX]))),
  run(input) {
    const failures: unknown[] = [];
    const attempt = (work: () => void): void => {
      try {
        work();
      } catch (error) {
        failures.push(error);
      }
    };
    attempt(() => {
      const parsed = parseManifest(input);
      if (parsed.kind === 'index') {
        const chosen = choosePlatform(parsed, hostPlatform());
        assert.ok(parsed.manifests.includes(chosen));
        return;
      }
      assert.ok(parsed.layers.length <= MAX_LAYERS);
      const layers = parsed.layers.map((layer) => ({ ...layer, gzip: true }));
      const again = parseManifest(writeManifest(parsed.config, layers));
      assert.ok(again.kind === 'manifest');
      assert.deepEqual(
        again.layers.map((layer) => [layer.digest, layer.sizeBytes]),
        layers.map((layer) => [layer.digest, layer.sizeBytes]),
      );
    });
    attempt(() => {
      const { config, diffIds } = parseConfig(input);
      assert.ok(diffIds.length <= MAX_LAYERS && Number.isFinite(config.createdAtMs));
      assert.ok([...config.env, ...config.cmd].every((text) => typeof text === 'string'));
    });
    attempt(() => void parsePlatform(Buffer.from(input).toString()));
    const bug = failures.find((error) => !isRefusal(error));
    if (bug !== undefined) throw bug;
  },
};

function isRefusal(error: unknown): boolean {
  return error instanceof Error && error.name === 'SwarmError';
}
