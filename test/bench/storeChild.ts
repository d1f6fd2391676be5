/**
 * One figure of the store's benchmark in a process of its own, so that heaps and pauses are of
 * nothing else: `storeChild heap | pause ROUNDS | save DIR | open DIR | flat SECONDS`. Prints JSON.
 */
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { MIB } from '../../base/bytes.ts';
import { SystemClock } from '../../base/clock.ts';
import { silentLog } from '../../base/log.ts';
import { SystemRandom } from '../../base/random.ts';
import { EMPTY_CONF_STATE } from '../../manager/raft/core/types.ts';
import { DiskStore } from '../../manager/raft/disk/disk.ts';
import { encodeAddresses, MemberTable } from '../../manager/raft/memberTable.ts';
import { RaftNode } from '../../manager/raft/node.ts';
import type { RaftNodeOptions, RaftTransport } from '../../manager/raft/types.ts';
import { Replica } from '../../manager/replica.ts';
import type { Task } from '../../model/types.ts';
import { service } from '../support/objects.ts';
import { Filled, TASKS } from './storeFill.ts';

const clock = new SystemClock();
const random = new SystemRandom();
/** As in production, files are sealed. */
const SEAL_KEY = new Uint8Array(32).fill(7);
const MEMBER = { id: 1, address: '10.0.0.1:2377' };

const collect = (globalThis as { gc?: () => void }).gc ?? (() => {});

function heapMb(): number {
  collect();
  collect();
  return process.memoryUsage().heapUsed / 1e6;
}

function fatal(error: unknown): void {
  throw error;
}

function heap(): object {
  const before = heapMb();
  const filled = new Filled();
  const after = heapMb();
  return { tasks: filled.store.count('task'), heapMb: after - before };
}

// ---- pauses ------------------------------------------------------------------------------------

const ROUND_MS = 15_000;
const WRITE_EVERY_MS = 5;

interface Pause {
  readonly ms: number;
  /**
   * Processor time of all threads meanwhile: an upper bound that a busy machine does not stretch.
   */
  readonly cpuMs: number;
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** The longest time that the loop did not turn, while tasks are updated as in a busy cluster. */
async function longestPause(
  filled: Filled,
  ids: readonly string[],
  until: () => boolean,
): Promise<Pause> {
  let longest: Pause = { ms: 0, cpuMs: 0 };
  let lastMs = clock.nowMs();
  let lastCpuMs = cpuMs();
  for (let at = 0; !until(); at += 1) {
    const before = filled.store.get('task', ids[(at * 7919) % ids.length]) as Task;
    const status = { ...before.status, pid: before.status.pid + 1 };
    filled.apply([{ kind: 'update', table: 'task', object: { ...before, status } }]);
    await clock.sleep(at % WRITE_EVERY_MS === 0 ? 1 : 0);
    const nowMs = clock.nowMs();
    const spentMs = cpuMs();
    longest = {
      ms: Math.max(longest.ms, nowMs - lastMs),
      cpuMs: Math.max(longest.cpuMs, spentMs - lastCpuMs),
    };
    lastMs = nowMs;
    lastCpuMs = spentMs;
  }
  return longest;
}

async function pause(rounds: number): Promise<object> {
  const filled = new Filled();
  const ids = Array.from(filled.store.all('task'), ({ id }) => id);
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'tsswarm-bench-store-'));
  const replica = new Replica({ clock, store: filled.store });
  const disk = await DiskStore.open({ ...parts(directory) });
  const [control, snapshot, tookMs]: [Pause[], Pause[], number[]] = [[], [], []];
  try {
    await longestPause(filled, ids, elapsed(ROUND_MS / 3));
    for (let round = 0; round < rounds; round += 1) {
      collect();
      control.push(await longestPause(filled, ids, elapsed(ROUND_MS)));
      collect();
      const startedMs = clock.nowMs();
      let done = false;
      const { index, chunks } = replica.takeSnapshot();
      const meta = { index, term: 1, confState: EMPTY_CONF_STATE, data: new Uint8Array(0) };
      const written = disk.writeSnapshot(meta, chunks, true).then(() => {
        done = true;
      });
      snapshot.push(await longestPause(filled, ids, () => done));
      await written;
      tookMs.push(clock.nowMs() - startedMs);
    }
  } finally {
    await disk.close();
    fs.rmSync(directory, { recursive: true, force: true });
  }
  return { control, snapshot, tookMs };
}

function elapsed(ms: number): () => boolean {
  const endMs = clock.nowMs() + ms;
  return () => clock.nowMs() >= endMs;
}

function parts(directory: string) {
  const seal = { key: SEAL_KEY, random };
  return { directory, nodeId: MEMBER.id, clock, log: silentLog, onFatal: fatal, seal };
}

// ---- restart -----------------------------------------------------------------------------------

