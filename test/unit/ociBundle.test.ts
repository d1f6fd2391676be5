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
const top = mkdtempSync(join(tmpdir(), 'oci-bundle-'));
const [made, dist] = [join(top, 'made'), join(top, 'dist')];
const LOADER = join(dist, 'tsswarm-oci.cjs');
const BUNDLE = join(dist, 'tsswarm-oci.bundle');

after(() => rmSync(top, { recursive: true }));

function put(file: string, text: string): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
}

function run(...args: readonly string[]): string {
  return execFileSync(process.execPath, [LOADER, ...args], { encoding: 'utf8' });
}

put(
  join(made, 'runtime/oci/main.js'),
  `#!/usr/bin/env node
const { join } = require("node:path");
const { where, word } = require("../place.js");
const later = Promise.resolve().then(() => require("./later.js"));
const strange = "\u00e9\ud83d\ude00";
later.then(({ count }) => console.log(process.argv[2], join(word, count()), where, strange));
`,
);
put(
  join(made, 'runtime/oci/later.js'),
  'let calls = 0; exports.count = () => String((calls += 1));\n',
);
put(
  join(made, 'runtime/place.js'),
  'exports.word = "a"; exports.where = new URL("x", import.meta.url).href;\n',
);
mkdirSync(dist);
execFileSync(process.execPath, [MAKER, made, dist]);
const EXPECTED = `said a/1 file://${dist}/runtime/x é😀\n`;

test('its modules find each other, their place and what Node has', () => {
  assert.equal(run('said'), EXPECTED);
});

test('modules that were compiled after it are run instead', () => {
  put(join(dist, 'runtime/oci/main.js'), 'console.log("newer");\n');
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
