/**
 * An image store that is interrupted at random moments of its work, by kill -9 or by a full disk,
 * and what must hold of it afterwards: every name stands for what was last said of it, every image
 * is whole down to the bytes of its files, and nothing else lies about. All chances come from one
 * seed.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { SystemClock } from '../../base/clock.ts';
import { hasCode } from '../../base/errors.ts';
import { SeededRandom } from '../../base/random.ts';
import type { ImageStore } from '../../runtime/image/types.ts';
import { mountRaw } from '../../runtime/sys/libc.ts';
import { unmount } from '../../runtime/sys/mount.ts';
import { freePort } from './freePort.ts';
import {
  buildImage,
  collect,
  dockerArchive,
  file,
  hex,
  openStore,
  scratchDirectory,
  sha256,
  tar,
} from './images.ts';
import { type Done, IMAGES, ImageWork, LAYERS } from './imageWork.ts';
import { registryCommand, runRegistry, untilListening } from './registry.ts';

const KEPT = 'docker.io/library/kept:1';
/** Most steps take some 50 ms. */
const KILL_WITHIN_MS = 700;
const DISK_BYTES = 64 * 1024 * 1024;
const FILL_WITHIN_MS = 60;
const FILL_BYTES = 1024 * 1024;
const clock = new SystemClock();

export interface CrashWorld {
  readonly files: string;
  readonly registry: string;
  /** What a layer's directory holds, by its digest. */
  readonly trees: Map<string, string>;
  readonly seed: number;
}

