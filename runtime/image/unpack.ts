/**
 * Writes one layer's tar entries into a directory, as an overlayfs lower directory: whiteouts
 * become character devices 0:0, opaque marks the trusted.overlay.opaque attribute, owners, modes
 * (after the owner, which clears set-id bits), attributes and times as archived. Runs in the worker
 * thread with synchronous calls. Nothing is ever written outside the directory: every name is
 * walked component by component, symbolic links on the way are resolved as if the directory were
 * the root, and the last component is never followed. Only this code writes there, so what was
 * checked stays true.
 */
import fs from 'node:fs';
import { messageOf, SwarmError } from '../../base/errors.ts';
import { check, define } from '../sys/libc.ts';
import { diskError } from './disk.ts';
import type { TarEntry, TarHeader } from './tar.ts';

/** What one layer may take of this process; more would be an attack. */
export interface LayerLimits {
  /** The largest distribution images have some 300,000. */
  readonly entries: number;
  /** Of the names of all its directories, which are remembered: well within the thread's memory. */
  readonly directoryNameBytes: number;
}

const LIMITS: LayerLimits = { entries: 4_000_000, directoryNameBytes: 64 * 1024 * 1024 };
const MAX_SYMLINKS = 40; // as Linux's own MAXSYMLINKS
const MAX_PATH_BYTES = 4096;
const WHITEOUT = '.wh.';
const WHITEOUT_META = '.wh..wh.';
const OPAQUE = '.wh..wh..opq';
const OVERLAY_OPAQUE = 'trusted.overlay.opaque';

const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW, S_IFCHR, S_IFBLK, S_IFIFO } = fs.constants;

const mknod = define<(path: string, mode: number, device: number) => number>(
  '',
  'int mknod(const char *path, unsigned int mode, unsigned long device)',
);
const lsetxattr = define<
  (path: string, name: string, value: Uint8Array, size: number, flags: number) => number
>('', 'int lsetxattr(const char *path, const char *name, void *value, size_t size, int flags)');

/** glibc's makedev. */
function deviceNumber(major: number, minor: number): number {
  const high = BigInt(major & 0xfffff000) * 2n ** 32n + BigInt(minor >>> 8) * 2n ** 20n;
  return Number(high + BigInt(major & 0xfff) * 256n + BigInt(minor & 0xff));
}

/** 'a//b/../c/.' -> ['a', 'c']; a leading '/' means the layer's root. */
export function cleanName(name: string): string[] {
  if (name.includes('\0')) throw new SwarmError('invalid', 'a name with a zero byte in a layer');
  const parts: string[] = [];
  for (const part of name.split('/')) {
    if (part === '' || part === '.') continue;
    if (part !== '..') {
      parts.push(part);
    } else if (parts.pop() === undefined) {
      throw new SwarmError('invalid', `layer entry "${name}" points outside the layer: refused`);
    }
  }
  return parts;
}

export class LayerUnpacker {
  readonly #root: string;
  /** Relative paths known to be real directories, with no symbolic link on the way. */
  readonly #known = new Set<string>(['']);
  readonly #directoryTimes = new Map<string, number>();
  readonly #limits: LayerLimits;
  #entries = 0;
  #directoryNameBytes = 0;
  #sizeBytes = 0;
  #newestMs = 0;
  #opaqueRoot = false;

  /** `root`: an empty directory that nobody else writes into. */
  constructor(root: string, limits: Partial<LayerLimits> = {}) {
    this.#root = root;
    this.#limits = { ...LIMITS, ...limits };
  }

  /** Bytes of all regular files. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  get newestMs(): number {
    return this.#newestMs;
  }

  /** Whether the layer hides everything below it. */
  get opaqueRoot(): boolean {
    return this.#opaqueRoot;
  }

