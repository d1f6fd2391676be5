/**
 * The one file that the tsswarm-oci command is made of: modules find each other and what is
 * outside, newer modules are run instead of it, what V8 cannot use of it is compiled again.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const MAKER = fileURLToPath(new URL('../../deploy/ociBundle.js', import.meta.url));
const dist = mkdtempSync(join(tmpdir(), 'oci-bundle-'));
const LOADER = join(dist, 'tsswarm-oci.cjs');
const BUNDLE = join(dist, 'tsswarm-oci.bundle');

after(() => rmSync(dist, { recursive: true }));

function put(file: string, text: string): void {
  mkdirSync(dirname(join(dist, file)), { recursive: true });
  writeFileSync(join(dist, file), text);
}

function run(...args: readonly string[]): string {
  return execFileSync(process.execPath, [LOADER, ...args], { encoding: 'utf8' });
}

put('package.json', '{ "type": "module" }');
put(
  'runtime/oci/main.js',
  `#!/usr/bin/env node
import { join } from 'node:path';
import { where, word } from '../place.js';
const strange = "\u00e9\ud83d\ude00";
void import('./later.js').then(({ count }) => {
  console.log(process.argv[2], join(word, count()), where, strange);
});
`,
);
put('runtime/oci/later.js', 'let calls = 0; export const count = () => String((calls += 1));\n');
put(
  'runtime/place.js',
  'export const word = "a"; export const where = new URL("x", import.meta.url).href;\n',
);
execFileSync(process.execPath, [MAKER, dist]);
rmSync(join(dist, 'runtime'), { recursive: true });
const EXPECTED = `said a/1 file://${dist}/runtime/x é😀\n`;

test('its modules find each other, their place and what Node has', () => {
  assert.equal(run('said'), EXPECTED);
});

test('modules that were compiled after it are run instead', () => {
  put('runtime/oci/main.js', 'console.log("newer");\n');
  const file = join(dist, '.tsbuildinfo');
  writeFileSync(file, '');
  const { mtimeMs } = statSync(BUNDLE);
  utimesSync(file, mtimeMs / 1000 + 1, mtimeMs / 1000 + 1);
  assert.equal(run(), 'newer\n');
  utimesSync(file, mtimeMs / 1000 - 1, mtimeMs / 1000 - 1);
  assert.equal(run('said'), EXPECTED);
});

test('compiled code that V8 refuses costs time and nothing else', () => {
  const bytes = readFileSync(BUNDLE);
  bytes.fill(0xff, 4 + bytes.readUInt32LE(0));
  writeFileSync(BUNDLE, bytes);
  assert.equal(run('said'), EXPECTED);
});
