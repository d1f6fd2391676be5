/**
 * Makes one file of the tsswarm-oci command, and what Node starts: `ociBundle CJS DIST`. Commands
 * run once for each step of a container's life, and most of their time went into finding, reading
 * and compiling 60 modules. CJS is the directory with the modules as the compiler makes them for
 * CommonJS. Written:
 *   DIST/tsswarm-oci.bundle   u32 bytes of the source, the source, V8's compiled code of it
 *   DIST/tsswarm-oci.cjs      runs that; or the modules themselves where they are newer
 * Code that another version of Node has compiled is passed over by V8 itself. Source and code are
 * one file, as V8 tells by no more than its length whether code is of a source.
 */
import { readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { Script } from 'node:vm';

const BUNDLE = 'tsswarm-oci.bundle';
const MAIN = 'runtime/oci/main.js';

/** `host` requires what is not in the bundle; `dist` is where the modules' files would be. */
const HEAD = '(function (host, dist) { const modules = {\n';
const TAIL = `};
const loaded = {};
function find(from, name) {
  const parts = from.split('/').slice(0, -1);
  for (const part of name.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '.') parts.push(part);
  }
  return parts.join('/');
}
function load(name) {
  if (loaded[name] !== undefined) return loaded[name].exports;
  const module = { exports: {} };
  loaded[name] = module;
  const require = (wanted) => (wanted.startsWith('.') ? load(find(name, wanted)) : host(wanted));
  modules[name](module.exports, require, module);
  return module.exports;
}
return load;
})`;

/** CommonJS, as Node would otherwise get its other loader ready first. */
const LOADER = `#!/usr/bin/env node
'use strict';
const { readFileSync, statSync } = require('node:fs');
const { join } = require('node:path');
const { Script } = require('node:vm');
function mtime(name) {
  try {
    return statSync(join(__dirname, name)).mtimeMs;
  } catch {
    return 0; // not here
  }
}
if (mtime('.tsbuildinfo') > mtime('${BUNDLE}')) {
  void import('./${MAIN}');
} else {
  const bytes = readFileSync(join(__dirname, '${BUNDLE}'));
  const end = 4 + bytes.readUInt32LE(0);
  const source = bytes.toString('latin1', 4, end);
  const cachedData = bytes.subarray(end);
  const script = new Script(source, { filename: join(__dirname, '${BUNDLE}'), cachedData });
  script.runInThisContext()(require, __dirname)('${MAIN}');
}
`;

function bundle(directory: string): string {
  const names = readdirSync(directory, { recursive: true, encoding: 'utf8' });
  const modules = names
    .filter((name) => name.endsWith('.js'))
    .toSorted()
    .map((name) => {
      const url = `host('node:url').pathToFileURL(dist + '/${name}').href`;
      const text = readFileSync(join(directory, name), 'utf8')
        .replace(/^#!.*\n/, '')
        .replaceAll('import.meta.url', url);
      return `'${name}': function (exports, require, module) {\n${text}\n},\n`;
    });
  return toAscii(HEAD + modules.join('') + TAIL);
}

/** One byte a character: read without decoding. */
function toAscii(source: string): string {
  return source.replace(
    /[^\0-\x7f]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** With every function compiled, not only those that run while it is loaded. */
function compile(source: string): Buffer {
  setFlagsFromString('--no-lazy');
  const script = new Script(source, { filename: BUNDLE });
  setFlagsFromString('--lazy');
  return script.createCachedData();
}

function write(file: string, content: Uint8Array | string): void {
  writeFileSync(`${file}.new`, content);
  renameSync(`${file}.new`, file);
}

const [directory, dist] = process.argv.slice(2);
const source = bundle(directory);
const size = Buffer.alloc(4);
size.writeUInt32LE(source.length, 0);
write(join(dist, BUNDLE), Buffer.concat([size, Buffer.from(source, 'latin1'), compile(source)]));
write(join(dist, 'tsswarm-oci.cjs'), LOADER);
