/**
 * What this host's kernel must offer, tried for real in throw-away namespaces. Run by init and join
 * (and told by the daemon's log at start), so that a missing feature is named before it is needed.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { messageOf, SwarmError } from '../base/errors.ts';

const run = promisify(execFile);
const PROBE_TIMEOUT_MS = 10_000;

interface Probe {
  readonly feature: string;
  /** How to get it. */
  readonly mend: string;
  /** Run by sh in fresh mount and network namespaces; exit status 0 = there. */
  readonly script: string;
}

const PROBES: readonly Probe[] = [
  {
    feature: 'overlayfs',
    mend: 'load it with "modprobe overlay", or use a kernel with CONFIG_OVERLAY_FS',
    script:
      'd=$(mktemp -d) && mount -t tmpfs none $d && mkdir $d/l $d/u $d/w $d/m && ' +
      'mount -t overlay -o lowerdir=$d/l,upperdir=$d/u,workdir=$d/w none $d/m; s=$?; ' +
      'umount -R -l $d; rmdir $d; exit $s',
  },
  {
    feature: 'pid, ipc, uts and cgroup namespaces',
    mend: 'use a kernel with CONFIG_NAMESPACES and CONFIG_CGROUPS',
    script: 'unshare --pid --ipc --uts --cgroup --fork true',
  },
  {
    feature: 'virtual Ethernet pairs',
    mend: 'load them with "modprobe veth", or use a kernel with CONFIG_VETH',
    script: 'ip link add probe0 type veth peer name probe1',
  },
  {
    feature: 'bridges',
    mend: 'load them with "modprobe bridge", or use a kernel with CONFIG_BRIDGE',
    script: 'ip link add probe0 type bridge',
  },
  {
    feature: 'VXLAN',
    mend: 'load it with "modprobe vxlan", or use a kernel with CONFIG_VXLAN',
    script: 'ip link add probe0 type vxlan id 1 dstport 4789',
  },
  {
    feature: 'nftables with NAT',
    mend: 'load it with "modprobe nf_tables nft_chain_nat", or use a kernel with CONFIG_NFT_NAT',
    script:
      'nft "add table ip probe; ' +
      'add chain ip probe nat { type nat hook prerouting priority dstnat; }; ' +
      'add rule ip probe nat tcp dport 1 dnat to 127.0.0.1:2"',
  },
  {
    feature: 'seccomp filters',
    mend: 'use a kernel with CONFIG_SECCOMP_FILTER',
    script: 'grep -q ^Seccomp: /proc/self/status',
  },
  {
    feature: 'the memory, cpu and pids cgroup controllers',
    mend: 'mount cgroups, and boot without "cgroup_disable=" on the kernel command line',
    script:
      'if [ -e /sys/fs/cgroup/cgroup.controllers ]; then ' +
      'for c in memory cpu pids; do ' +
      'grep -qw $c /sys/fs/cgroup/cgroup.controllers || exit 1; done; ' +
      'else for c in memory cpu pids; do [ -e /sys/fs/cgroup/$c/cgroup.procs ] || exit 1; done; fi',
  },
];

/**
 * Runs a script in fresh mount and network namespaces; rejects with what it wrote when it fails.
 */
export type RunProbe = (script: string) => Promise<void>;

async function runProbe(script: string): Promise<void> {
  await run('unshare', ['--mount', '--net', 'sh', '-c', script], { timeout: PROBE_TIMEOUT_MS });
}

/** Debian's package of each command that the probes, and later the network, need. */
const PACKAGES: Readonly<Record<string, string>> = {
  unshare: 'util-linux',
  mount: 'mount',
  ip: 'iproute2',
  nft: 'nftables',
};
const NO_COMMAND = /(?:spawn (\w+) ENOENT)|(?:\b(\w+): (?:command )?not found)/;

async function missing(probe: Probe, runScript: RunProbe): Promise<string | undefined> {
  try {
    await runScript(probe.script);
    return undefined;
  } catch (error) {
    const text = messageOf(error);
    const match = NO_COMMAND.exec(text);
    const command = match?.[1] ?? match?.[2];
    if (command !== undefined) {
      return `this host lacks the command "${command}": install ${PACKAGES[command] ?? command}`;
    }
    const reason = text.split('\n').slice(1).join(' ').trim();
    const said = reason === '' ? '' : ` (${reason})`;
    return `this kernel lacks ${probe.feature}${said}: ${probe.mend}`;
  }
}

/** One readable line for each feature that is missing. */
export async function missingFeatures(runScript: RunProbe = runProbe): Promise<string[]> {
  const found = await Promise.all(PROBES.map((probe) => missing(probe, runScript)));
  return [...new Set(found.filter((line) => line !== undefined))];
}

/** SwarmError unsupported that names every missing feature. */
export async function requireKernel(runScript: RunProbe = runProbe): Promise<void> {
  const lines = await missingFeatures(runScript);
  if (lines.length > 0) throw new SwarmError('unsupported', lines.join('; '));
}
