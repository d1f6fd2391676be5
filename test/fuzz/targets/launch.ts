/**
 * Launch specifications, from configurations as they come from outside to what the shim's own
 * decoder finds: the same records in the same order, or a refusal before anything is encoded.
 */
import assert from 'node:assert/strict';
import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Random } from '../../../base/random.ts';
import { type Field, readSpec, SpecWriter, TAG } from '../../../runtime/container/encode.ts';
import { buildExecSpec, buildSpec } from '../../../runtime/container/spec.ts';
import type { ContainerConfig, ExecConfig } from '../../../runtime/container/types.ts';
import { Cgroups } from '../../../runtime/sys/cgroup.ts';
import { TOP } from '../../tidy/sources.ts';
import type { FuzzTarget } from '../target.ts';
import { one } from '../target.ts';

const SHIM = join(TOP, 'test', 'fuzz', 'shim', 'build');
const DECODER = join(TOP, 'dist', 'fuzz', 'driver', 'decode');
const REFUSED = 0xffffffff;
const TAGS = Object.values(TAG);

const CONFIG: ContainerConfig = {
  id: '0'.repeat(64),
  name: 'c',
  labels: {},
  image: { reference: 'web:1', id: `sha256:${'0'.repeat(64)}` },
  layers: ['/l/2', '/l/1'],
  args: ['/bin/sh', '-c', 'true'],
  env: ['A=b', 'PATH=/bin'],
  workingDir: '/',
  user: 'joe:staff',
  hostname: 'h',
  mounts: [
    { type: 'bind', source: '/host', target: '/data', readOnly: true },
    { type: 'tmpfs', target: '/tmp', sizeBytes: 1024 },
  ],
  networkNamespace: 'new',
  resources: { memoryBytes: 64 * 1024 * 1024, nanoCpus: 500_000_000, pids: 10 },
  log: { driver: 'json-file', maxSizeBytes: 1000, maxFiles: 2 },
  sysctls: { 'net.core.somaxconn': '10' },
  capabilityAdd: ['NET_ADMIN'],
  additionalGroups: ['50'],
  resourceLimits: [{ name: 'nofile', soft: 10, hard: 20 }],
  stopSignal: 'SIGINT',
  tty: true,
  terminalSize: [24, 80],
};
const EXEC: ExecConfig = {
  args: ['/bin/x'],
  env: ['C=d', 'A'],
  workingDir: '',
  user: '0',
  tty: false,
  privileged: true,
  stdin: true,
};

/** The decoder, and what it has said that was not taken yet. */
class Decoder {
  readonly #child: ChildProcessWithoutNullStreams;
  #said = Buffer.alloc(0);
  #isOver = false;
  #wake = (): void => {};

