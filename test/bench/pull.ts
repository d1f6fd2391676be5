/**
 * Pull of a 500 MB image until a container of it can be made, beside dockerd: Debian's
 * docker-registry serves the same storage on loopback in each daemon's network namespace, and the
 * two take turns. The longest time that tsswarm's main thread was held up is read from outside, by
 * how late its API answers meanwhile.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { SystemClock } from '../../base/clock.ts';
import { SeededRandom } from '../../base/random.ts';
import { writeTar } from '../../runtime/image/tar.ts';
import { hasDockerd, startDockerds } from '../support/dockerd.ts';
import { freePort } from '../support/freePort.ts';
import { collect } from '../support/images.ts';
import { killed } from '../support/processes.ts';
import { registryCommand, runRegistry, untilListening } from '../support/registry.ts';
import { startStandalone } from '../support/standalone.ts';
import { type Figure, figure } from './report.ts';

const RUNS = 5;
const PORT = 5000;
const NAME = `127.0.0.1:${PORT}/bench/app`;
const MIB = 1024 * 1024;
/** Together 500 MB, as a distribution, a runtime, libraries, an application and its data. */
const LAYERS_MIB = [150, 120, 110, 70, 50];
/** A pace, so that asking takes nothing from what is measured. */
const ASK_EVERY_MS = 20;
const clock = new SystemClock();

export async function benchmark(): Promise<Figure[]> {
  const work = mkdtempSync(join(tmpdir(), 'bench-pull-'));
  const registries: ChildProcess[] = [];
  try {
    await fillRegistry(work);
    const ours = await startStandalone();
    const theirs = hasDockerd() ? await startDockerds(1) : undefined;
    try {
      const command = registryCommand({ directory: work, port: PORT });
      const pids = [ours.pid, ...(theirs?.hosts.map((host) => host.pid) ?? [])];
      for (const pid of pids) {
        registries.push(spawn('nsenter', ['-t', String(pid), '-n', ...command]));
      }
      for (const pid of pids) await untilListening(PORT, pid);
      const sockets = [ours.socket, ...(theirs?.hosts.map((host) => host.socket) ?? [])];
      const taken: number[][] = sockets.map(() => []);
      const late: number[] = [];
      for (let run = 0; run < RUNS; run += 1) {
        for (const [at, socket] of sockets.entries()) {
          const stop = watchLateness(socket, at === 0 ? late : []);
          taken[at].push(await pullOnce(socket));
          await stop();
        }
      }
      return figures(taken, late);
    } finally {
      for (const child of registries) await killed(child);
      await theirs?.stop();
      await ours.stop();
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function figures(taken: readonly number[][], late: readonly number[]): Figure[] {
  const [ours, theirs] = taken;
  const peer = theirs === undefined ? undefined : figure('', 'ms', theirs, { text: '' }).median;
  const words = peer === undefined ? 'dockerd is not here' : `<= dockerd (${Math.round(peer)} ms)`;
  return [
    figure('pull of 500 MB from loopback to runnable', 'ms', ours, {
      text: words,
      ...(peer === undefined ? {} : { median: peer }),
    }),
    ...(theirs === undefined
      ? []
      : [figure('the same by dockerd 20.10', 'ms', theirs, { text: 'the peer' })]),
    figure('an API answer while pulling', 'ms', late, { text: 'small' }),
  ];
}

/** Pull, and a container of it made and removed; then the image is removed. */
async function pullOnce(socket: string): Promise<number> {
  const beganMs = clock.nowMs();
  const told = await call(socket, 'POST', `/v1.41/images/create?fromImage=${NAME}&tag=1`);
  const made = await call(socket, 'POST', '/v1.41/containers/create', { Image: `${NAME}:1` });
  const elapsedMs = clock.nowMs() - beganMs;
  if (/"error"/.test(told.body)) throw new Error(`pull: ${told.body.slice(-300)}`);
  if (made.status === 201) {
    const { Id } = JSON.parse(made.body) as { Id: string };
    await call(socket, 'DELETE', `/v1.41/containers/${Id}?force=1`);
  } else if (made.status !== 404 || !made.body.includes('page not found')) {
    throw new Error(`create: ${made.body}`);
  }
  const gone = await call(socket, 'DELETE', `/v1.41/images/${NAME}:1?force=1`);
  if (gone.status !== 200) throw new Error(`remove: ${gone.body}`);
  return elapsedMs;
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