  /** Writes one entry. SwarmError invalid for what no layer may hold, exhausted on a full disk. */
  async add(entry: TarEntry): Promise<void> {
    const { header } = entry;
    this.#entries += 1;
    const { entries } = this.#limits;
    if (this.#entries > entries) {
      throw new SwarmError('exhausted', `a layer of more than ${entries} entries: refused`);
    }
    try {
      await this.#place(entry);
    } catch (error) {
      const told = diskError(error, this.#root);
      // What the kernel refused of an entry, like damaged attributes, is the layer's fault.
      if (told instanceof SwarmError && told.code !== 'internal') throw told;
      throw new SwarmError(
        'invalid',
        `cannot unpack layer entry "${header.name}": ${messageOf(error)}`,
        { cause: error },
      );
    }
  }

  /** Gives directories their times, which writing into them has changed. Once, at the end. */
  finish(): void {
    const still = new Map<string, boolean>([['', true]]);
    for (const [path, mtimeMs] of this.#directoryTimes) {
      if (!this.#isStillThere(path, still)) continue;
      fs.lutimesSync(this.#absolute(path), mtimeMs / 1000, mtimeMs / 1000);
    }
  }

  /** Whether it and all above it are directories: a link may have taken the place of any. */
  #isStillThere(path: string, still: Map<string, boolean>): boolean {
    const known = still.get(path);
    if (known !== undefined) return known;
    const parent = path.slice(0, Math.max(0, path.lastIndexOf('/')));
    const isDirectory =
      this.#isStillThere(parent, still) &&
      fs.lstatSync(this.#absolute(path), { throwIfNoEntry: false })?.isDirectory() === true;
    still.set(path, isDirectory);
    return isDirectory;
  }

  async #place(entry: TarEntry): Promise<void> {
    const { header } = entry;
    const parts = cleanName(header.name);
    const base = parts.pop();
    if (base === undefined) {
      if (header.type !== 'directory') {
        throw new SwarmError('invalid', `layer entry "${header.name}" would replace the root`);
      }
      this.#adorn('', header);
      return;
    }
    // aufs kept its own books under such names; they are nobody's files.
    if ([...parts, base].some((part) => part.startsWith(WHITEOUT_META) && part !== OPAQUE)) return;
    if (base.startsWith(WHITEOUT)) {
      this.#hide(parts, base, header.name);
      return;
    }
    const parent = this.#directory(parts, header.name);
    const path = parent === '' ? base : `${parent}/${base}`;
    const hidden = this.#clear(path, header.type === 'directory');
    this.#newestMs = Math.max(this.#newestMs, header.mtimeMs);
    switch (header.type) {
      case 'directory':
        if (!this.#known.has(path)) fs.mkdirSync(this.#absolute(path), 0o755);
        this.#remember(path);
        if (hidden) this.#setOpaque(path);
        this.#adorn(path, header);
        return;
      case 'file':
        await this.#writeFile(path, entry);
        return;
      case 'link':
        fs.linkSync(this.#linkTarget(header), this.#absolute(path));
        return;
      case 'symlink':
        fs.symlinkSync(header.linkName, this.#absolute(path));
        this.#adorn(path, header);
        return;
      default:
        this.#makeNode(path, header);
        this.#adorn(path, header);
    }
  }

  /** Removes what an earlier entry left at `path`; true when that was a whiteout. */
  #clear(path: string, keepDirectory: boolean): boolean {
    const real = this.#absolute(path);
    const there = fs.lstatSync(real, { throwIfNoEntry: false });
    if (there === undefined) return false;
    if (there.isDirectory()) {
      if (keepDirectory) {
        this.#remember(path);
        return false;
      }
      fs.rmSync(real, { recursive: true });
      this.#known.clear();
      this.#known.add('');
      // What stands at their names by the end is another's: a link may lead out of the layer.
      for (const gone of this.#directoryTimes.keys()) {
        if (gone === path || gone.startsWith(`${path}/`)) this.#directoryTimes.delete(gone);
      }
      return false;
    }
    fs.unlinkSync(real);
    return isWhiteout(there);
  }

  #hide(parts: readonly string[], base: string, name: string): void {
    if (base === OPAQUE) {
      const directory = this.#directory(parts, name);
      if (directory === '') this.#opaqueRoot = true;
      else this.#setOpaque(directory);
      return;
    }
    const hidden = base.slice(WHITEOUT.length);
    if (hidden === '' || hidden === '.' || hidden === '..') {
      throw new SwarmError('invalid', `layer entry "${name}" is a whiteout of nothing: refused`);
    }
    const parent = this.#directory(parts, name);
    const path = parent === '' ? hidden : `${parent}/${hidden}`;
    const there = fs.lstatSync(this.#absolute(path), { throwIfNoEntry: false });
    // A whiteout hides lower layers only: what this layer has stays, and merges with nothing.
    if (there === undefined) this.#mknod(path, S_IFCHR, 0);
    else if (there.isDirectory()) this.#setOpaque(path);
  }

  async #writeFile(path: string, entry: TarEntry): Promise<void> {
    const { header } = entry;
    const fd = fs.openSync(this.#absolute(path), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    try {
      for await (const chunk of entry.body) {
        for (let at = 0; at < chunk.byteLength; ) {
          at += fs.writeSync(fd, chunk, at, chunk.byteLength - at);
        }
        this.#sizeBytes += chunk.byteLength;
      }
      fs.fchownSync(fd, header.uid, header.gid);
      fs.fchmodSync(fd, header.mode);
      this.#setXattrs(path, header);
      fs.futimesSync(fd, header.mtimeMs / 1000, header.mtimeMs / 1000);
    } finally {
      fs.closeSync(fd);
    }
  }

  #makeNode(path: string, header: TarHeader): void {
    const kinds = { 'character-device': S_IFCHR, 'block-device': S_IFBLK, fifo: S_IFIFO };
    const kind = kinds[header.type as keyof typeof kinds];
    const device =
      header.type === 'fifo' ? 0 : deviceNumber(header.deviceMajor, header.deviceMinor);
    this.#mknod(path, kind, device);
  }

  #mknod(path: string, kind: number, device: number): void {
    check(mknod(this.#absolute(path), kind | 0o600, device), `mknod ${path}`);
  }

  /** Owner, mode, attributes and time of what was just made at `path`. */
  #adorn(path: string, header: TarHeader): void {
    const real = this.#absolute(path);
    fs.lchownSync(real, header.uid, header.gid);
    if (header.type !== 'symlink') fs.chmodSync(real, header.mode);
    this.#setXattrs(path, header);
    if (header.type === 'directory') this.#directoryTimes.set(path, header.mtimeMs);
    else fs.lutimesSync(real, header.mtimeMs / 1000, header.mtimeMs / 1000);
  }

  /**
   * Sets what containers may rely on: file capabilities, access lists, user attributes. Overlay's
   * own (a layer could redirect with them) and other trusted or security ones are left out.
   */
  #setXattrs(path: string, header: TarHeader): void {
    for (const [name, value] of header.xattrs) {
      const wanted =
        name === 'security.capability' ||
        name.startsWith('system.posix_acl_') ||
        (name.startsWith('user.') && !name.startsWith('user.overlay.'));
      if (!wanted) continue;
      if (header.type === 'symlink' && !name.startsWith('security.')) continue; // not kept by Linux
      try {
        this.#setXattr(path, name, value);
      } catch (error) {
        // A file system without this kind of attribute: the container would miss it there anyway.
        if (!(error instanceof SwarmError && error.detail['errno'] === 'EOPNOTSUPP')) throw error;
      }
    }
  }

  #setOpaque(path: string): void {
    this.#setXattr(path, OVERLAY_OPAQUE, Buffer.from('y'));
  }

