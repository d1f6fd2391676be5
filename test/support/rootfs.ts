/**
 * Layers for tests that run containers: one static program (probe.c) and a few account files, built
 * once a process with the same compiler as the shim; and a table of containers on temporary roots
 * with a cgroup subtree of its own. Clean-up leaves nothing on the host.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { SystemClock } from '../../base/clock.ts';
import { Ids } from '../../base/id.ts';
import { silentLog } from '../../base/log.ts';
import { SystemRandom } from '../../base/random.ts';
import { type ContainerTableOptions, openContainerTable } from '../../runtime/container/table.ts';
import type {
  Container,
  ContainerConfig,
  ContainerTable,
  LogQuery,
} from '../../runtime/container/types.ts';
import { Cgroups, findHierarchies } from '../../runtime/sys/cgroup.ts';
import { readMounts } from '../../runtime/sys/mount.ts';
import { until } from './until.ts';

const random = new SystemRandom();
const ids = new Ids(random);
const clock = new SystemClock();

function compiler(): string {
  try {
    execFileSync('musl-gcc', ['--version'], { stdio: 'ignore' });
    return 'musl-gcc';
  } catch {
    return 'gcc'; // as runtime/shim/Makefile chooses
  }
}

/** Compiles the static probe to `file`, or another program of test/support. */
export function buildProbe(
  file: string,
  program: 'probe' | 'prober' | 'stageKiller' = 'probe',
): void {
  const source = resolve(`test/support/${program}.c`);
  assert(existsSync(source), 'tests are run from the repository root');
  execFileSync(compiler(), ['-static', '-O1', '-w', '-o', file, source]);
}

/** An unpacked layer at `dir`: /bin/probe, accounts, /tmp. */
export function buildLayer(dir: string): void {
  for (const name of ['bin', 'etc', 'tmp', 'home/joe']) {
    mkdirSync(join(dir, name), { recursive: true });
  }
  buildProbe(join(dir, 'bin/probe'));
  writeFileSync(
    join(dir, 'etc/passwd'),
    'root:x:0:0:root:/root:/bin/sh\nbroken line\njoe:x:1000:1001:Joe:/home/joe:/bin/sh\n',
  );
  writeFileSync(join(dir, 'etc/group'), 'root:x:0:\nstaff:x:50:joe\njoe:x:1001:\naudio:x:63:\n');
  writeFileSync(join(dir, 'bin/plain'), 'not a program\n', { mode: 0o644 });
  writeFileSync(join(dir, 'bin/garbage'), 'not a program either\n', { mode: 0o755 });
}

export interface TestHost {
  readonly dir: string;
  readonly layer: string;
  readonly cgroupParent: string;
  readonly cgroups: Cgroups;
  readonly options: ContainerTableOptions;
  open(extra?: Partial<ContainerTableOptions>): Promise<ContainerTable>;
  config(args: readonly string[], extra?: Partial<ContainerConfig>): ContainerConfig;
  /** Removes all containers of `table`, then everything the host had; asserts nothing is left. */
  end(table: ContainerTable): Promise<void>;
}

/** Roots, a layer and a cgroup parent that no other test has. */
export function makeTestHost(name: string): TestHost {
  const dir = mkdtempSync(join(tmpdir(), `container-${name}-`));
  const layer = join(dir, 'layer');
  mkdirSync(layer);
  buildLayer(layer);
  const cgroupParent = `tsswarm-test/${name}-${process.pid}`;
  const cgroups = new Cgroups(findHierarchies(readMounts()), cgroupParent);
  const options: ContainerTableOptions = {
    dataRoot: join(dir, 'data'),
    execRoot: join(dir, 'exec'),
    cgroupParent,
    clock,
    random,
    log: silentLog,
  };
  return {
    dir,
    layer,
    cgroupParent,
    cgroups,
    options,
    open: (extra = {}) => openContainerTable({ ...options, ...extra }),
    config: (args, extra = {}) => ({
      id: ids.container(),
      name: 'test',
      labels: {},
      image: { reference: 'test:latest', id: 'sha256:test' },
      layers: [layer],
      args,
      env: [],
      workingDir: '/',
      user: '',
      hostname: 'testhost',
      mounts: [],
      networkNamespace: 'new',
      resources: {},
      log: {},
      ...extra,
    }),
    async end(table) {
      await Promise.all(table.list().map((container) => container.remove()));
      await table.close();
      await until('the cgroup subtree to be empty', 5000, () => cgroups.removeParent());
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** The records of a log as text, a line each. */
export async function logText(container: Container, query: LogQuery = {}): Promise<string> {
  let text = '';
  for await (const record of container.logs(query)) {
    text += Buffer.from(record.data).toString() + (record.partial ? '' : '\n');
  }
  return text;
}

/** A new container, started. */
export async function started(table: ContainerTable, config: ContainerConfig): Promise<Container> {
  const container = await table.create(config);
  await container.start();
  return container;
}

/** What a container writes until its end; it is removed then. */
export async function outputOf(table: ContainerTable, config: ContainerConfig): Promise<string> {
  const { container, output } = await runToEnd(table, config);
  await container.remove();
  return output.trimEnd();
}

/** Runs a container to its end: exit record and output. */
export async function runToEnd(
  table: ContainerTable,
  config: ContainerConfig,
): Promise<{ readonly container: Container; readonly exitCode: number; readonly output: string }> {
  const container = await started(table, config);
  const exit = await container.wait();
  return { container, exitCode: exit.exitCode, output: await logText(container) };
}
