/**
 * Makes one file of the tsswarm-oci command, and what Node starts: `ociBundle DIST`, the directory
 * with the compiled modules. Commands run once for each step of a container's life, and most of
 * their time went into finding, reading and compiling 60 modules. Written:
 *   DIST/tsswarm-oci.bundle   u32 bytes of the source, the source, V8's compiled code of it
 *   DIST/tsswarm-oci.cjs      runs that; or the modules themselves where they are newer
 * Code that another version of Node has compiled is passed over by V8 itself. Source and code are
 * one file, as V8 tells by no more than its length whether code is of a source.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { Script } from 'node:vm';
import { build, type Plugin } from 'esbuild';

const BUNDLE = 'tsswarm-oci.bundle';
const MAIN = 'runtime/oci/main.js';

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
  script.runInThisContext()(require, __dirname);
}
`;

/** Modules find the files beside them as if they were where they were: `dist` is the loader's. */
function placesKept(dist: string): Plugin {
  return {
    name: 'places-kept',
    setup: ({ onLoad }) => {
      onLoad({ filter: /\.js$/ }, ({ path }) => {
        const url = `require('node:url').pathToFileURL(dist + '/${relative(dist, path)}').href`;
        return { contents: readFileSync(path, 'utf8').replaceAll('import.meta.url', url) };
      });
    },
  };
}

/** In ASCII: one byte a character, read without decoding. */
async function bundle(dist: string): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [join(dist, MAIN)],
    bundle: true,
    write: false,
    format: 'cjs',
    platform: 'node',
    packages: 'external',
    charset: 'ascii',
    banner: { js: '(function (require, dist) {' },
    footer: { js: '})' },
    plugins: [placesKept(dist)],
    logLevel: 'warning',
  });
  return outputFiles[0].text;
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

const dist = resolve(process.argv[2]);
const source = await bundle(dist);
const size = Buffer.alloc(4);
size.writeUInt32LE(source.length, 0);
write(join(dist, BUNDLE), Buffer.concat([size, Buffer.from(source, 'latin1'), compile(source)]));
write(join(dist, 'tsswarm-oci.cjs'), LOADER);