  #setXattr(path: string, name: string, value: Uint8Array): void {
    const result = lsetxattr(this.#absolute(path), name, value, value.byteLength, 0);
    check(result, `set ${name} on ${path}`);
  }

  #linkTarget(header: TarHeader): string {
    const parts = cleanName(header.linkName);
    const base = parts.pop();
    const parent = base === undefined ? undefined : this.#find(parts, header.linkName, false);
    const path = parent === undefined ? undefined : parent === '' ? base : `${parent}/${base}`;
    const there =
      path === undefined
        ? undefined
        : fs.lstatSync(this.#absolute(path), { throwIfNoEntry: false });
    if (path === undefined || there === undefined || isWhiteout(there)) {
      throw new SwarmError(
        'invalid',
        `layer entry "${header.name}" links to "${header.linkName}", which the layer does not have`,
      );
    }
    if (there.isDirectory()) {
      throw new SwarmError(
        'invalid',
        `layer entry "${header.name}" links to the directory "${header.linkName}": refused`,
      );
    }
    return this.#absolute(path);
  }

  #directory(parts: readonly string[], name: string): string {
    const found = this.#find(parts, name, true);
    if (found === undefined) throw new SwarmError('internal', `no directory for "${name}"`);
    return found;
  }

  /** The real directory `parts` lead to, relative to the root; made where missing if `create`. */
  #find(parts: readonly string[], name: string, create: boolean): string | undefined {
    const direct = parts.join('/');
    if (this.#known.has(direct)) return direct;
    let at: string[] = [];
    const ahead = [...parts].reverse();
    let links = 0;
    for (let part = ahead.pop(); part !== undefined; part = ahead.pop()) {
      if (part === '' || part === '.') continue;
      if (part === '..') {
        at.pop();
        continue;
      }
      const path = [...at, part].join('/');
      if (Buffer.byteLength(path) > MAX_PATH_BYTES) {
        throw new SwarmError('invalid', `layer entry "${name}" lies too deep: refused`);
      }
      if (!this.#known.has(path)) {
        const target = this.#enter(path, name, create);
        if (target === undefined) return undefined;
        if (target !== '') {
          links += 1;
          if (links > MAX_SYMLINKS) {
            throw new SwarmError('invalid', `layer entry "${name}" runs in a circle of links`);
          }
          if (target.startsWith('/')) at = [];
          ahead.push(...target.split('/').reverse());
          continue;
        }
      }
      at.push(part);
    }
    return at.join('/');
  }

  /** '' when `path` is (now) a directory, a symbolic link's target, or undefined if not there. */
  #enter(path: string, name: string, create: boolean): string | undefined {
    const real = this.#absolute(path);
    const there = fs.lstatSync(real, { throwIfNoEntry: false });
    if (there?.isSymbolicLink() === true) return fs.readlinkSync(real);
    if (there?.isDirectory() !== true) {
      const hidden = there !== undefined && isWhiteout(there);
      if (there !== undefined && !hidden) {
        throw new SwarmError(
          'invalid',
          `layer entry "${name}" lies beneath "${path}", which is no directory`,
        );
      }
      if (!create) return undefined;
      if (hidden) fs.unlinkSync(real);
      fs.mkdirSync(real, 0o755);
      if (hidden) this.#setOpaque(path);
    }
    this.#remember(path);
    return '';
  }

  #remember(path: string): void {
    if (this.#known.has(path)) return;
    this.#known.add(path);
    // Counted once more where it was forgotten meanwhile: its time is still kept.
    this.#directoryNameBytes += path.length;
    const { directoryNameBytes } = this.#limits;
    if (this.#directoryNameBytes <= directoryNameBytes) return;
    throw new SwarmError(
      'exhausted',
      `a layer whose directories have more than ${directoryNameBytes} bytes of names: refused`,
    );
  }

  #absolute(path: string): string {
    return path === '' ? this.#root : `${this.#root}/${path}`;
  }
}

function isWhiteout(stat: fs.Stats): boolean {
  return stat.isCharacterDevice() && stat.rdev === 0;
}
