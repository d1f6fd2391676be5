/**
 * A runtime's command as an engine uses it (engine.c), and the OCI configuration that says of a
 * container what the runtime's own API makes of one by default: the same mounts, devices,
 * capabilities, limits, masks, settings of the network and system calls.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { DEFAULT_CAPABILITIES } from '../../runtime/container/capabilities.ts';
import * as profile from '../../runtime/container/profile.ts';
import { toDeviceList, toResources } from '../../runtime/container/resources.ts';
import { DEFAULT_PROFILE } from '../../runtime/container/seccompProfile.ts';
import type { ContainerResources } from '../../runtime/container/types.ts';
import { ANY } from '../../runtime/sys/deviceRules.ts';
import type { DeviceAccess } from '../../runtime/sys/resources.ts';

const { ATTR } = profile;
const OPTIONS = [
  [ATTR.readOnly, 'ro'],
  [ATTR.noSuid, 'nosuid'],
  [ATTR.noDev, 'nodev'],
  [ATTR.noExec, 'noexec'],
  [ATTR.strictAtime, 'strictatime'],
] as const;
const OPERATORS = {
  ne: 'SCMP_CMP_NE',
  lt: 'SCMP_CMP_LT',
  le: 'SCMP_CMP_LE',
  eq: 'SCMP_CMP_EQ',
  ge: 'SCMP_CMP_GE',
  gt: 'SCMP_CMP_GT',
  masked: 'SCMP_CMP_MASKED_EQ',
} as const;
const NAMESPACES = ['pid', 'network', 'ipc', 'uts', 'mount', 'cgroup'];

/** The default container's, for `args`; `withFilter` false: any system call is allowed. */
export function dockerConfig(
  args: readonly string[],
  limits: ContainerResources,
  withFilter: boolean,
): object {
  const capabilities = DEFAULT_CAPABILITIES.map((name) => `CAP_${name}`);
  const resources = toResources(limits, () => {});
  const mounts = profile.DEFAULT_MOUNTS.map(({ target, type, source, attributes, options }) => ({
    destination: target,
    type,
    source,
    options: [
      ...OPTIONS.filter(([bit]) => (attributes & bit) !== 0).map(([, name]) => name),
      ...options,
    ],
  }));
  const groups = {
    destination: '/sys/fs/cgroup',
    type: 'cgroup',
    source: 'cgroup',
    options: ['nosuid', 'nodev', 'noexec', 'ro'],
  };
  return {
    ociVersion: '1.0.2', // as Debian's crun knows it
    process: {
      terminal: false,
      user: { uid: 0, gid: 0 },
      args,
      env: [`PATH=${profile.DEFAULT_PATH}`, 'HOSTNAME=testhost', 'HOME=/'],
      cwd: '/',
      capabilities: {
        bounding: capabilities,
        effective: capabilities,
        permitted: capabilities,
      },
      oomScoreAdj: 0,
    },
    root: { path: 'rootfs', readonly: false },
    hostname: 'testhost',
    mounts: [...mounts, groups],
    linux: {
      namespaces: NAMESPACES.map((type) => ({ type })),
      resources: {
        memory: resources.memory,
        pids: resources.pids,
        devices: toDeviceList(profile.DEFAULT_DEVICE_RULES).map(anyLeftOut),
      },
      sysctl: profile.NETWORK_SYSCTLS,
      maskedPaths: profile.maskedPaths(),
      readonlyPaths: profile.READ_ONLY_PATHS,
      ...(withFilter ? { seccomp: defaultFilter() } : {}),
    },
  };
}

/** crun takes no -1 for "any". */
function anyLeftOut({ major = ANY, minor = ANY, ...rule }: DeviceAccess): DeviceAccess {
  return { ...rule, ...(major === ANY ? {} : { major }), ...(minor === ANY ? {} : { minor }) };
}

/** The default profile as linux.seccomp. */
function defaultFilter(): object {
  const has = new Set<string>(DEFAULT_CAPABILITIES);
  const rules = DEFAULT_PROFILE.filter(
    (rule) =>
      (rule.host === undefined || rule.host === 'x86_64') &&
      (rule.with === undefined || has.has(rule.with)) &&
      (rule.without === undefined || !has.has(rule.without)),
  );
  return {
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: 1,
    architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
    syscalls: rules.flatMap(({ names, tests, errno }) => {
      const action =
        errno === undefined
          ? { action: 'SCMP_ACT_ALLOW' }
          : { action: 'SCMP_ACT_ERRNO', errnoRet: errno };
      const call = { names: names.split(' '), ...action };
      if (tests === undefined) return [call];
      return tests.map((test) => {
        const { index, is } = test;
        const value = Number(is === 'masked' ? test.mask : test.value);
        const more = is === 'masked' ? { valueTwo: Number(test.value) } : {};
        return { ...call, args: [{ index, op: OPERATORS[is], value, ...more }] };
      });
    }),
  };
}

/** Compiles engine.c to `file`. */
export function buildEngine(file: string): void {
  const sources = ['engine.c', 'kernelPart.c'].map((name) => resolve('test/bench', name));
  execFileSync('gcc', ['-O2', '-static', '-o', file, ...sources]);
}

export class Engine {
  readonly #process;
  readonly #waiting = new Map<string, (answer: number) => void>();

  /** `hidden`: a mount point that the command does not see. */
  constructor(
    program: string,
    directory: string,
    lower: string,
    config: string,
    hidden: string | undefined,
    command: readonly string[],
  ) {
    const own = join(directory, 'bundles');
    mkdirSync(own, { recursive: true });
    const args = [own, lower, config, hidden ?? '-', ...command];
    this.#process = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    createInterface({ input: this.#process.stdout }).on('line', (line) => {
      const [id, answer] = line.split(' ');
      this.#waiting.get(id)?.(Number(answer));
      this.#waiting.delete(id);
    });
  }

  /** From before it is made until nothing of it is left. */
  async run(id: string): Promise<void> {
    const code = await this.#ask(id);
    if (code !== 0) throw new Error(`${id} ended with ${code}`);
  }

  /** Processor time of all that ran. */
  async usedMs(): Promise<number> {
    return (await this.#ask('usage')) / 1000;
  }

  async end(): Promise<void> {
    const ended = once(this.#process, 'close');
    this.#process.stdin.end();
    await ended;
  }

  #ask(word: string): Promise<number> {
    return new Promise((done) => {
      this.#waiting.set(word, done);
      this.#process.stdin.write(`${word}\n`);
    });
  }
}
