/**
 * docker-py's own integration tests, from a checkout that the caller names, run against any daemon:
 * the images they want, made of Debian's static BusyBox and served as Docker Hub by a registry in
 * the daemon's network namespace, and the tests' outcomes. Nothing of that suite is kept here, and
 * nothing is written into the checkout.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TarInput } from '../../runtime/image/tar.ts';
import { TOP } from '../tidy/sources.ts';
import { buildImage, directory, dockerArchive, file, tar } from './images.ts';
import { type Outcome, outcome, until } from './lab.ts';
import { registryCommand } from './registry.ts';

/** Debian's: python3-docker and what its tests import are packages of this one. */
const PYTHON = '/usr/bin/python3';
const BUSYBOX = '/bin/busybox';
/** What dockerd 20.10 speaks, for which that SDK was written. */
const API_VERSION = '1.41';
const SUITE_LIMIT_MS = 20 * 60_000;
const REGISTRY_LIMIT_MS = 10_000;
const REGISTRY_PORT = 5000;
/** What the daemon must be started with to find the images that are pulled. */
export const MIRROR_FLAGS = ['--registry-mirror', `http://127.0.0.1:${REGISTRY_PORT}`];

/** What the suite is run against. */
export interface Subject {
  readonly socket: string;
  /** In its network namespace. */
  readonly pid: number;
  docker(...args: string[]): Promise<string>;
}

export interface Result {
  /** As pytest says it, without the path: api_swarm_test.py::SwarmTest::test_leave_swarm. */
  readonly name: string;
  readonly outcome: 'passed' | 'failed' | 'skipped' | 'xfailed' | 'xpassed';
  readonly reason: string;
}

/** Why the suite cannot run here; undefined when it can. */
export function whyNot(checkout: string | undefined): string | undefined {
  if (checkout === undefined || checkout === '') {
    return 'DOCKER_PY_CHECKOUT names no checkout of docker-py at tag 5.0.3';
  }
  if (!existsSync(join(checkout, 'tests', 'integration', 'base.py'))) {
    return `DOCKER_PY_CHECKOUT: no tests/integration in ${checkout}`;
  }
  try {
    execFileSync(PYTHON, ['-c', 'import docker, paramiko, pytest'], { stdio: 'ignore' });
  } catch {
    return 'apt-get install python3-docker python3-paramiko python3-pytest';
  }
  return undefined;
}

/** Puts the images there and serves them; resolves with what must be ended. */
export async function serveImages(subject: Subject, scratch: string): Promise<ChildProcess> {
  const storage = join(scratch, 'registry');
  mkdirSync(storage);
  const command = registryCommand({ directory: storage, port: REGISTRY_PORT });
  const registry = spawn('nsenter', ['-t', String(subject.pid), '-n', ...command], {
    stdio: 'ignore',
  });
  for (const [at, [names, config]] of IMAGES.entries()) {
    const archive = join(scratch, `image${at}.tar`);
    // A layer of its own each, so that removing an image gives space back.
    const own = await tar([file('etc/name', `${names[0]}\n`)]);
    const image = buildImage([await tar(rootFiles()), own], (layer) => layer, config);
    writeFileSync(archive, await dockerArchive(image, names));
    await subject.docker('load', '-i', archive);
    for (const name of names) {
      const pushed = `127.0.0.1:${REGISTRY_PORT}/library/${name}`;
      await subject.docker('tag', name, pushed);
      await until('the registry has the image', REGISTRY_LIMIT_MS, async () => {
        await subject.docker('push', pushed);
        return true;
      });
      await subject.docker('rmi', pushed);
    }
  }
  await subject.docker('rmi', HELLO);
  return registry;
}

