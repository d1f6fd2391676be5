/**
 * Pull of a 500 MB image of eight layers until a container of it can be made, beside dockerd and
 * beside skopeo with umoci (until the bundle is there): Debian's docker-registry serves the same
 * storage on loopback in each one's network namespace, and they take turns. The longest time that tsswarm's main thread was held up is read from outside, by
 * how late its API answers meanwhile.
 */
import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { SystemClock } from '../../base/clock.ts';
import { SeededRandom } from '../../base/random.ts';
import { writeTar } from '../../runtime/image/tar.ts';
import { freePort } from '../support/freePort.ts';
import { collect } from '../support/images.ts';
import { killed } from '../support/processes.ts';
import { registryCommand, runRegistry, untilListening } from '../support/registry.ts';
import type { Standalone } from '../support/standalone.ts';
import { type BenchDaemon, ownTicks, type Sides, withDaemons } from './daemons.ts';
import { type Figure, figure } from './report.ts';

const RUNS = 5;
const MS_A_TICK = 10;
const PORT = 5000;
const NAME = `127.0.0.1:${PORT}/bench/app`;
const MIB = 1024 * 1024;
/** Together 500 MB, as a distribution, a runtime, libraries, an application and its data. */
const LAYERS_MIB = [120, 100, 80, 70, 50, 40, 25, 15];
/** A pace, so that asking takes nothing from what is measured. */
const ASK_EVERY_MS = 20;
const PEER = { text: 'the peer' };
const UMOCI = '/usr/bin/umoci';
const COPY_AND_UNPACK =
  `skopeo copy -q --src-tls-verify=false docker://${NAME}:1 oci:layout:1 && ` +
  'umoci unpack --image layout:1 bundle';
const clock = new SystemClock();

interface Taken {
  readonly elapsedMs: number;
  readonly processorMs: number;
}

