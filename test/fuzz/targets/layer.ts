/**
 * Layers as anybody may make them: every entry of the archive lies in the layer's directory or is
 * refused, and of what is around that directory nothing changes, nor does anything appear.
 */
import { gzipSync } from 'node:zlib';
import type { Random } from '../../../base/random.ts';
import { type TarInput, type TarType, writeTar } from '../../../runtime/image/tar.ts';
import { collect } from '../../support/images.ts';
import { LayerScratch } from '../../support/layerScratch.ts';
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

let scratch: LayerScratch | undefined;

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
    scratch ??= new LayerScratch();
    const { top } = scratch;
    const entries = Array.from({ length: 1 + random.below(12) }, () => entry(random, top));
    const archive = await collect(writeTar(entries));
    for (let turns = random.below(4); turns > 0; turns -= 1) changeHeader(archive, random);
    return random.below(8) === 0 ? gzipSync(archive) : archive;
  },
  run(input) {
    scratch ??= new LayerScratch();
    return scratch.unpack(input);
  },
  close: () => scratch?.remove(),
};