/** A member's files with a snapshot of about 1 GB: tasks with the environment of a real service. */
async function save(directory: string): Promise<object> {
  const env = Array.from({ length: 16 }, (_, at) => `SETTING_NUMBER_${at}=${'value-'.repeat(4)}`);
  const filled = new Filled(TASKS, env);
  const replica = new Replica({ clock, store: filled.store });
  const table = new MemberTable();
  const confState = { ...EMPTY_CONF_STATE, voters: [MEMBER.id] };
  const context = encodeAddresses([MEMBER]);
  const change = { type: 'addVoter', id: MEMBER.id } as const;
  table.applied({ transition: 'auto', changes: [change], context }, confState);
  const disk = await DiskStore.open(parts(directory));
  const { index, chunks } = replica.takeSnapshot();
  const meta = { index, term: 1, confState, data: table.encode() };
  const startedMs = clock.nowMs();
  await disk.writeSnapshot(meta, chunks, true);
  const tookMs = clock.nowMs() - startedMs;
  const hardState = { term: 1, vote: 0, commit: index };
  await new Promise<void>((done) => {
    disk.append({ entries: [], hardState, snapshot: meta, installs: true, sync: true, done });
  });
  await disk.close();
  const snap = path.join(directory, 'snap');
  const [file] = fs.readdirSync(snap);
  return { bytes: fs.statSync(path.join(snap, file)).size, tookMs, hash: filled.store.hash() };
}

const NOBODY: RaftTransport = {
  flush: () => {},
  announce: () => {},
  start: () => {},
  send: () => {},
  sendSnapshot: () => Promise.resolve(),
  setPeers: () => {},
  stop: () => Promise.resolve(),
};

async function member(
  directory: string,
  replica: Replica,
  bootstrap?: RaftNodeOptions['bootstrap'],
): Promise<RaftNode> {
  const raft = await RaftNode.open({
    id: MEMBER.id,
    dir: directory,
    clock,
    random,
    log: silentLog,
    transport: NOBODY,
    stateMachine: replica,
    sealKey: SEAL_KEY,
    onFatal: fatal,
    ...(bootstrap === undefined ? {} : { bootstrap }),
  });
  replica.attach(raft);
  return raft;
}

/** From the start of the process until the member leads and answers. */
async function open(directory: string): Promise<object> {
  const replica = new Replica({ clock });
  const cpu = process.cpuUsage();
  const raft = await member(directory, replica);
  await replica.barrier();
  const tookMs = clock.nowMs();
  const { user, system } = process.cpuUsage(cpu);
  const tasks = replica.store.count('task');
  const hash = replica.store.hash();
  await raft.stop({ transfer: false });
  return { tookMs, cpuMs: (user + system) / 1000, tasks, hash };
}

// ---- a long write run --------------------------------------------------------------------------

const SERVICES = 200;
const CLIENTS = 32;
const SAMPLES = 20;

/** Services written again and again through Raft on disk; heap and all memory, sample by sample. */
async function flat(seconds: number): Promise<object> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'tsswarm-bench-store-'));
  const replica = new Replica({ clock });
  const raft = await member(directory, replica, { voters: [MEMBER] });
  const samples: { heapMb: number; rssMb: number; diskMb: number }[] = [];
  let writes = 0;
  try {
    await replica.barrier();
    for (let at = 0; at < SERVICES; at += 1) {
      const changes = [{ kind: 'create', table: 'service', object: service(`s${at}`) }] as const;
      await replica.propose({ atomic: true, changes });
    }
    const write = async (client: number, until: () => boolean): Promise<void> => {
      for (let at = client; !until(); at += CLIENTS) {
        const before = replica.store.get('service', `s${at % SERVICES}-id`);
        if (before === undefined) throw new Error('a service is gone');
        const spec = { ...before.spec, labels: { value: `${at} ${'x'.repeat(900)}` } };
        const object = { ...before, spec };
        const changes = [{ kind: 'update', table: 'service', object }] as const;
        await replica.propose({ atomic: false, changes });
        writes += 1;
      }
    };
    for (let sample = 0; sample < SAMPLES; sample += 1) {
      const until = elapsed((seconds * 1000) / SAMPLES);
      await Promise.all(Array.from({ length: CLIENTS }, (_, client) => write(client, until)));
      const { rss } = process.memoryUsage();
      samples.push({ heapMb: heapMb(), rssMb: rss / 1e6, diskMb: sizeOf(directory) / MIB });
    }
  } finally {
    await raft.stop({ transfer: false });
    fs.rmSync(directory, { recursive: true, force: true });
  }
  return { writes, samples };
}

function sizeOf(directory: string): number {
  return fs
    .readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => fs.statSync(path.join(entry.parentPath, entry.name)).size)
    .reduce((left, right) => left + right, 0);
}

async function main([what, argument]: readonly string[]): Promise<object> {
  switch (what) {
    case 'heap':
      return heap();
    case 'pause':
      return await pause(Number(argument));
    case 'save':
      return await save(argument);
    case 'open':
      return await open(argument);
    case 'flat':
      return await flat(Number(argument));
    default:
      throw new Error(`no figure "${what}"`);
  }
}

process.stdout.write(`${JSON.stringify(await main(process.argv.slice(2)))}\n`);
