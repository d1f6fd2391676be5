/**
 * A virtual machine with Debian's own kernel and nothing but cgroup v2: an initramfs made of this
 * machine's Node, our dist/ and a few tools, booted by qemu's software emulation. The guest runs
 * one compiled script and prints its result; there is no network, and no disk unless a test
 * asks for one.
 */
import { execFileSync, spawn } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { TOP } from '../tidy/sources.ts';

const MEMORY_MB = 1536;
const BOOT_TIMEOUT_MS = 480_000;
/** Production packages that the runtime room loads. */
const PACKAGES = [
  '@koromix/koffi-linux-x64',
  '@pinojs',
  'atomic-sleep',
  'b4a',
  'bare-events',
  'events-universal',
  'fast-fifo',
  'koffi',
  'nanoid',
  'on-exit-leak-free',
  'pino',
  'pino-abstract-transport',
  'pino-std-serializers',
  'process-warning',
  'quick-format-unescaped',
  'real-require',
  'safe-stable-stringify',
  'sonic-boom',
  'split2',
  'streamx',
  'tar-stream',
  'text-decoder',
  'thread-stream',
];
const TOOLS = [
  '/bin/sh',
  '/bin/mount',
  '/sbin/insmod',
  '/sbin/switch_root',
  '/bin/cp',
  '/bin/mkdir',
];
const MODULES = [
  'fs/overlayfs/overlay',
  'drivers/block/loop',
  'fs/quota/quota_tree',
  'fs/quota/quota_v2',
];
/** In the order they need each other; with bfq, a scheduler that knows weights. */
const DISK_MODULES = [
  'drivers/virtio/virtio_ring',
  'drivers/virtio/virtio',
  'drivers/virtio/virtio_pci_modern_dev',
  'drivers/virtio/virtio_pci_legacy_dev',
  'drivers/virtio/virtio_pci',
  'drivers/block/virtio_blk',
  'block/bfq',
];
const MARK = 'GUEST-RESULT ';
const PARAMETERS = [
  'console=ttyS0',
  'quiet',
  'panic=-1',
  'mitigations=off',
  // On a busy machine the emulated timer is too slow for the kernel's own check of it.
  'no_timer_check',
];

const INIT = `#!/bin/sh
export PATH=/bin:/sbin:/usr/bin
mkdir -p /proc /sys /dev /next
mount -t devtmpfs none /dev
mount -t tmpfs -o size=1100m none /next
cp -a /bin /sbin /lib /lib64 /usr /app /modules /stage2 /next/
mkdir -p /next/proc /next/sys /next/dev /next/tmp /next/run /next/var /next/etc
exec switch_root /next /stage2
`;

const STAGE2 = `#!/bin/sh
export PATH=/bin:/sbin:/usr/bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts none /dev/pts
mount -t tmpfs none /dev/shm
mount -t cgroup2 none /sys/fs/cgroup
for module in $(cat /modules/list); do insmod "/modules/$module.ko"; done
/bin/node /app/dist/$(cat /app/script) 2>&1
echo GUEST-END
while :; do :; done
`;

/** A program and the shared objects it needs, copied to the same places below `root`. */
export function addProgram(root: string, program: string, at = program): void {
  mkdirSync(dirname(join(root, at)), { recursive: true });
  cpSync(program, join(root, at), { dereference: true });
  for (const line of execFileSync('ldd', [program], { encoding: 'utf8' }).split('\n')) {
    const path = /(\/\S+)/.exec(line.replace(/.*=>/, ''))?.[1];
    if (path === undefined || existsSync(join(root, path))) continue;
    mkdirSync(dirname(join(root, path)), { recursive: true });
    cpSync(path, join(root, path), { dereference: true });
  }
}

