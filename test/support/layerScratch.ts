/**
 * A place to unpack layers that mean ill: beside it lies what is the host's, and of that nothing may
 * have changed afterwards. Needs root, as layers have owners and devices.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hasCode } from '../../base/errors.ts';
import { decompress } from '../../runtime/image/compression.ts';
import { readTar } from '../../runtime/image/tar.ts';
import { type LayerLimits, LayerUnpacker } from '../../runtime/image/unpack.ts';
import { inPieces } from './images.ts';

/** Uneven, so that headers and bodies are cut anywhere. */
const PIECE_BYTES = 700;

/** <top>/canary is the host's; <top>/work/layer is where layers go; top is what nobody leaves. */
export class LayerScratch {
  readonly top = fs.mkdtempSync(join(tmpdir(), 'layer-scratch-'));
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
      // Making and removing the layer changes its parent, which may be a mount, too.
      const own = path === join(this.top, 'work') ? [] : [stat.ino, stat.nlink, stat.mtimeMs];
      const content = stat.isFile() ? fs.readFileSync(path, 'latin1') : '';
      found.push([path, stat.mode & 0o777, stat.uid, stat.gid, ...own, content].join(' '));
      if (stat.isDirectory()) for (const name of fs.readdirSync(path)) walk(join(path, name));
    };
    walk(this.top);
    return found.join('\n');
  }

  /**
   * Unpacks an archive, going on where an entry is refused, which a real layer does not. Throws the
   * first refusal at the end. `look` sees the layer before it is removed again.
   */
  async unpack(
    input: Uint8Array | AsyncIterable<Uint8Array>,
    look: (unpacker: LayerUnpacker) => void = () => {},
    limits?: Partial<LayerLimits>,
  ): Promise<void> {
    fs.mkdirSync(this.layer, { mode: 0o755 });
    const unpacker = new LayerUnpacker(this.layer, limits);
    const source = input instanceof Uint8Array ? inPieces(input, PIECE_BYTES) : input;
    let refusal: unknown;
    try {
      for await (const entry of readTar(decompress(source))) {
        try {
          await unpacker.add(entry);
        } catch (error) {
          if (!hasCode(error, 'invalid')) throw error;
          refusal ??= error;
        }
      }
      unpacker.finish();
      look(unpacker);
      if (refusal !== undefined) throw refusal;
    } finally {
      this.#clear();
      assert.equal(this.#around(), this.#before, 'something outside of the layer changed');
    }
  }

  remove(): void {
    fs.rmSync(this.top, { recursive: true, force: true });
  }

  #clear(): void {
    try {
      fs.rmSync(this.layer, { recursive: true });
    } catch {
      execFileSync('rm', ['-rf', this.layer]); // too deep a path for one call
    }
  }
}
