/**
 * A copy of what the simulation and the replays need, in a directory of its own, compiled there:
 * bugs are planted in it and never in the tree. What does not compile is an error: a bug that the
 * compiler finds proves nothing.
 */
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Mutant, planted } from './mutant.ts';

/** Of the tree; this file is two folders below dist/. */
export const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const REPLAY_ROOM = 'test/raft/interaction';
const TEST_ROOMS = ['test/sim', 'test/support', 'test/mutants', REPLAY_ROOM];
const COPIED = ['base', 'model', 'proto', 'manager', ...TEST_ROOMS];
const REPLAYS = ['conversations', 'tables'].map((name) => `${REPLAY_ROOM}/${name}.test.ts`);

export class Workshop {
  readonly directory: string;
  /** Of the files with a bug in them: as they were. */
  readonly #sound = new Map<string, Buffer>();

  constructor() {
    this.directory = fs.mkdtempSync(path.join(tmpdir(), 'tsswarm-mutants-'));
    for (const name of COPIED) {
      fs.cpSync(path.join(ROOT, name), path.join(this.directory, name), { recursive: true });
    }
    fs.symlinkSync(path.join(ROOT, 'node_modules'), path.join(this.directory, 'node_modules'));
    this.#write('package.json', JSON.stringify({ type: 'module' }));
    const compilerOptions = { rootDir: '.', outDir: 'dist', tsBuildInfoFile: 'dist/.tsbuildinfo' };
    const files = ['test/mutants/child.ts', ...REPLAYS];
    const extended = path.join(ROOT, 'tsconfig.json');
    const project = { extends: extended, compilerOptions, include: ['test/sim'], files };
    this.#write('tsconfig.json', JSON.stringify(project));
    this.#compile();
    const generated = path.join(this.directory, 'dist/proto/gen');
    fs.cpSync(path.join(ROOT, 'proto/gen'), generated, { recursive: true });
  }

  #write(file: string, content: string | Buffer): void {
    fs.writeFileSync(path.join(this.directory, file), content);
  }

  #compile(): void {
    const compiler = path.join(ROOT, 'node_modules/.bin/tsc');
    execFileSync(compiler, ['-p', this.directory], { encoding: 'utf8' });
  }

  /** A compiled file of the copy. */
  compiled(file: string): string {
    return path.join(this.directory, 'dist', file.replace(/\.ts$/, '.js'));
  }

  get replays(): string[] {
    return REPLAYS.map((file) => this.compiled(file));
  }

  /** Throws where its text is not found, or what comes of it does not compile. */
  plant(mutant: Mutant): void {
    for (const [file, text] of planted(this.directory, mutant)) {
      this.#sound.set(file, fs.readFileSync(path.join(this.directory, file)));
      this.#write(file, text);
    }
    try {
      this.#compile();
    } catch (error) {
      const said = (error as { stdout?: string }).stdout ?? String(error);
      throw new Error(`mutant ${mutant.name} does not compile: ${said}`);
    }
  }

  /** As it was copied; compiled with the next bug. */
  mend(): void {
    for (const [file, bytes] of this.#sound) this.#write(file, bytes);
    this.#sound.clear();
  }

  remove(): void {
    fs.rmSync(this.directory, { recursive: true, force: true });
  }
}