/** Runs these files of the checkout's tests/integration. */
export async function runSuites(
  checkout: string,
  subject: Subject,
  suites: readonly string[],
  scratch: string,
): Promise<Result[]> {
  const report = join(scratch, 'report');
  writeFileSync(report, '');
  const home = join(scratch, 'home');
  mkdirSync(home, { recursive: true });
  const environment = [
    ...[`DOCKER_HOST=unix://${subject.socket}`, `DOCKER_PY_REPORT=${report}`, `HOME=${home}`],
    ...['PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'PYTHONDONTWRITEBYTECODE=1'],
    `DOCKER_TEST_API_VERSION=${API_VERSION}`,
    `PYTHONPATH=${join(TOP, 'test', 'support')}`,
  ];
  const ran = await outcome(
    'nsenter',
    [
      ...['-t', String(subject.pid), '-n', 'env', '-i', '-C', checkout, ...environment],
      ...[PYTHON, '-m', 'pytest', '-q', '--no-header', '--tb=short'],
      ...['-p', 'no:cacheprovider', '-p', 'dockerPyPlugin', '-W', 'ignore'],
      ...suites.map((suite) => `tests/integration/${suite}.py`),
    ],
    SUITE_LIMIT_MS,
  );
  return resultsOf(readFileSync(report, 'utf8'), ran);
}

function resultsOf(report: string, ran: Outcome): Result[] {
  const results = new Map<string, Result>();
  for (const line of report.split('\n').filter((each) => each !== '')) {
    const result = JSON.parse(line) as Result;
    const name = result.name.replace(/^tests\/integration\//, '');
    // A test may pass and its tear-down fail.
    if (results.get(name)?.outcome !== 'failed') results.set(name, { ...result, name });
  }
  if (results.size === 0) throw new Error(`pytest ran nothing: ${ran.stdout}${ran.stderr}`);
  return [...results.values()];
}

/** 'passed 107, failed 2, xfailed 1'. */
export function counts(results: readonly Result[]): string {
  const kinds = ['passed', 'failed', 'skipped', 'xfailed', 'xpassed'] as const;
  return kinds
    .map((kind) => [kind, results.filter(({ outcome }) => outcome === kind).length] as const)
    .filter(([, count]) => count > 0)
    .map(([kind, count]) => `${kind} ${count}`)
    .join(', ');
}

const HELLO = 'hello-world:latest';
const PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const IMAGES: readonly (readonly [readonly string[], object])[] = [
  [['alpine:3.10', 'alpine:latest'], { Cmd: ['/bin/sh'], Env: [PATH] }],
  [['busybox:latest'], { Cmd: ['sh'], Env: [PATH] }],
  [[HELLO], { Cmd: ['/bin/echo', 'Hello from Docker!'], Env: [PATH] }],
];
const DIRECTORIES = [
  ...['bin', 'dev', 'etc', 'home', 'mnt', 'opt', 'proc', 'root', 'run', 'sbin', 'srv', 'sys'],
  ...['usr', 'usr/bin', 'usr/local', 'usr/sbin', 'var', 'var/lib', 'var/opt'],
];
/** Of Alpine's users those that the tests name, and a few more. */
const USERS = [
  'root:x:0:0:root:/root:/bin/ash',
  'bin:x:1:1:bin:/bin:/sbin/nologin',
  'daemon:x:2:2:daemon:/sbin:/sbin/nologin',
  'mail:x:8:12:mail:/var/mail:/sbin/nologin',
  'operator:x:11:0:operator:/root:/bin/sh',
  'postgres:x:70:70::/var/lib/postgresql:/bin/sh',
  'nobody:x:65534:65534:nobody:/:/sbin/nologin',
];
const GROUPS = [
  ...['root:x:0:root', 'bin:x:1:root,bin,daemon', 'daemon:x:2:root,bin,daemon', 'mail:x:12:mail'],
  ...['postgres:x:70:', 'nogroup:x:65533:', 'nobody:x:65534:'],
];

function rootFiles(): TarInput[] {
  const applets = execFileSync(BUSYBOX, ['--list'], { encoding: 'utf8' }).trim().split('\n');
  return [
    ...DIRECTORIES.map((name) => directory(name)),
    directory('tmp', { mode: 0o1777 }),
    file('etc/passwd', `${USERS.join('\n')}\n`),
    file('etc/group', `${GROUPS.join('\n')}\n`),
    { name: 'bin/busybox', body: readFileSync(BUSYBOX), mode: 0o755 },
    ...applets
      .filter((applet) => applet !== 'busybox')
      .map(
        (applet): TarInput => ({
          name: `bin/${applet}`,
          type: 'symlink',
          linkName: '/bin/busybox',
        }),
      ),
  ];
}
