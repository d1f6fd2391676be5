/**
 * A simulated disk with a page cache: files of 512-byte sectors, of which the unsynced ones are
 * known with what they held before, and directories of which the unsynced operations are known in
 * order. Power loss keeps a random part of either; a process's end keeps all. It can be slow, full,
 * fail a sync, lose power within one, or (a planted fault) lie about them.
 */
import { Buffer } from 'node:buffer';
import * as path from 'node:path';
import type { Files, GrowingFile, InPlaceFile, ReadFile } from '../../manager/raft/disk/files.ts';
import { DeadProcess, type SimProcess } from './process.ts';
import type { Dice } from './schedule.ts';

const SECTOR_BYTES = 512;

class DiskError extends Error {
  readonly code: string;

  constructor(code: string, what: string) {
    super(`${code}: ${what} (simulated)`);
    this.code = code;
  }
}

/** A file's content, whatever its name. */
class Inode {
  bytes = Buffer.alloc(0);
  durableSize = 0;
  /** Sectors written since the last sync, with what is durable of them. */
  readonly unsynced = new Map<number, Buffer>();
  /** Of those that a failed sync dropped: read back until the power goes, synced no more. */
  readonly dropped = new Map<number, Buffer>();

  write(bytes: Uint8Array, at: number): void {
    const end = at + bytes.length;
    for (let sector = Math.floor(at / SECTOR_BYTES); sector * SECTOR_BYTES < end; sector += 1) {
      if (this.unsynced.has(sector)) continue;
      const from = sector * SECTOR_BYTES;
      const dropped = this.dropped.get(sector);
      if (dropped !== undefined) {
        this.dropped.delete(sector);
        this.unsynced.set(sector, dropped);
        continue;
      }
      this.unsynced.set(sector, Buffer.from(this.bytes.subarray(from, from + SECTOR_BYTES)));
    }
    if (end > this.bytes.length) this.bytes = Buffer.concat([this.bytes], end);
    this.bytes.set(bytes, at);
  }

  synced(): void {
    this.unsynced.clear();
    this.durableSize = this.bytes.length;
  }

  /** As Linux does it: what could not be written is taken for written from then on. */
  failSync(dice: Dice): void {
    for (const [sector, before] of this.unsynced) {
      if (dice.chance(0.5)) this.dropped.set(sector, before);
    }
    this.synced();
  }

  /** Of what was not synced each sector is there or is not. */
  losePower(dice: Dice): void {
    for (const [sector, before] of this.dropped) this.#restore(sector, before);
    this.dropped.clear();
    if (this.unsynced.size === 0 && this.durableSize === this.bytes.length) return;
    // All, none or each by itself: the extremes are as likely as what lies between.
    const keep = [0, 1, dice.float()][dice.below(3)];
    let size = this.durableSize;
    for (const [sector, before] of this.unsynced) {
      const from = sector * SECTOR_BYTES;
      if (dice.chance(keep)) {
        size = Math.max(size, Math.min(from + SECTOR_BYTES, this.bytes.length));
      } else {
        this.#restore(sector, before);
      }
    }
    this.bytes = Buffer.from(this.bytes.subarray(0, size));
    this.synced();
  }

  #restore(sector: number, before: Buffer): void {
    const from = sector * SECTOR_BYTES;
    this.bytes.fill(0, from, Math.min(from + SECTOR_BYTES, this.bytes.length));
    this.bytes.set(before, from);
  }
}

interface Operation {
  readonly removes: string | undefined;
  readonly sets: readonly [string, Inode] | undefined;
}

class Directory {
  names = new Map<string, Inode>();
  durable = new Map<string, Inode>();
  unsynced: Operation[] = [];

  do(operation: Operation): void {
    perform(this.names, operation);
    this.unsynced.push(operation);
  }

  synced(): void {
    for (const operation of this.unsynced) perform(this.durable, operation);
    this.unsynced = [];
  }

  /** A journalling file system keeps operations in their order: a first part of them is there. */
  losePower(dice: Dice): void {
    const kept = dice.whole(0, this.unsynced.length);
    for (const operation of this.unsynced.slice(0, kept)) perform(this.durable, operation);
    this.unsynced = [];
    this.names = new Map(this.durable);
    for (const inode of this.names.values()) inode.losePower(dice);
  }
}