export async function benchmark(): Promise<Figure[]> {
  const work = mkdtempSync(join(tmpdir(), 'bench-pull-'));
  try {
    await fillRegistry(work);
    return await withDaemons((sides) => measure(sides, work));
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

async function measure({ ours, theirs, all }: Sides, work: string): Promise<Figure[]> {
  const command = registryCommand({ directory: work, port: PORT });
  const registries = all.map(({ pid }) =>
    spawn('nsenter', ['-t', String(pid), '-n', ...command], { stdio: 'ignore' }),
  );
  try {
    for (const { pid } of all) await untilListening(PORT, pid);
    const our: Taken[] = [];
    const their: Taken[] = [];
    const tools: number[] = [];
    const late: number[] = [];
    for (let run = 0; run < RUNS; run += 1) {
      const stop = watchLateness(ours.socket, late);
      our.push(await pullOnce(ours));
      await stop();
      if (theirs !== undefined) their.push(await pullOnce(theirs));
      if (existsSync(UMOCI)) tools.push(await copyOnce(ours, join(work, 'copied')));
    }
    return figures(our, their, tools, late);
  } finally {
    for (const child of registries) await killed(child);
  }
}

function figures(
  our: readonly Taken[],
  their: readonly Taken[],
  tools: readonly number[],
  late: readonly number[],
): Figure[] {
  const elapsed = (taken: readonly Taken[]): number[] => taken.map((each) => each.elapsedMs);
  const processor = (taken: readonly Taken[]): number[] => taken.map((each) => each.processorMs);
  const peers = [
    { name: 'dockerd', values: elapsed(their) },
    { name: 'skopeo + umoci', values: tools },
  ]
    .filter(({ values }) => values.length > 0)
    .map(({ name, values }) => ({ name, of: figure(`the same by ${name}`, 'ms', values, PEER) }));
  const words = peers.map(({ name, of }) => `${name} (${Math.round(of.median)} ms)`);
  return [
    figure('pull of 500 MB, 8 layers, from loopback to runnable', 'ms', elapsed(our), {
      text: peers.length === 0 ? 'no peer is here' : `<= ${words.join(', ')}`,
      median: Math.min(...peers.map(({ of }) => of.median)),
    }),
    ...peers.map(({ of }) => of),
    figure('processor time of a pull', 'ms', processor(our), { text: '' }),
    ...(their.length === 0
      ? []
      : [figure('processor time of a pull: dockerd', 'ms', processor(their), { text: '' })]),
    figure('an API answer while pulling', 'ms', late, { text: 'small' }),
  ];
}

/** Copied and unpacked into a bundle, as those do who have no daemon. */
async function copyOnce(ours: Standalone, directory: string): Promise<number> {
  mkdirSync(directory);
  const beganMs = clock.nowMs();
  const { code, stderr } = await ours.inside('sh', '-c', `cd ${directory} && ${COPY_AND_UNPACK}`);
  const elapsedMs = clock.nowMs() - beganMs;
  if (code !== 0) throw new Error(`skopeo and umoci: ${stderr}`);
  rmSync(directory, { recursive: true });
  return elapsedMs;
}

/** Pull, and a container of it made and removed; then the image is removed. */
async function pullOnce(daemon: BenchDaemon): Promise<Taken> {
  const { socket } = daemon;
  const ticks = ownTicks(daemon);
  const beganMs = clock.nowMs();
  const told = await call(socket, 'POST', `/v1.41/images/create?fromImage=${NAME}&tag=1`);
  const made = await call(socket, 'POST', '/v1.41/containers/create', { Image: `${NAME}:1` });
  const elapsedMs = clock.nowMs() - beganMs;
  const processorMs = (ownTicks(daemon) - ticks) * MS_A_TICK;
  if (/"error"/.test(told.body)) throw new Error(`pull: ${told.body.slice(-300)}`);
  if (made.status === 201) {
    const { Id } = JSON.parse(made.body) as { Id: string };
    await call(socket, 'DELETE', `/v1.41/containers/${Id}?force=1`);
  } else if (made.status !== 404 || !made.body.includes('page not found')) {
    throw new Error(`create: ${made.body}`);
  }
  const gone = await call(socket, 'DELETE', `/v1.41/images/${NAME}:1?force=1`);
  if (gone.status !== 200) throw new Error(`remove: ${gone.body}`);
  return { elapsedMs, processorMs };
}

/** Asks for the smallest answer every few milliseconds; notes how long each took. */
function watchLateness(socket: string, late: number[]): () => Promise<void> {
  let over = false;
  const watch = async (): Promise<void> => {
    while (!over) {
      const beganMs = clock.nowMs();
      await call(socket, 'GET', '/_ping');
      late.push(clock.nowMs() - beganMs);
      await clock.sleep(ASK_EVERY_MS);
    }
  };
  const watching = watch();
  return async () => {
    over = true;
    await watching;
  };
}

function call(
  socketPath: string,
  method: string,
  path: string,
  body?: object,
): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const headers = { 'Content-Type': 'application/json' };
    const sent = request({ socketPath, method, path, headers, agent: false }, (answer) => {
      const chunks: Buffer[] = [];
      answer.on('data', (chunk: Buffer) => chunks.push(chunk));
      answer.on('error', reject);
      answer.on('end', () => {
        resolve({ status: answer.statusCode ?? 0, body: Buffer.concat(chunks).toString() });
      });
    });
    sent.on('error', reject);
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** Makes the image and puts it into the registry's storage through a registry of this process. */
async function fillRegistry(work: string): Promise<void> {
  const layout = join(work, 'layout');
  const blobs = join(layout, 'blobs', 'sha256');
  mkdirSync(blobs, { recursive: true });
  const put = (bytes: Uint8Array): { digest: string; size: number } => {
    const hex = createHash('sha256').update(bytes).digest('hex');
    writeFileSync(join(blobs, hex), bytes);
    return { digest: `sha256:${hex}`, size: bytes.byteLength };
  };
  const random = new SeededRandom(1);
  const stock = makeStock(random);
  const diffIds: string[] = [];
  const layers: object[] = [];
  for (const [at, mib] of LAYERS_MIB.entries()) {
    const tar = await collect(writeTar(layerFiles(random, stock, at, mib * MIB)));
    diffIds.push(`sha256:${createHash('sha256').update(tar).digest('hex')}`);
    const mediaType = 'application/vnd.oci.image.layer.v1.tar+gzip';
    layers.push({ mediaType, ...put(gzipSync(tar)) });
  }
  const config = put(
    Buffer.from(
      JSON.stringify({
        architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
        os: 'linux',
        config: { Cmd: ['/app'] },
        rootfs: { type: 'layers', diff_ids: diffIds },
      }),
    ),
  );
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = put(
    Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType,
        config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...config },
        layers,
      }),
    ),
  );
  const annotations = { 'org.opencontainers.image.ref.name': '1' };
  const index = { schemaVersion: 2, manifests: [{ mediaType, ...manifest, annotations }] };
  writeFileSync(join(layout, 'index.json'), JSON.stringify(index));
  writeFileSync(join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  const port = await freePort();
  const registry = runRegistry(registryCommand({ directory: work, port }));
  await untilListening(port);
  const target = `docker://127.0.0.1:${port}/bench/app:1`;
  execFileSync('skopeo', ['copy', '-q', '--dest-tls-verify=false', `oci:${layout}:1`, target]);
  await killed(registry);
  rmSync(layout, { recursive: true });
}

/** Stuff that gzip makes a bit more than half of, as of programs and texts. */
function makeStock(random: SeededRandom): Buffer {
  const words = Array.from({ length: 2000 }, () => random.bytes(4 + random.below(24)));
  const pieces: Uint8Array[] = [];
  for (let bytes = 0; bytes < 24 * MIB; ) {
    const piece = random.below(6) === 0 ? random.bytes(12) : words[random.below(words.length)];
    pieces.push(piece);
    bytes += piece.byteLength;
  }
  return Buffer.concat(pieces);
}

function* layerFiles(random: SeededRandom, stock: Buffer, layer: number, totalBytes: number) {
  let left = totalBytes;
  for (let at = 0; left > 0; at += 1) {
    // Most files are small, most bytes are in large ones.
    const scale = [4 * 1024, 40 * 1024, 40 * 1024, 2 * MIB][random.below(4)];
    const size = Math.min(left, 1 + random.below(scale));
    const from = random.below(stock.byteLength - 2 * MIB);
    if (at % 50 === 0) yield { name: `layer${layer}/d${at / 50}`, type: 'directory' as const };
    const name = `layer${layer}/d${Math.floor(at / 50)}/f${at}`;
    yield { name, body: stock.subarray(from, from + size) };
    left -= size;
  }
}
