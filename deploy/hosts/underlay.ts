/**
 * The lab's network: a bridge in a namespace of its own, one port per host, and an outside client
 * in another. A cut drops every packet of a port at the bridge, silently: the host's link stays up.
 */
import { existsSync } from 'node:fs';
import { CLIENT_ADDRESS, CLIENT_NAMESPACE, type HostLayout, UNDERLAY_NAMESPACE } from './layout.ts';
import { kill, run, succeeds } from './system.ts';

const PREFIX_LENGTH = 24;

const CUT_RULES = `
table bridge lab {
  set cut { type ifname; }
  chain forward {
    type filter hook forward priority 0;
    iifname @cut drop
    oifname @cut drop
  }
}`;

function exists(namespace: string): boolean {
  return existsSync(`/run/netns/${namespace}`);
}

/** False for a name without a namespace behind it, as a killed command or a reboot leaves. */
function whole(namespace: string): boolean {
  return exists(namespace) && succeeds('ip', 'netns', 'exec', namespace, 'true');
}

function inUnderlay(...command: string[]): string {
  return run('ip', 'netns', 'exec', UNDERLAY_NAMESPACE, ...command);
}

/** Makes the bridge and the client; idempotent. */
export function raiseUnderlay(): void {
  if (!exists(UNDERLAY_NAMESPACE)) {
    run('ip', 'netns', 'add', UNDERLAY_NAMESPACE);
    run('ip', '-n', UNDERLAY_NAMESPACE, 'link', 'add', 'br0', 'type', 'bridge');
    run('ip', '-n', UNDERLAY_NAMESPACE, 'link', 'set', 'br0', 'up');
    // The bridge forwards frames; this namespace's own filters must not see them as IP packets.
    const filter = '/proc/sys/net/bridge/bridge-nf-call-iptables';
    inUnderlay('sh', '-c', `[ ! -e ${filter} ] || echo 0 > ${filter}`);
    inUnderlay('nft', CUT_RULES);
  }
  if (!exists(CLIENT_NAMESPACE)) {
    run('ip', 'netns', 'add', CLIENT_NAMESPACE);
    const peer = ['peer', 'name', 'eth0', 'netns', CLIENT_NAMESPACE];
    run('ip', '-n', UNDERLAY_NAMESPACE, 'link', 'add', 'pc', 'type', 'veth', ...peer);
    run('ip', '-n', UNDERLAY_NAMESPACE, 'link', 'set', 'pc', 'master', 'br0', 'up');
    run('ip', '-n', CLIENT_NAMESPACE, 'link', 'set', 'lo', 'up');
    const address = `${CLIENT_ADDRESS}/${PREFIX_LENGTH}`;
    run('ip', '-n', CLIENT_NAMESPACE, 'addr', 'add', address, 'dev', 'eth0');
    run('ip', '-n', CLIENT_NAMESPACE, 'link', 'set', 'eth0', 'up');
  }
}

/** Plugs the host whose first process is `pid` into the bridge, uncut. */
export function plug(host: HostLayout, pid: number): void {
  heal(host);
  if (succeeds('ip', '-n', UNDERLAY_NAMESPACE, 'link', 'show', host.port)) {
    run('ip', '-n', UNDERLAY_NAMESPACE, 'link', 'del', host.port);
  }
  // A host keeps its network card over a power-off: others need not learn another address.
  const card = `02:00:0a:63:00:${(10 + host.index).toString(16).padStart(2, '0')}`;
  const peer = ['peer', 'name', 'eth0', 'address', card, 'netns', String(pid)];
  run('ip', '-n', UNDERLAY_NAMESPACE, 'link', 'add', host.port, 'type', 'veth', ...peer);
  run('ip', '-n', UNDERLAY_NAMESPACE, 'link', 'set', host.port, 'master', 'br0', 'up');
  const inside = ['-t', String(pid), '-n', 'ip'];
  run('nsenter', ...inside, 'addr', 'add', `${host.address}/${PREFIX_LENGTH}`, 'dev', 'eth0');
  run('nsenter', ...inside, 'link', 'set', 'eth0', 'up');
}

export function cut(host: HostLayout): void {
  inUnderlay('nft', `add element bridge lab cut { "${host.port}" }`);
}

export function heal(host: HostLayout): void {
  if (isCut(host)) inUnderlay('nft', `delete element bridge lab cut { "${host.port}" }`);
}

export function isCut(host: HostLayout): boolean {
  if (!whole(UNDERLAY_NAMESPACE)) return false;
  return inUnderlay('nft', 'list', 'set', 'bridge', 'lab', 'cut').includes(`"${host.port}"`);
}

/** Ends what runs in the client and the underlay and removes both. */
export function dropUnderlay(): void {
  for (const namespace of [CLIENT_NAMESPACE, UNDERLAY_NAMESPACE]) {
    if (!exists(namespace)) continue;
    if (whole(namespace)) {
      for (const pid of run('ip', 'netns', 'pids', namespace).split('\n')) {
        if (pid !== '') kill(Number(pid));
      }
    }
    run('ip', 'netns', 'del', namespace);
  }
}
