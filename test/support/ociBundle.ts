/**
 * A bundle with busybox as its root, and the tsswarm-oci command with a `--root` of its own: what
 * tests of the OCI runtime share. Clean-up deletes every container that was made.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { until } from './until.ts';

const COMMAND = resolve('dist/tsswarm-oci');
/** Of a command that waits for nothing but itself, on a loaded machine. */
const COMMAND_TIMEOUT_MS = 60_000;
const WAIT_MS = 60_000;
const APPLETS = ['sh', 'cat', 'echo', 'sleep', 'id', 'env', 'pwd', 'true', 'false', 'test', 'stat'];
const MORE_APPLETS = ['ls', 'tty', 'stty', 'grep', 'readlink', 'kill', 'umount', 'rm', 'mkdir'];

export interface Outcome {
  readonly code: number | null;
  readonly out: string;
  readonly error: string;
}

/** What a test changes of the configuration; the shape is `spec`'s output. */
// biome-ignore lint/suspicious/noExplicitAny: a test writes any JSON, also wrong one
export type Config = any;

export class OciBundle {
  readonly dir: string;
  readonly stateRoot: string;
  readonly #config: string;

  constructor(name: string) {
    this.dir = mkdtempSync(join(tmpdir(), `tsswarm-oci-${name}-`));
    this.stateRoot = join(this.dir, 'state');
    this.#config = join(this.dir, 'config.json');
    const root = join(this.dir, 'rootfs');
    for (const sub of ['bin', 'etc', 'tmp', 'root'])
      mkdirSync(join(root, sub), { recursive: true });
    const busybox = execFileSync('sh', ['-c', 'command -v busybox'], { encoding: 'utf8' }).trim();
    copyFileSync(busybox, join(root, 'bin/busybox'));
    for (const applet of [...APPLETS, ...MORE_APPLETS]) {
      linkSync(join(root, 'bin/busybox'), join(root, 'bin', applet));
    }
    writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n');
    assert.equal(this.run('spec', '-b', this.dir).code, 0);
    // Tests that share a machine must not share groups either.
    this.configure((config) => {
      config.process.terminal = false;
      config.linux.cgroupsPath = `/${name}-${process.pid}/container`;
    });
  }

  /** Changes config.json. */
  configure(change: (config: Config) => void): void {
    const config = JSON.parse(readFileSync(this.#config, 'utf8')) as Config;
    change(config);
    writeFileSync(this.#config, JSON.stringify(config));
  }

  /** As `configure`, for as long as `work` runs. */
  with<T>(change: (config: Config) => void, work: () => T): T {
    const before = readFileSync(this.#config);
    this.configure(change);
    try {
      return work();
    } finally {
      writeFileSync(this.#config, before);
    }
  }

  get cgroup(): string {
    return (JSON.parse(readFileSync(this.#config, 'utf8')) as Config).linux.cgroupsPath as string;
  }

  run(...args: readonly string[]): Outcome {
    return this.runWith({}, ...args);
  }

  /** `input`: what it reads. */
  runWith(options: { readonly input?: string }, ...args: readonly string[]): Outcome {
    return this.#spawn(options, COMMAND, '--root', this.stateRoot, ...args);
  }

  /** In a network namespace of its own, in which the shell has run `prepare`. */
  runIn(prepare: string, ...args: readonly string[]): Outcome {
    const script = `${prepare} && exec "$@"`;
    const within = ['--net', 'sh', '-ec', script, 'sh', COMMAND, '--root', this.stateRoot];
    return this.#spawn({}, 'unshare', ...within, ...args);
  }

  #spawn(
    options: { readonly input?: string },
    command: string,
    ...args: readonly string[]
  ): Outcome {
    const result = spawnSync(command, args, {
      cwd: this.dir,
      encoding: 'utf8',
      input: options.input ?? '',
      timeout: COMMAND_TIMEOUT_MS,
    });
    return { code: result.status, out: result.stdout, error: result.stderr };
  }

  /** Fails with what it said unless it succeeds; its output. */
  must(...args: readonly string[]): string {
    const { code, out, error } = this.run(...args);
    assert.equal(code, 0, `${args.join(' ')}: ${error}`);
    return out;
  }

  /** Without waiting for its end; its output goes to the file. */
  startInto(file: string, ...args: readonly string[]): ChildProcess {
    const out = openSync(file, 'a');
    try {
      return spawn(COMMAND, ['--root', this.stateRoot, ...args], {
        cwd: this.dir,
        stdio: ['ignore', out, 'ignore'],
      });
    } finally {
      closeSync(out);
    }
  }

  /** A container that does nothing, with nothing of the test's own open. */
  startIdle(id: string): void {
    this.with(
      (config) => {
        config.process.args = ['sleep', '1000'];
      },
      () => {
        // Its standard streams are the command's: a pipe would keep this process waiting.
        const { dir, stateRoot } = this;
        execFileSync(COMMAND, ['--root', stateRoot, 'run', '-d', '-b', dir, id], {
          stdio: 'ignore',
          timeout: COMMAND_TIMEOUT_MS,
        });
      },
    );
  }

  status(id: string): string {
    return (JSON.parse(this.must('state', id)) as { status: string }).status;
  }

  async untilStatus(id: string, status: string): Promise<void> {
    await until(`container ${id} to be ${status}`, WAIT_MS, () => {
      const { code, out } = this.run('state', id);
      return code === 0 && (JSON.parse(out) as { status: string }).status === status;
    });
  }

  /** Deletes what is left. */
  end(): void {
    const ids = this.run('list', '-q').out.split('\n').filter(Boolean);
    for (const id of ids) this.run('delete', '--force', id);
    rmSync(this.dir, { recursive: true, force: true });
  }
}
