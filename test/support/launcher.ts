/**
 * The launcher driven directly (runtime/shim/protocol.md), for what no TypeScript door uses yet:
 * containers without a supervisor, and programs that enter one by pid. The test's process is their
 * subreaper. A specification is the Docker one of a test host with records added; the last record
 * of a kind counts.
 */
import assert from 'node:assert/strict';
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { join, resolve } from 'node:path';
import { after } from 'node:test';
import { type Field, readSpec, SpecWriter, TAG, type Tag } from '../../runtime/container/encode.ts';
import { decodeExitRecord } from '../../runtime/container/exitRecord.ts';
import { makeDirectories } from '../../runtime/container/files.ts';
import { type ContainerPaths, containerPaths } from '../../runtime/container/paths.ts';
import { listenForShim, ShimClient, type ShimEvents } from '../../runtime/container/shimClient.ts';
import { buildExecSpec, buildSpec } from '../../runtime/container/spec.ts';
import { FLAG } from '../../runtime/container/specRecords.ts';
import type { ContainerConfig } from '../../runtime/container/types.ts';
import {
  check,
  close,
  createMemfd,
  define,
  makeSocketPair,
  sealMemfd,
  spawnProcess,
} from '../../runtime/sys/libc.ts';
import { identify } from '../../runtime/sys/process.ts';
import { exec } from './probeExec.ts';
import { makeTestHost, type TestHost } from './rootfs.ts';
import { until } from './until.ts';

/** Without a supervisor, with the caller's streams and a user given by numbers. */
export const DETACHED = FLAG.ownStreams | FLAG.noSupervisor | FLAG.numericUser;
export const PHASE = { starting: 0, running: 1, exited: 2, created: 3 } as const;
export const HOOK = {
  prestart: 0,
  createRuntime: 1,
  createContainer: 2,
  startContainer: 3,
  poststart: 4,
} as const;

export type Extra = readonly [tag: number, ...fields: Field[]];
export const numeric: Extra = [TAG.user, '0:0'];
const STATE_HEAD = '{"ociVersion":"1.0.2","id":"test","status":"';
const STATE_TAIL = ',"bundle":"/nowhere"}';
export const hookState: Extra = [TAG.hookState, STATE_HEAD, STATE_TAIL];

/** A hook's record. */
export function hook(
  stage: number,
  args: readonly string[],
  options: { readonly env?: readonly string[]; readonly timeoutS?: number } = {},
): Extra {
  const { env = [], timeoutS = 0 } = options;
  return [TAG.hook, stage, timeoutS, args[0], args.length, ...args, ...env];
}

/** A hook that runs a shell's script, in the launcher's mount namespace or before the pivot. */
export function scriptHook(stage: number, script: string, timeoutS = 0): Extra {
  return hook(stage, ['/bin/sh', '-c', script], { env: ['PATH=/usr/bin:/bin'], timeoutS });
}

const PR_SET_CHILD_SUBREAPER = 36;
const prctl = define<(option: number, value: number) => number>(
  '',
  'int prctl(int option, unsigned long value)',
);
const waitpid = define<(pid: number, status: Int32Array, options: number) => number>(
  '',
  'int waitpid(int pid, _Out_ int *status, int options)',
);
const WNOHANG = 1;
const END_TIMEOUT_MS = 20_000;

/** Waits for a child, own or adopted: its exit code as a shell tells it. */
export async function ended(pid: number): Promise<number> {
  const status = new Int32Array(1);
  await until(`process ${pid} to end`, END_TIMEOUT_MS, () => {
    const got = waitpid(pid, status, WNOHANG);
    assert(got >= 0, `process ${pid} is no child of this test`);
    return got === pid;
  });
  const signal = status[0] & 0x7f;
  return signal === 0 ? (status[0] >> 8) & 0xff : 128 + signal;
}

/** When the process `pid` was started. */
export function startTicks(pid: number): bigint {
  const found = identify(pid);
  assert(found !== undefined, `there is no process ${pid}`);
  return found.startTicks;
}

/** A line of /proc/<pid>/status. */
export function statusOf(pid: number, field: string): string {
  const lines = readFileSync(`/proc/${pid}/status`, 'utf8').split('\n');
  return (
    lines
      .find((line) => line.startsWith(`${field}:`))
      ?.slice(field.length + 1)
      .trim() ?? ''
  );
}