  constructor() {
    this.#child = spawn(DECODER, { stdio: ['pipe', 'pipe', 'inherit'] }) as never;
    this.#child.stdout.on('data', (chunk: Buffer) => {
      this.#said = Buffer.concat([this.#said, chunk]);
      this.#wake();
    });
    this.#child.on('exit', () => {
      this.#isOver = true;
      this.#wake();
    });
  }

  async #take(bytes: number): Promise<Buffer> {
    while (this.#said.length < bytes) {
      if (this.#isOver) throw new Error('the decoder has ended');
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const taken = this.#said.subarray(0, bytes);
    this.#said = this.#said.subarray(bytes);
    return taken;
  }

  /** Undefined when it is refused. */
  async records(spec: Uint8Array): Promise<{ tag: number; payload: Buffer }[] | undefined> {
    const head = Buffer.alloc(4);
    head.writeUInt32LE(spec.length);
    this.#child.stdin.write(Buffer.concat([head, spec]));
    const count = (await this.#take(4)).readUInt32LE();
    if (count === REFUSED) return undefined;
    const records: { tag: number; payload: Buffer }[] = [];
    for (let at = 0; at < count; at += 1) {
      const tag = (await this.#take(4)).readUInt32LE();
      const size = (await this.#take(4)).readUInt32LE();
      records.push({ tag, payload: Buffer.from(await this.#take(size)) });
    }
    return records;
  }

  async close(): Promise<void> {
    const ended = once(this.#child, 'exit');
    this.#child.stdin.end();
    await ended;
  }
}

let decoder: Decoder | undefined;
/** Of a host that has none of the groups asked for: what is written is what counts. */
const cgroups = new Cgroups([{ version: 2, path: '/nowhere/cgroup', controllers: [] }], 'fuzz');
const paths = { dataDir: '/nowhere/data', execDir: '/nowhere/exec' };

function randomField(random: Random): Field {
  switch (random.below(4)) {
    case 0:
      return random.below(2 ** 32);
    case 1:
      return BigInt(random.below(2 ** 32)) << BigInt(random.below(32));
    case 2:
      return one(random, ['', 'text', 'ä€😀', 'a\nb', 'x'.repeat(random.below(70_000)), 'a\0b']);
    default:
      return random.bytes(random.below(40));
  }
}

async function mustAgree(spec: Uint8Array): Promise<void> {
  decoder ??= new Decoder();
  const here = readSpec(spec).map(({ tag, payload }) => ({ tag, payload: Buffer.from(payload) }));
  assert.deepEqual(await decoder.records(spec), here);
}

export const target: FuzzTarget = {
  words: ['/', '..', '\\u0000', 'host', 'SIGKILL', 'ALL', 'net.ipv4.', 'kernel.'],
  json: true,
  prepare() {
    execFileSync(SHIM, ['driver', 'decode'], { stdio: ['ignore', 'ignore', 'inherit'] });
  },
  generate: () => Buffer.from(JSON.stringify({ config: CONFIG, exec: EXEC })),
  async run(input, random) {
    // Whatever fields are put in is found again, or is refused.
    const writer = new SpecWriter();
    for (let count = random.below(20); count > 0; count -= 1) {
      const fields = Array.from({ length: random.below(6) }, () => randomField(random));
      try {
        writer.add(one(random, TAGS), ...fields);
      } catch (error) {
        assert.ok(fields.includes('a\0b'), String(error));
        return; // a writer that has thrown is not gone on with
      }
    }
    await mustAgree(writer.finish());
    // Bytes that nobody encoded are refused by both sides, or read alike.
    const wild = Buffer.from(writer.finish());
    if (wild.length > 0) wild[random.below(wild.length)] ^= 1 << random.below(8);
    const told = await decoder?.records(wild);
    if (told !== undefined) await mustAgree(wild);
    const { config, exec } = configsOf(input);
    await mustAgree(buildExecSpec(config, exec));
    await mustAgree(buildSpec(config, paths as never, cgroups).bytes);
  },
  close: () => decoder?.close(),
};

/** Types are as the API's reading has made sure; values are anything. */
function configsOf(input: Uint8Array): { config: ContainerConfig; exec: ExecConfig } {
  let given: unknown;
  try {
    given = JSON.parse(Buffer.from(input).toString());
  } catch {
    given = {};
  }
  const { config, exec } = (given ?? {}) as { config?: unknown; exec?: unknown };
  return {
    config: shapedAs(CONFIG, config) as ContainerConfig,
    exec: shapedAs(EXEC, exec) as ExecConfig,
  };
}

/** One of a few words in the type. */
const CLOSED = ['driver', 'type', 'networkNamespace'];

function shapedAs(model: unknown, given: unknown, name = ''): unknown {
  if (CLOSED.includes(name)) return model;
  if (typeof model === 'number')
    return Number.isSafeInteger(given) ? Math.abs(Number(given)) : model;
  if (Array.isArray(model)) {
    return Array.isArray(given) ? given.map((item) => shapedAs(model[0], item)) : model;
  }
  if (typeof model === 'object' && model !== null) {
    const from = (typeof given === 'object' && given !== null ? given : {}) as Record<
      string,
      unknown
    >;
    return Object.fromEntries(
      Object.entries(model).map(([key, value]) => [key, shapedAs(value, from[key], key)]),
    );
  }
  return typeof given === typeof model ? given : model;
}
