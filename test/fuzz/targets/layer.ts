/**
 * Layers as anybody may make them: every entry of the archive lies in the layer's directory or is
 * refused, and of what is around that directory nothing changes, nor does anything appear.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { hasCode } from '../../../base/errors.ts';
import type { Random } from '../../../base/random.ts';
import { decompress } from '../../../runtime/image/compression.ts';
import { readTar, type TarInput, type TarType, writeTar } from '../../../runtime/image/tar.ts';
import { LayerUnpacker } from '../../../runtime/image/unpack.ts';
import { collect, inPieces } from '../../support/images.ts';
import type { FuzzTarget } from '../target.ts';
import { one } from '../target.ts';

const TYPES: readonly TarType[] = [
  ...(['file', 'file', 'directory', 'directory', 'symlink', 'symlink', 'link'] as const),
  ...(['character-device', 'block-device', 'fifo'] as const),
];
const PARTS = [
  ...['a', 'b', 'c', 'd', '..', '.', '', 'canary', '.wh.a', '.wh.b', '.wh..wh..opq', '.wh..'],
  ...['.wh...', '.wh.', '.wh..wh.plnk', 'ä', ' ', '\n', '*', 'x'.repeat(250), '-rf', 'layer'],
];
const XATTRS = [
  ...['security.capability', 'trusted.overlay.opaque', 'trusted.overlay.redirect', 'user.x'],
  ...['user.overlay.opaque', 'system.posix_acl_access', 'security.selinux', 'bad', 'user.'],
];

/** <top>/canary is the host's; <top>/work/layer is where layers go; top is what nobody leaves. */
class Scratch {
  readonly top = fs.mkdtempSync(join(tmpdir(), 'fuzz-layer-'));
  readonly layer = join(this.top, 'work', 'layer');
  readonly canary = join(this.top, 'canary');
  readonly #before: string;

  constructor() {
    fs.mkdirSync(join(this.canary, 'directory'), { recursive: true });
    fs.writeFileSync(join(this.canary, 'a'), "the host's");
    fs.writeFileSync(join(this.canary, 'directory', 'a'), "the host's too");
    fs.symlinkSync('a', join(this.canary, 'b'));
    fs.mkdirSync(join(this.top, 'work'));
    this.#before = this.#around();
  }

  /** Names, kinds, owners, modes, links, times and content of all but the layer. */
  #around(): string {
    const found: string[] = [];
    const walk = (path: string): void => {
      if (path === this.layer) return;
      const stat = fs.lstatSync(path);
      // Making and removing the layer changes its parent's own times and links.
      const own = path === join(this.top, 'work') ? '' : `${stat.nlink} ${stat.mtimeMs}`;
      const content = stat.isFile() ? fs.readFileSync(path, 'latin1') : '';
      found.push(`${path} ${stat.mode} ${stat.uid}:${stat.gid} ${stat.ino} ${own} ${content}`);
      if (stat.isDirectory()) for (const name of fs.readdirSync(path)) walk(join(path, name));
    };
    walk(this.top);
    return found.join('\n');
  }

  async unpack(input: Uint8Array): Promise<void> {
    fs.mkdirSync(this.layer, { mode: 0o755 });
    const unpacker = new LayerUnpacker(this.layer);
    let refusal: unknown;
    try {
      for await (const entry of readTar(decompress(inPieces(input, 700)))) {
        try {
          await unpacker.add(entry);
        } catch (error) {
          // A real layer ends here. Going on shows more.
          if (!hasCode(error, 'invalid')) throw error;
          refusal = error;
        }
      }
      unpacker.finish();
      if (refusal !== undefined) throw refusal;
    } finally {
      this.#clear();
      assert.equal(this.#around(), this.#before, 'something outside of the layer changed');
    }
  }

  #clear(): void {
    try {
      fs.rmSync(this.layer, { recursive: true });
    } catch {
      execFileSync('rm', ['-rf', this.layer]); // too deep a path for one call
    }
  }
}

let scratch: Scratch | undefined;

function pathOf(random: Random, top: string): string {
  const parts = Array.from({ length: 1 + random.below(4) }, () => one(random, PARTS)).join('/');
  const starts = ['', '', '', '', './', '/', '../../', '../', `${top}/`, '/proc/self/cwd/'];
  const up = random.below(12) === 0 ? `${'../'.repeat(20)}${top}/canary/` : '';
  return `${one(random, starts)}${up}${parts}`;
}

function entry(random: Random, top: string): TarInput {
  const type = one(random, TYPES);
  const xattrs = new Map<string, Uint8Array>();
  while (random.below(6) === 0) xattrs.set(one(random, XATTRS), random.bytes(random.below(30)));
  const body = type === 'file' ? random.bytes(random.below(40)) : undefined;
  return {
    name: pathOf(random, top),
    type,
    mode: random.below(0o10000),
    uid: random.below(4) === 0 ? random.below(2 ** 21) : 0,
    gid: random.below(4) === 0 ? random.below(2 ** 21) : 0,
    mtimeMs: random.below(2 ** 31) * 1000,
    linkName: type === 'symlink' || type === 'link' ? pathOf(random, top) : '',
    deviceMajor: random.below(3) === 0 ? random.below(4096) : 0,
    deviceMinor: random.below(3) === 0 ? random.below(4096) : 0,
    xattrs,
    ...(body === undefined ? {} : { body }),
  };
}

/** A header's checksum, made right again where fields were changed. */
function changeHeader(archive: Buffer, random: Random): void {
  const at = random.below(Math.max(1, archive.length / 512)) * 512;
  if (at + 512 > archive.length) return;
  const fields = [0, 100, 108, 116, 124, 136, 156, 157, 257, 329, 337, 345];
  const where = at + one(random, fields) + random.below(8);
  const values = [0x80, 0xff, 0, 0x20, 0x2d, 0x2f, 0x37, 0x78, 0x67, 0x4c, random.below(256)];
  archive[where] = one(random, values);
  archive.fill(' ', at + 148, at + 156);
  const sum = archive.subarray(at, at + 512).reduce((total, byte) => total + byte, 0);
  archive.write(`${sum.toString(8).padStart(6, '0')}\0 `, at + 148, 'latin1');
}

export const target: FuzzTarget = {
  words: ['../', '.wh.', '\0', 'ustar\x0000', '12 path=../x\n', '30 mtime=1e9\n', 'SCHILY.xattr.'],
  async generate(random) {
    scratch ??= new Scratch();
    const { top } = scratch;
    const entries = Array.from({ length: 1 + random.below(12) }, () => entry(random, top));
    const archive = await collect(writeTar(entries));
    for (let turns = random.below(4); turns > 0; turns -= 1) changeHeader(archive, random);
    return random.below(8) === 0 ? gzipSync(archive) : archive;
  },
  run(input) {
    scratch ??= new Scratch();
    return scratch.unpack(input);
  },
  close() {
    if (scratch !== undefined) fs.rmSync(scratch.top, { recursive: true, force: true });
  },
};