function perform(names: Map<string, Inode>, { removes, sets }: Operation): void {
  if (removes !== undefined) names.delete(removes);
  if (sets !== undefined) names.set(sets[0], sets[1]);
}

/** What can be set to go wrong, and does from then on. */
export interface DiskFaults {
  /** Of a synchronous write or sync, and of each asynchronous operation. */
  delayMs: () => number;
  /** Chance that a sync fails; the process has to end then. */
  syncErrorRate: number;
  /** Chance that the power goes, or the process ends, within a sync. */
  deathRate: number;
  /** Bytes that can still be allocated. */
  roomBytes: number;
  /** Planted: syncs do nothing and say that they did. */
  lies: boolean;
}

export class SimDisk {
  readonly faults: DiskFaults;
  /** Called when either is to happen within a sync: the machine's owner brings it down. */
  onDeath: (isPowerLoss: boolean) => void = () => {};
  readonly #dice: Dice;
  readonly #directories = new Map<string, Directory>();

  constructor(dice: Dice) {
    this.#dice = dice;
    this.faults = {
      delayMs: () => 0,
      syncErrorRate: 0,
      deathRate: 0,
      roomBytes: Number.POSITIVE_INFINITY,
      lies: false,
    };
  }

  losePower(): void {
    for (const directory of this.#directories.values()) directory.losePower(this.#dice);
  }

  /** What in `directory` would not be sure to survive a loss of power, of names that match. */
  unsynced(directory: string, pattern: RegExp): string[] {
    const found = this.#directories.get(directory);
    if (found === undefined) return [];
    const names = [...found.names].filter(([name, inode]) => {
      if (!pattern.test(name)) return false;
      return inode.unsynced.size + inode.dropped.size > 0 || found.durable.get(name) !== inode;
    });
    return names.map(([name]) => name);
  }

  /** One byte, or a sector, of a file that matches is another from now on; its path. */
  damage(pattern: RegExp): string | undefined {
    const dice = this.#dice;
    const found: [string, Buffer, number[]][] = [];
    for (const [directory, { names }] of this.#directories) {
      for (const [name, { bytes }] of names) {
        if (!pattern.test(name)) continue;
        // What was never written to is none of anybody's.
        const used = [...bytes.keys()].filter((at) => bytes[at] !== 0);
        if (used.length > 0) found.push([path.join(directory, name), bytes, used]);
      }
    }
    const [file, bytes, used] = dice.pick(found) ?? [undefined, Buffer.alloc(0), []];
    const first = dice.pick(used) ?? 0;
    const count = dice.chance(0.7) ? 1 : SECTOR_BYTES - (first % SECTOR_BYTES);
    for (let at = first; at < Math.min(first + count, bytes.length); at += 1) {
      // Never zero: a sector of those is what a write leaves that broke off.
      bytes[at] = 1 + ((bytes[at] + dice.below(254)) % 255);
    }
    return file;
  }

  /** Nothing is left of directories that match, as nothing was ever there. */
  empty(matches: (directory: string) => boolean): void {
    for (const at of this.#directories.keys()) if (matches(at)) this.#directories.delete(at);
  }

  /** The file system as one process has it. */
  filesFor(process: SimProcess): Files {
    return new SimFiles(this, process, this.#dice);
  }

  directory(of: string): Directory {
    let found = this.#directories.get(of);
    if (found === undefined) {
      found = new Directory();
      this.#directories.set(of, found);
    }
    return found;
  }

  sync(process: SimProcess, what: string, apply: () => void, fail: () => void): void {
    process.requireAlive();
    const { syncErrorRate, deathRate, lies } = this.faults;
    if (deathRate > 0 && this.#dice.chance(deathRate)) {
      this.onDeath(this.#dice.chance(0.5));
      throw new DeadProcess('it ended within a sync');
    }
    if (syncErrorRate > 0 && this.#dice.chance(syncErrorRate)) {
      fail();
      throw new DiskError('EIO', what);
    }
    if (!lies) apply();
  }

  allocate(bytes: number, what: string): void {
    if (bytes > this.faults.roomBytes) throw new DiskError('ENOSPC', what);
    this.faults.roomBytes -= bytes;
  }
}

class SimFiles implements Files {
  readonly #disk: SimDisk;
  readonly #process: SimProcess;
  readonly #dice: Dice;

  constructor(disk: SimDisk, process: SimProcess, dice: Dice) {
    this.#disk = disk;
    this.#process = process;
    this.#dice = dice;
  }

  #directory(of: string): Directory {
    this.#process.requireAlive();
    return this.#disk.directory(of);
  }

  #find(file: string): Inode | undefined {
    return this.#directory(path.dirname(file)).names.get(path.basename(file));
  }

  #mustFind(file: string): Inode {
    const inode = this.#find(file);
    if (inode === undefined) throw new DiskError('ENOENT', file);
    return inode;
  }

  makeDirectory(directory: string): void {
    this.#directory(directory);
  }

  /** In no order that anybody may count on. */
  list(directory: string): string[] {
    const names = [...this.#directory(directory).names.keys()];
    for (let at = names.length - 1; at > 0; at -= 1) {
      const other = this.#dice.below(at + 1);
      [names[at], names[other]] = [names[other], names[at]];
    }
    return names;
  }

  syncDirectory(directory: string): void {
    // One that fails is tried again by its file system, or nothing is written there any more.
    this.#disk.sync(
      this.#process,
      directory,
      () => this.#directory(directory).synced(),
      () => {},
    );
  }

  read(file: string): Buffer {
    return Buffer.from(this.#mustFind(file).bytes);
  }

  sizeOf(file: string): number | undefined {
    return this.#find(file)?.bytes.length;
  }

  rename(from: string, to: string): void {
    const sets = [path.basename(to), this.#mustFind(from)] as const;
    this.#directory(path.dirname(to)).do({ removes: path.basename(from), sets });
  }

  remove(file: string): void {
    const inode = this.#find(file);
    if (inode === undefined) return;
    const operation = { removes: path.basename(file), sets: undefined };
    this.#directory(path.dirname(file)).do(operation);
    this.#disk.faults.roomBytes += inode.bytes.length;
  }

  #create(file: string): Inode {
    const old = this.#find(file);
    if (old !== undefined) this.#disk.faults.roomBytes += old.bytes.length;
    const inode = new Inode();
    const sets = [path.basename(file), inode] as const;
    this.#directory(path.dirname(file)).do({ removes: undefined, sets });
    return inode;
  }

  writeSynced(file: string, bytes: Uint8Array): void {
    const inode = this.#create(file);
    this.#disk.allocate(bytes.length, file);
    inode.write(bytes, 0);
    this.#sync(file, inode);
  }

  #sync(file: string, inode: Inode): void {
    this.#disk.sync(
      this.#process,
      file,
      () => inode.synced(),
      () => inode.failSync(this.#dice),
    );
  }

  openInPlace(file: string): InPlaceFile {
    const inode = this.#mustFind(file);
    return {
      sizeBytes: inode.bytes.length,
      write: (bytes, at) => {
        this.#process.requireAlive();
        inode.write(bytes, at);
      },
      syncData: () => this.#sync(file, inode),
      close: () => {},
    };
  }

  async create(file: string): Promise<GrowingFile> {
    await this.#delay();
    const inode = this.#create(file);
    return {
      append: async (parts) => {
        await this.#delay();
        for (const part of parts) {
          this.#disk.allocate(part.length, file);
          inode.write(part, inode.bytes.length);
        }
      },
      sync: async () => {
        await this.#delay();
        this.#sync(file, inode);
      },
      close: () => this.#delay(),
    };
  }

  async openToRead(file: string): Promise<ReadFile> {
    await this.#delay();
    const inode = this.#mustFind(file);
    return {
      read: async (at, length) => {
        await this.#delay();
        return Buffer.from(inode.bytes.subarray(at, at + length));
      },
      close: () => this.#delay(),
    };
  }

  #delay(): Promise<void> {
    return this.#process.wait(this.#disk.faults.delayMs());
  }
}