export interface Told {
  readonly phase?: number;
  readonly pid: number;
  readonly notes: readonly string[];
  readonly failure?: { readonly exitCode: number; readonly error: string };
  /** Of the launcher itself. */
  readonly exitCode: number;
}

const HEADER_BYTES = 8;
const TYPE = { state: 129, exited: 130, note: 133 } as const;

async function listen(fd: number): Promise<Omit<Told, 'exitCode'>> {
  const chunks: Buffer[] = [];
  for await (const chunk of new Socket({ fd })) chunks.push(chunk as Buffer);
  let data = Buffer.concat(chunks);
  const told: { -readonly [K in keyof Told]?: Told[K] } & { notes: string[] } = { notes: [] };
  while (data.length > 0) {
    const end = 4 + data.readUInt32LE(0);
    assert.equal(data.readUInt8(4), 1, 'the format version');
    const payload = data.subarray(HEADER_BYTES, end);
    if (data.readUInt8(5) === TYPE.state) {
      told.phase = payload.readUInt32LE(0);
      told.pid = payload.readUInt32LE(4);
    } else if (data.readUInt8(5) === TYPE.note) {
      told.notes.push(payload.toString());
    } else if (data.readUInt8(5) === TYPE.exited) {
      const { exitCode, error = '' } = decodeExitRecord(payload);
      told.failure = { exitCode, error };
    }
    data = data.subarray(end);
  }
  return { ...told, pid: told.pid ?? 0 };
}

/** What of a test's host it needs. */
interface LauncherHost {
  readonly options: Pick<TestHost['options'], 'dataRoot' | 'execRoot' | 'clock'>;
  readonly cgroups: TestHost['cgroups'];
}

/** Every one made by it is removed with it. */
export class Launcher {
  readonly #host: LauncherHost;
  readonly #shim: number;
  readonly #null: number;
  readonly #made: { readonly id: string; readonly paths: ContainerPaths }[] = [];
  readonly #pids = new Set<number>();