function buildInitramfs(
  work: string,
  kernel: string,
  script: string,
  files: Readonly<Record<string, string>>,
  diskBytes: readonly number[],
  programs: readonly string[],
): string {
  const root = join(work, 'root');
  mkdirSync(root);
  for (const tool of [...TOOLS, '/bin/cat', ...programs]) addProgram(root, tool);
  addProgram(root, process.execPath, '/bin/node');
  cpSync(join(TOP, 'dist'), join(root, 'app', 'dist'), {
    recursive: true,
    filter: (path) => !/dist\/(kernel|etcd|images|debian)$/.test(path),
  });
  writeFileSync(join(root, 'app', 'package.json'), '{"type":"module"}');
  writeFileSync(join(root, 'app', 'script'), script);
  for (const name of PACKAGES) {
    const from = join(TOP, 'node_modules', name);
    cpSync(from, join(root, 'app', 'node_modules', name), { recursive: true });
  }
  mkdirSync(join(root, 'app', 'files'));
  for (const [name, path] of Object.entries(files)) cpSync(path, join(root, 'app/files', name));
  mkdirSync(join(root, 'modules'));
  const modules = [...MODULES, ...(diskBytes.length > 0 ? DISK_MODULES : [])];
  for (const path of modules) {
    cpSync(
      join(kernel, 'modules/kernel', `${path}.ko`),
      join(root, 'modules', `${basename(path)}.ko`),
    );
  }
  writeFileSync(join(root, 'modules/list'), modules.map((path) => basename(path)).join('\n'));
  writeFileSync(join(root, 'init'), INIT, { mode: 0o755 });
  writeFileSync(join(root, 'stage2'), STAGE2, { mode: 0o755 });
  const image = join(work, 'initrd');
  const pack = `cd ${root} && find . | cpio --quiet -o -H newc >${image}`;
  execFileSync('sh', ['-c', pack], { stdio: ['ignore', 'ignore', 'inherit'] });
  return image;
}

export interface GuestOptions {
  /** Empty disks, /dev/vda and so on. */
  readonly diskBytes?: readonly number[];
  readonly timeoutMs?: number;
  /** Of this machine, at the same places in the guest. */
  readonly programs?: readonly string[];
  /** More of the kernel's parameters. */
  readonly parameters?: readonly string[];
}

/**
 * Boots the guest and runs `script` (a path below dist/); what it passed to `report`. `files` are
 * static programs of this machine by the name they have below the guest's /app/files.
 */
export async function runInGuest<T>(
  script: string,
  files: Readonly<Record<string, string>>,
  {
    diskBytes = [],
    timeoutMs = BOOT_TIMEOUT_MS,
    programs = [],
    parameters = [],
  }: GuestOptions = {},
): Promise<T> {
  const kernel = execFileSync(join(TOP, 'deploy', 'test-kernel'), { encoding: 'utf8' }).trim();
  const work = mkdtempSync(join(tmpdir(), 'tsswarm-guest-'));
  try {
    const initrd = buildInitramfs(work, kernel, script, files, diskBytes, programs);
    const drives = diskBytes.flatMap((bytes, at) => {
      const image = join(work, `disk${at}`);
      writeFileSync(image, '');
      truncateSync(image, bytes);
      return ['-drive', `file=${image},if=virtio,format=raw,cache=unsafe`];
    });
    const qemu = spawn(
      'qemu-system-x86_64',
      [
        ...['-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', '2', '-m', String(MEMORY_MB)],
        ...['-nographic', '-no-reboot', '-nodefaults', '-serial', 'stdio'],
        ...drives,
        ...['-kernel', join(kernel, 'vmlinuz'), '-initrd', initrd],
        ...['-append', [...PARAMETERS, ...parameters].join(' ')],
      ],
      { stdio: ['ignore', 'pipe', 'inherit'], timeout: timeoutMs, killSignal: 'SIGKILL' },
    );
    let output = '';
    await new Promise<void>((resolve) => {
      qemu.stdout.on('data', (chunk: Buffer) => {
        output += chunk.toString();
        if (output.includes('GUEST-END')) qemu.kill('SIGKILL');
      });
      qemu.on('close', () => resolve());
    });
    const line = output.split(/\r?\n/).find((each) => each.includes(MARK));
    if (line === undefined) throw new Error(`the guest reported nothing:\n${output.slice(-8000)}`);
    return JSON.parse(line.slice(line.indexOf(MARK) + MARK.length)) as T;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** In the guest: hands the result to the test. */
export function report(result: unknown): void {
  process.stdout.write(`\n${MARK}${JSON.stringify(result)}\n`);
}
