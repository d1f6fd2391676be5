/**
 * What a busy image store does, one thing after another by chance: images are pulled, loaded,
 * imported, made of others, named, removed, pruned. Each step says before it begins which names it
 * may change, and afterwards what these names stand for. Run as a program it does so until it is
 * killed; used in a process, one step at a time.
 */
import fs from 'node:fs';
import path from 'node:path';
import { SystemClock } from '../../base/clock.ts';
import { silentLog } from '../../base/log.ts';
import { SeededRandom } from '../../base/random.ts';
import { openImageStore } from '../../runtime/image/store.ts';
import type { ImageStore } from '../../runtime/image/types.ts';

/** Images in the registry and as files: img0.tar, layer0.tar. */
export const IMAGES = 3;
export const LAYERS = 2;
/** As the store tells names. */
const HERE = 'docker.io/library/';
const SMALL_CHUNK_BYTES = 64 * 1024;

export interface Step {
  readonly name: string;
  /** Names that it may change, whether or not it succeeds. */
  readonly names: readonly string[];
  run(): Promise<unknown>;
}

export interface Done {
  readonly names: readonly string[];
  /** Image ids by place; '' = there is none. */
  readonly ids: readonly string[];
}

export class ImageWork {
  readonly store: ImageStore;
  readonly #files: string;
  readonly #registry: string;
  readonly #random: SeededRandom;

  constructor(store: ImageStore, files: string, registry: string, random: SeededRandom) {
    this.store = store;
    this.#files = files;
    this.#registry = registry;
    this.#random = random;
  }

  /** The next one; only those that bring content in, when `arriving`. */
  next(arriving = false): Step {
    const random = this.#random;
    const at = random.below(IMAGES);
    const part = random.below(LAYERS);
    const arrivals: Step[] = [
      this.#step('pull', [`${this.#registry}/img:${at}`], ([name]) => this.store.pull(name)),
      this.#step('load', [`${HERE}loaded:${at}`], () =>
        this.store.load(this.#file(`img${at}.tar`)),
      ),
      this.#step('import', [`${HERE}imported:${part}`], ([name]) =>
        this.store.import(this.#file(`layer${part}.tar`), name),
      ),
      this.#step('commit', [`${HERE}made:1`], ([name]) =>
        this.store.commit(this.#some(), this.#file(`layer${part}.tar`), name, {
          ...{ author: '', comment: '', createdBy: '', config: {}, changes: [] },
        }),
      ),
    ];
    if (arriving) return arrivals[random.below(arrivals.length)];
    const others: Step[] = [
      this.#step('tag', [`${HERE}tagged:1`], ([name]) => this.store.tag(this.#some(), name)),
      this.#step('prune', [], () => this.store.prune((image) => image.tags.length === 0)),
      ...this.#removals(),
    ];
    const all = [...arrivals, ...others];
    return all[random.below(all.length)];
  }

  #removals(): Step[] {
    const names = this.store.list().flatMap(({ tags }) => tags);
    const removable = names.filter((name) => !name.includes('/kept:'));
    if (removable.length === 0) return [];
    const name = removable[this.#random.below(removable.length)];
    const step = this.#step('remove', [name], () => this.store.remove(name, { force: true }));
    return [step, step, step];
  }

  #step(
    name: string,
    names: readonly string[],
    run: (names: readonly string[]) => Promise<unknown>,
  ): Step {
    return { name, names, run: () => run(names) };
  }

  #some(): string {
    const all = this.store.list();
    return all[this.#random.below(all.length)].id;
  }

  #file(name: string): fs.ReadStream {
    const highWaterMark = SMALL_CHUNK_BYTES;
    return fs.createReadStream(path.join(this.#files, name), { highWaterMark });
  }

  done({ names }: Step): Done {
    return { names, ids: names.map((name) => this.store.find(name)?.id ?? '') };
  }
}

/** Says each step as a line of JSON on standard output, written before it goes on. */
async function work(args: readonly string[]): Promise<void> {
  const [root, files, registry, seed] = args;
  const store = await openImageStore({
    dataRoot: root,
    clock: new SystemClock(),
    log: silentLog,
    registries: { insecureRegistries: [], mirrors: [], certificateDirectories: [] },
  });
  const all = new ImageWork(store, files, registry, new SeededRandom(Number(seed)));
  const say = (line: object): void => {
    fs.writeSync(1, `${JSON.stringify(line)}\n`);
  };
  for (;;) {
    const step = all.next();
    say({ begun: step.names });
    await step.run();
    say({ done: all.done(step) });
  }
}

if (process.argv[2] === 'work') await work(process.argv.slice(3));
