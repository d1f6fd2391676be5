/**
 * Files in memory, for tests that lay out what a crash has left thousands of times. Everything
 * written is there at once and nothing is ever lost: what is lost, the test decides.
 */
import type { Files, GrowingFile, InPlaceFile, ReadFile } from '../../manager/raft/disk/files.ts';

export class MemoryFiles implements Files {
  readonly #files = new Map<string, Buffer>();

  /** The bytes themselves: what changes them changes the file. */
  put(file: string, bytes: Buffer): void {
    this.#files.set(file, bytes);
  }

  clear(): void {
    this.#files.clear();
  }

  /** All of it as it is now. */
  copy(): MemoryFiles {
    const copy = new MemoryFiles();
    for (const [file, bytes] of this.#files) copy.put(file, Buffer.from(bytes));
    return copy;
  }

  /** Called before each change: a moment at which a process may end. */
  onChange: () => void = () => {};

  makeDirectory(_directory: string): void {}

  syncDirectory(_directory: string): void {}

  list(directory: string): string[] {
    const prefix = `${directory}/`;
    const inside = [...this.#files.keys()].filter((file) => file.startsWith(prefix));
    return inside.map((file) => file.slice(prefix.length));
  }

  #get(file: string): Buffer {
    const found = this.#files.get(file);
    if (found === undefined) throw Object.assign(new Error(`no ${file}`), { code: 'ENOENT' });
    return found;
  }

  read(file: string): Buffer {
    return this.#get(file);
  }

  sizeOf(file: string): number | undefined {
    return this.#files.get(file)?.length;
  }

  rename(from: string, to: string): void {
    this.onChange();
    this.#files.set(to, this.#get(from));
    this.#files.delete(from);
  }

  remove(file: string): void {
    this.onChange();
    this.#files.delete(file);
  }

  writeSynced(file: string, bytes: Uint8Array): void {
    this.onChange();
    this.#files.set(file, Buffer.from(bytes));
  }

  openInPlace(file: string): InPlaceFile {
    const bytes = this.#get(file);
    return {
      sizeBytes: bytes.length,
      write: (part, at) => {
        this.onChange();
        bytes.set(part, at);
      },
      syncData: () => {},
      close: () => {},
    };
  }

  async create(file: string): Promise<GrowingFile> {
    this.#files.set(file, Buffer.alloc(0));
    return {
      append: async (parts) => {
        this.onChange();
        this.#files.set(file, Buffer.concat([this.#get(file), ...parts]));
      },
      sync: async () => {},
      close: async () => {},
    };
  }

  async openToRead(file: string): Promise<ReadFile> {
    const bytes = this.#get(file);
    return {
      read: async (at, length) => bytes.subarray(at, at + length),
      close: async () => {},
    };
  }
}