/** Images as files and in a registry on loopback; all end with the test. */
export async function crashWorld(t: TestContext, seed: number): Promise<CrashWorld> {
  const files = scratchDirectory(t);
  const random = new SeededRandom(seed);
  const noise = (bytes: number): Buffer => Buffer.from(random.bytes(bytes));
  const entries = (name: string, bytes: number) =>
    Array.from({ length: 20 }, (_, at) => ({ name: `${name}/${at}`, body: noise(bytes / 20) }));
  const base = await tar([file('base', 'b'), ...entries('shared', 600_000)]);
  const trees = new Map<string, string>();
  const known = await openStore(t, scratchDirectory(t));
  const registryDirectory = scratchDirectory(t);
  const port = await freePort();
  const command = registryCommand({ directory: registryDirectory, port }).join(' ');
  // It tells of every layer that it is asked for and has not.
  const child = runRegistry(['sh', '-c', `exec ${command} 2> /dev/null`]);
  const ended = once(child, 'exit');
  t.after(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  await untilListening(port);
  const registry = `127.0.0.1:${port}`;
  for (let at = 0; at < IMAGES; at += 1) {
    const own = await tar([file('.wh.base', ''), ...entries(`own${at}`, 1_500_000)]);
    const image = buildImage([base, own], (layer) => gzipSync(layer, { level: 1 }));
    const archive = await dockerArchive(image, [`loaded:${at}`]);
    fs.writeFileSync(path.join(files, `img${at}.tar`), archive);
    await known.load(pieces(archive));
    await known.tag(`loaded:${at}`, `${registry}/img:${at}`);
    await known.push(`${registry}/img:${at}`);
  }
  for (let at = 0; at < LAYERS; at += 1) {
    const layer = await tar(entries(`layer${at}`, 800_000));
    fs.writeFileSync(path.join(files, `layer${at}.tar`), layer);
    await known.import(pieces(layer), `imported:${at}`);
  }
  for (const { id, diffIds } of known.list()) {
    const layers = await known.layers(id);
    diffIds.forEach((diffId, at) => {
      trees.set(diffId, treeOf(layers[at]));
    });
  }
  await known.close();
  return { files, registry, trees, seed };
}

async function* pieces(bytes: Buffer): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** Names, kinds, modes, owners and contents. */
function treeOf(directory: string): string {
  const hash = createHash('sha256');
  const walk = (at: string): void => {
    for (const name of fs.readdirSync(at).sort()) {
      const inner = path.join(at, name);
      const stat = fs.lstatSync(inner);
      hash.update(`${inner.slice(directory.length)} ${stat.mode} ${stat.uid}:${stat.gid}\n`);
      if (stat.isDirectory()) walk(inner);
      else if (stat.isFile()) hash.update(fs.readFileSync(inner));
    }
  };
  walk(directory);
  return hash.digest('hex');
}

/** What was last said of each name; a name that is being changed is not known. */
type Known = Map<string, string>;

async function assertWhole(
  world: CrashWorld,
  store: ImageStore,
  root: string,
  known: Known,
): Promise<void> {
  for (const [name, id] of known) assert.equal(store.find(name)?.id ?? '', id, name);
  for (const image of store.list()) {
    const layers = await store.layers(image.id);
    // One that comes twice is mounted once.
    const shown = image.diffIds.filter((diffId, at, all) => all.lastIndexOf(diffId) === at);
    assert.equal(layers.length, shown.length);
    shown.forEach((diffId, at) => {
      const expected = world.trees.get(diffId);
      assert.ok(expected !== undefined, `layer ${diffId} is none that was ever given`);
      assert.equal(treeOf(layers[at]), expected, `files of ${diffId}`);
    });
    assert.ok((await collect(store.save([image.id]))).length > 0);
  }
  const image = path.join(root, 'image');
  const names = (directory: string): string[] => fs.readdirSync(path.join(image, directory)).sort();
  const unique = (all: string[]): string[] => [...new Set(all)].sort();
  const records = JSON.parse(fs.readFileSync(path.join(image, 'images.json'), 'utf8')) as {
    readonly images: readonly { readonly blobs: string[]; readonly diffIds: string[] }[];
  };
  assert.deepEqual(names('ingest'), []);
  assert.deepEqual(names('layers'), unique(records.images.flatMap((one) => one.diffIds.map(hex))));
  assert.deepEqual(
    names('blobs/sha256'),
    unique(records.images.flatMap((one) => one.blobs.map(hex))),
  );
  for (const name of names('blobs/sha256')) {
    assert.equal(hex(sha256(fs.readFileSync(path.join(image, 'blobs/sha256', name)))), name);
  }
}

async function firstImage(t: TestContext, world: CrashWorld, root: string): Promise<Known> {
  const store = await openStore(t, root);
  await store.load(fs.createReadStream(path.join(world.files, 'img0.tar')));
  await store.tag('loaded:0', KEPT);
  const known: Known = new Map([[KEPT, store.find(KEPT)?.id ?? '']]);
  await store.close();
  return known;
}

/** So many times: a process works on the store, and is killed at any moment. */
export async function killWorkers(
  t: TestContext,
  world: CrashWorld,
  rounds: number,
): Promise<void> {
  const root = path.join(scratchDirectory(t), 'data');
  const known = await firstImage(t, world, root);
  const random = new SeededRandom(world.seed + 1);
  const program = fileURLToPath(new URL('./imageWork.js', import.meta.url));
  for (let round = 0; round < rounds; round += 1) {
    const args = ['work', root, world.files, world.registry, String(random.below(1 << 30))];
    const child = spawn(process.execPath, [program, ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = once(child, 'exit');
    const lines = createInterface({ input: child.stdout });
    const closed = once(lines, 'close');
    lines.on('line', (line) => take(line, known));
    await once(lines, 'line');
    await clock.sleep(random.below(KILL_WITHIN_MS)); // any moment is what is tried
    child.kill('SIGKILL');
    assert.deepEqual(await ended, [null, 'SIGKILL'], 'it was killed at its work');
    await closed;
    const store = await openStore(t, root);
    await assertWhole(world, store, root, known).catch((error: unknown) => {
      throw new Error(`seed ${world.seed}, kill ${round}`, { cause: error });
    });
    await store.close();
  }
}

function take(line: string, known: Known): void {
  const said = JSON.parse(line) as { readonly begun?: readonly string[]; readonly done?: Done };
  for (const name of said.begun ?? []) known.delete(name);
  said.done?.names.forEach((name, at) => {
    known.set(name, said.done?.ids[at] ?? '');
  });
}

/** So many times: the disk fills up while an image arrives, and room is made again. */
export async function fillDisks(t: TestContext, world: CrashWorld, rounds: number): Promise<void> {
  const root = scratchDirectory(t);
  assert.equal(mountRaw('small', root, 'tmpfs', 0, `size=${DISK_BYTES},mode=700`), 0);
  try {
    await fillDisk(t, world, root, rounds);
  } finally {
    unmount(root);
  }
}

async function fillDisk(
  t: TestContext,
  world: CrashWorld,
  root: string,
  rounds: number,
): Promise<void> {
  const known = await firstImage(t, world, root);
  const random = new SeededRandom(world.seed + 2);
  const filler = path.join(root, 'filler');
  let failures = 0;
  for (let round = 0; round < rounds || failures === 0; round += 1) {
    assert.ok(round < 10 * rounds, 'the disk is never full in time');
    const store = await openStore(t, root);
    const all = new ImageWork(store, world.files, world.registry, random);
    const step = all.next(true);
    const running = step.run().then(
      () => undefined,
      (error: unknown) => error,
    );
    await clock.sleep(random.below(FILL_WITHIN_MS)); // any moment is what is tried
    fill(filler);
    const error = await running;
    fs.rmSync(filler);
    if (error !== undefined) {
      assert.ok(hasCode(error, 'exhausted'), `${step.name} on a full disk: ${String(error)}`);
      failures += 1;
    }
    const about = `seed ${world.seed}, full disk ${round}, ${step.name}`;
    const check = async (opened: ImageStore): Promise<void> => {
      await assertWhole(world, opened, root, known).catch((cause: unknown) => {
        throw new Error(about, { cause });
      });
    };
    // What it named was there before, or has arrived; a failure names nothing new.
    for (const name of step.names) known.delete(name);
    await check(store);
    await all.next(true).run();
    for (const { tags } of store.list()) {
      for (const tag of tags) if (!tag.includes('/kept:')) await store.remove(tag, { force: true });
    }
    await store.prune(() => false);
    await store.close();
    const again = await openStore(t, root);
    await check(again);
    await again.close();
  }
}

function fill(filler: string): void {
  const chunk = Buffer.alloc(FILL_BYTES);
  const fd = fs.openSync(filler, 'w');
  try {
    for (let bytes = FILL_BYTES; bytes >= 4096; ) {
      try {
        if (fs.writeSync(fd, chunk, 0, bytes) < bytes) bytes /= 2;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
        bytes /= 2;
      }
    }
  } finally {
    fs.closeSync(fd);
  }
}