  constructor(host: LauncherHost) {
    check(prctl(PR_SET_CHILD_SUBREAPER, 1), 'cannot become a subreaper');
    this.#host = host;
    this.#shim = createMemfd('tsswarm-shim', true);
    writeFileSync(this.#shim, readFileSync(resolve('dist/runtime/shim/tsswarm-shim')));
    sealMemfd(this.#shim);
    this.#null = openSync('/dev/null', 'r+');
    host.cgroups.prepare();
  }

  /** Docker's specification of `config`, without a supervisor, and what is added. */
  spec(config: ContainerConfig, flags: number, extra: readonly Extra[] = []): Uint8Array {
    const { options, cgroups } = this.#host;
    const paths = containerPaths(options.dataRoot, options.execRoot, config.id);
    for (const root of [options.dataRoot, options.execRoot]) {
      makeRoot(join(root, 'containers'));
    }
    makeDirectories(paths, ['upper', 'work', 'logs']);
    this.#made.push({ id: config.id, paths });
    return extend(buildSpec(config, paths, cgroups).bytes, flags, extra);
  }

  /** Of a further program in the container `config` whose first process is `pid`. */
  execSpec(
    config: ContainerConfig,
    pid: number,
    args: readonly string[],
    flags: number,
    extra: readonly Extra[] = [],
  ): Uint8Array {
    const groups = this.#host.cgroups.plan(config.id, {}).groups;
    return extend(buildExecSpec(config, exec(args)), flags | FLAG.ownStreams, [
      [TAG.execTarget, pid, startTicks(pid)],
      ...groups.map(({ version, dir }): Extra => [TAG.cgroup, version === 2 ? 1 : 0, dir]),
      ...extra,
    ]);
  }

  /** In the container's writable layer. */
  file(config: ContainerConfig, path: string): string {
    const { options } = this.#host;
    return join(
      containerPaths(options.dataRoot, options.execRoot, config.id).dataDir,
      'upper',
      path,
    );
  }

  /**
   * `fds`: standard streams, then what is at 5 and following. The launcher's own pid, and what it
   * tells until it closes descriptor 4.
   */
  begin(
    spec: Uint8Array,
    fds: readonly number[] = [],
    args: readonly string[] = ['test'],
    path = `/proc/self/fd/${this.#shim}`,
  ): { readonly pid: number; readonly told: Promise<Omit<Told, 'exitCode'>> } {
    const specFd = createMemfd('spec');
    writeFileSync(specFd, spec);
    const [ours, theirs] = makeSocketPair();
    const place = (index: number): number => fds[index] ?? this.#null;
    const pid = spawnProcess({
      path,
      args: ['tsswarm-shim', ...args],
      env: [],
      fds: [place(0), place(1), place(2), specFd, theirs, ...fds.slice(3)],
    });
    close(theirs);
    closeSync(specFd);
    return { pid, told: listen(ours) };
  }

  /** With a supervisor: `events` hears its control socket until the container is over. */
  supervise(
    config: ContainerConfig,
    flags: number,
    extra: readonly Extra[],
    events: ShimEvents,
    streams: readonly number[] = [],
  ): { readonly pid: number; readonly client: ShimClient } {
    const spec = this.spec(config, flags, extra);
    const { options } = this.#host;
    const { execDir } = containerPaths(options.dataRoot, options.execRoot, config.id);
    const { listener, fd } = listenForShim(execDir);
    // Waits in the backlog from before there is a shim: it misses nothing, however short the life.
    const client = ShimClient.over(fd, options.clock, events);
    const specFd = createMemfd('spec');
    writeFileSync(specFd, spec);
    const place = (index: number): number => streams[index] ?? this.#null;
    const pid = spawnProcess({
      path: `/proc/self/fd/${this.#shim}`,
      args: ['tsswarm-shim', config.id.slice(0, 12)],
      env: [],
      fds: [place(0), place(1), place(2), specFd, listener],
    });
    close(listener);
    closeSync(specFd);
    return { pid, client };
  }

  /** Until the launcher has ended: what it made belongs to this process. */
  async start(spec: Uint8Array, fds?: readonly number[], args?: readonly string[]): Promise<Told> {
    const { pid, told } = this.begin(spec, fds, args);
    const all = { ...(await told), exitCode: await ended(pid) };
    if (all.pid > 0) this.#pids.add(all.pid);
    return all;
  }

  /** Waits for a container's first process or an exec's. */
  async end(pid: number): Promise<number> {
    const code = await ended(pid);
    this.#pids.delete(pid);
    return code;
  }

  async close(): Promise<void> {
    for (const pid of this.#pids) process.kill(pid, 'SIGKILL');
    // Together: a pid namespace ends only once whoever entered it was waited for.
    await Promise.all([...this.#pids].map((pid) => ended(pid)));
    for (const { id, paths } of this.#made) {
      await until('the groups to be gone', END_TIMEOUT_MS, () => {
        const gone = this.#host.cgroups.remove(id);
        if (!gone) this.#host.cgroups.kill(id);
        return gone;
      });
      rmSync(paths.dataDir, { recursive: true, force: true });
      rmSync(paths.execDir, { recursive: true, force: true });
    }
    closeSync(this.#shim);
    closeSync(this.#null);
  }
}

/** A host and its launcher for a file's tests; nothing of them is left after those. */
export function launcherHost(name: string): {
  readonly host: TestHost;
  readonly launcher: Launcher;
} {
  const host = makeTestHost(name);
  const launcher = new Launcher(host);
  after(async () => {
    const table = await host.open();
    await launcher.close();
    await host.end(table);
  });
  return { host, launcher };
}

function makeRoot(dir: string): void {
  mkdirSync(dir, { recursive: true, mode: 0o711 });
}

/** The same records, these flags besides those it has, then `extra`. */
export function extend(bytes: Uint8Array, flags: number, extra: readonly Extra[]): Uint8Array {
  const writer = new SpecWriter();
  let own = 0;
  for (const { tag, payload } of readSpec(bytes)) {
    if (tag === TAG.flags) own = Buffer.from(payload).readUInt32LE(0);
    else writer.add(tag as Tag, payload);
  }
  writer.add(TAG.flags, own | flags);
  for (const [tag, ...fields] of extra) writer.add(tag as Tag, ...fields);
  return writer.finish();
}
