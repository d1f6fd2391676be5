/** What package.json promises: exact versions, the Node floor, nothing fetched at install. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { VERSION } from '../../base/version.ts';
import { TOP } from './sources.ts';

interface Manifest {
  readonly version: string;
  readonly engines: { readonly node: string };
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
}

function read(file: string): string {
  return readFileSync(join(TOP, file), 'utf8');
}

test('every dependency is pinned to an exact version', () => {
  const manifest = JSON.parse(read('package.json')) as Manifest;
  const loose = Object.entries({ ...manifest.dependencies, ...manifest.devDependencies }).filter(
    ([, version]) => !/^\d+\.\d+\.\d+$/.test(version),
  );
  assert.deepEqual(loose, []);
});

test('the Node floor is 20.19', () => {
  const manifest = JSON.parse(read('package.json')) as Manifest;
  assert.equal(manifest.engines.node, '>=20.19');
});

test('installing runs no script and the lock file names no host', () => {
  assert.match(read('.npmrc'), /^ignore-scripts=true$/m);
  assert.doesNotMatch(read('package-lock.json'), /"resolved"/);
});

test('the version in the code is that of the package', () => {
  assert.equal((JSON.parse(read('package.json')) as Manifest).version, VERSION);
});
