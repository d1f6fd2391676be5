/**
 * A whole Debian 12 machine under qemu: its own kernel (pure cgroup v2), systemd as PID 1, a disk
 * that survives reboots, this checkout under /root/tsswarm. No network but what it makes for
 * itself. A script runs as a unit at every boot and tells facts on the console as lines "STORY
 * key=value".
 */
import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { TOP } from '../tidy/sources.ts';
import { addProgram } from './guest.ts';

const MEMORY_MB = 2048;
const DISK_MB = 3072;
const MODULES = ['virtio_pci', 'virtio_blk', 'ext4'];
/** Of the checkout: not what is run or fetched by tests only. */
const LEFT_OUT = ['.git', 'dist/kernel', 'dist/etcd', 'dist/debian', 'dist/test'];
const OUTPUT_SHOWN = 12_000;

const INIT = `#!/bin/sh
export PATH=/bin:/sbin:/usr/bin
mkdir -p /dev /proc /next
mount -t devtmpfs none /dev
mount -t proc none /proc
for module in $(cat /modules/order); do insmod /modules/$module; done
until [ -e /dev/vda ]; do :; done
mount -t ext4 /dev/vda /next
umount /proc
mount -o move /dev /next/dev
exec switch_root /next /lib/systemd/systemd
`;

const STORY_UNIT = `[Unit]
Wants=network-online.target
After=network-online.target tsswarm.service
[Service]
Type=oneshot
ExecStart=/bin/sh /root/story
TimeoutStartSec=infinity
[Install]
WantedBy=multi-user.target
`;

const NETWORK_UNIT = `[Unit]
Before=network-online.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'ip link add eth0 type veth peer name eth1 && ip link set eth1 up && \\
  ip link set eth0 up && ip addr add 192.0.2.11/24 dev eth0'
[Install]
WantedBy=network-online.target
`;

export interface Machine {
  readonly facts: ReadonlyMap<string, string>;
  readonly output: string;
}

function run(command: string, ...args: string[]): string {
  return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
}

function write(path: string, text: string, mode = 0o644): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  chmodSync(path, mode);
}

/**
 * The machine's files: Debian, its kernel's modules, Node and npm of this machine, the checkout.
 */
function fillRoot(root: string, kernel: string, script: string): string {
  mkdirSync(root);
  run('tar', '-xf', run(join(TOP, 'deploy', 'test-debian')).trim(), '-C', root);
  const overlay = join(kernel, 'modules/kernel/fs/overlayfs/overlay.ko');
  const version = run('modinfo', '-F', 'vermagic', overlay).split(' ')[0];
  mkdirSync(join(root, 'usr/lib/modules'), { recursive: true });
  cpSync(join(kernel, 'modules'), join(root, 'usr/lib/modules', version), { recursive: true });
  run('depmod', '-b', root, version);
  const npm = join(dirname(dirname(process.execPath)), 'lib/node_modules/npm');
  run('cp', '-aL', process.execPath, join(root, 'usr/bin/node'));
  mkdirSync(join(root, 'usr/lib/node_modules'), { recursive: true });
  run('cp', '-a', npm, join(root, 'usr/lib/node_modules/npm'));
  run('ln', '-s', '../lib/node_modules/npm/bin/npm-cli.js', join(root, 'usr/bin/npm'));
  const checkout = join(root, 'root/tsswarm');
  mkdirSync(checkout);
  // Times are kept: what is built here is not built again there.
  const without = LEFT_OUT.map((name) => `--exclude=./${name}`).join(' ');
  run('sh', '-c', `tar -C ${TOP} ${without} -cf - . | tar -C ${checkout} -xf -`);
  const units = join(root, 'etc/systemd/system');
  write(join(root, 'root/story'), script);
  write(join(units, 'story.service'), STORY_UNIT);
  write(join(units, 'wire.service'), NETWORK_UNIT);
  for (const [target, unit] of [
    ['multi-user.target', 'story.service'],
    ['network-online.target', 'wire.service'],
  ]) {
    mkdirSync(join(units, `${target}.wants`), { recursive: true });
    run('ln', '-s', `../${unit}`, join(units, `${target}.wants`, unit));
  }
  run('ln', '-sf', '/lib/systemd/system/multi-user.target', join(units, 'default.target'));
  for (const name of ['serial-getty@ttyS0.service', 'getty@tty1.service']) {
    run('ln', '-s', '/dev/null', join(units, name));
  }
  write(join(root, 'etc/hostname'), 'debian\n');
  write(join(root, 'etc/fstab'), '');
  return version;
}

function makeInitrd(work: string, root: string, version: string): string {
  const initrd = join(work, 'initrd');
  mkdirSync(join(initrd, 'modules'), { recursive: true });
  for (const tool of ['/bin/sh', '/bin/mount', '/bin/umount', '/bin/mkdir', '/bin/cat']) {
    addProgram(initrd, tool);
  }
  for (const tool of ['/sbin/insmod', '/sbin/switch_root']) addProgram(initrd, tool);
  const order: string[] = [];
  for (const module of MODULES) {
    const text = run('modprobe', '-d', root, '-S', version, '--show-depends', module);
    for (const line of text.split('\n').filter((each) => each.startsWith('insmod '))) {
      const path = line.split(' ')[1];
      const name = path.slice(path.lastIndexOf('/') + 1);
      if (order.includes(name)) continue;
      order.push(name);
      cpSync(path, join(initrd, 'modules', name));
    }
  }
  write(join(initrd, 'modules/order'), `${order.join('\n')}\n`);
  write(join(initrd, 'init'), INIT, 0o755);
  const image = join(work, 'initrd.cpio');
  run('sh', '-c', `cd ${initrd} && find . | cpio --quiet -o -H newc >${image}`);
  return image;
}

/** Boots the machine with `script` as its story until it powers off; what it told. */
export async function runDebian(script: string, timeoutMs: number): Promise<Machine> {
  const kernel = run(join(TOP, 'deploy', 'test-kernel')).trim();
  const work = mkdtempSync('/var/tmp/tsswarm-debian-');
  try {
    const root = join(work, 'root');
    const version = fillRoot(root, kernel, script);
    const initrd = makeInitrd(work, root, version);
    const disk = join(work, 'disk');
    run('mkfs.ext4', '-q', '-F', '-d', root, disk, `${DISK_MB}M`);
    rmSync(root, { recursive: true });
    const text = join(work, 'console');
    const append = 'console=ttyS0 quiet panic=-1 mitigations=off no_timer_check rw net.ifnames=0';
    const qemu = spawn(
      'qemu-system-x86_64',
      [
        ...['-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', '2', '-m', String(MEMORY_MB)],
        ...['-nographic', '-nodefaults', '-serial', `file:${text}`],
        ...['-drive', `file=${disk},format=raw,if=virtio,cache=unsafe`],
        ...['-kernel', join(kernel, 'vmlinuz'), '-initrd', initrd],
        ...['-append', `${append} systemd.show_status=0`],
      ],
      { stdio: ['ignore', 'ignore', 'inherit'], timeout: timeoutMs, killSignal: 'SIGKILL' },
    );
    await new Promise((resolve) => qemu.on('close', resolve));
    const output = readFileSync(text, 'utf8');
    const facts = new Map<string, string>();
    for (const match of output.matchAll(/STORY ([\w.-]+)=([^\r\n]*)/g))
      facts.set(match[1], match[2]);
    return { facts, output: output.slice(-OUTPUT_SHOWN) };
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
