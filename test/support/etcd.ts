/**
 * Debian's etcd as the peer that `bench state` compares with: a member in the network namespace of
 * each of the lab's hosts, as tsswarm's members are, so that what they say to each other takes the
 * same way; clients by mutual TLS with certificates as tsswarm's own nodes have, members by TLS
 * among themselves. What it stores lies beside the lab's state, on the same disk.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { STATE_ROOT } from '../../deploy/hosts/layout.ts';
import type { NodeCredentials } from '../../proto/credentials.ts';
import { TestAuthority } from './certificates.ts';
import { clock } from './lab.ts';

const ETCD = '/usr/bin/etcd';
const CLIENT_PORT = 23_790;
const PEER_PORT = 23_791;
const SCRIPT = 'echo up; exec cat';

export function hasEtcd(): boolean {
  return existsSync(ETCD);
}

export interface EtcdMember {
  /** For clients. */
  readonly address: string;
  /** Arguments of nsenter that lead to its network namespace. */
  readonly enter: readonly string[];
  pid(): number;
  /** kill -9. */
  kill(): Promise<void>;
  start(): void;
}

export interface Etcds {
  readonly members: readonly EtcdMember[];
  /** A client's, of the same authority. */
  readonly credentials: NodeCredentials;
  /** Kills all of it and removes what it stored. */
  stop(): Promise<void>;
}

/** Where a member runs. */
export interface EtcdPlace {
  readonly address: string;
  /** A process in the network namespace of that address. */
  readonly pid: number;
}

export async function startEtcds(places: readonly EtcdPlace[]): Promise<Etcds> {
  mkdirSync(dirname(STATE_ROOT), { recursive: true });
  const base = mkdtempSync(join(dirname(STATE_ROOT), 'peer-etcd-'));
  // Process 1 of a pid namespace ends with our end of its pipe, and all members with it.
  const holder = spawn('unshare', ['--pid', '--fork', '--kill-child=KILL', 'sh', '-c', SCRIPT], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  await once(holder.stdout, 'data');
  const inside = onlyChild(holder);
  const authority = await TestAuthority.make(clock.wallMs());
  const credentials = await authority.node('client', 'manager', clock.wallMs());
  const cluster = places.map(({ address }, at) => `e${at}=${peerUrl(address)}`).join(',');
  const members: EtcdMember[] = [];
  for (const [at, place] of places.entries()) {
    const own = await authority.node(`e${at}`, 'manager', clock.wallMs());
    members.push(member(join(base, `e${at}`), at, own, place, inside, cluster));
  }
  return {
    members,
    credentials,
    stop: async () => {
      for (const each of members) await each.kill();
      await killed(holder);
      rmSync(base, { recursive: true, force: true });
    },
  };
}

function peerUrl(address: string): string {
  return `https://${address}:${PEER_PORT}`;
}

/** `holder`: a process in the pid namespace that all members end with. */
function member(
  directory: string,
  at: number,
  own: NodeCredentials,
  place: EtcdPlace,
  holder: number,
  cluster: string,
): EtcdMember {
  mkdirSync(directory, { mode: 0o700 });
  const file = (name: string, text: string): string => {
    writeFileSync(join(directory, name), text, { mode: 0o600 });
    return join(directory, name);
  };
  const address = `${place.address}:${CLIENT_PORT}`;
  const peer = peerUrl(place.address);
  const enter = ['-t', String(place.pid), '-n'];
  const flags = [
    ...['--name', `e${at}`, '--data-dir', join(directory, 'data')],
    ...['--listen-client-urls', `https://${address}`],
    ...['--advertise-client-urls', `https://${address}`],
    ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
    ...['--initial-cluster', cluster, '--initial-cluster-state', 'new'],
    ...['--cert-file', file('node.crt', own.certificate)],
    ...['--key-file', file('node.key', own.privateKey)],
    ...['--trusted-ca-file', file('root.crt', own.rootCertificate), '--client-cert-auth'],
    // A node's certificate names no address, which etcd asks of its members among themselves.
    ...['--peer-auto-tls', '--enable-grpc-gateway=false', '--logger', 'zap'],
  ];
  let child: ChildProcess | undefined;
  const start = (): void => {
    const log = openSync(join(directory, 'log'), 'a');
    // A session each, as the lab's daemons have: the kernel shares time out among sessions.
    const net = `--net=/proc/${place.pid}/ns/net`;
    const command = ['nsenter', '-t', String(holder), '-p', net, ETCD, ...flags];
    child = spawn('setsid', command, { stdio: ['ignore', log, log] });
    closeSync(log);
  };
  start();
  return {
    address,
    enter,
    start,
    pid: () => (child === undefined ? 0 : onlyChild(child)),
    kill: async () => {
      if (child === undefined || child.exitCode !== null) return;
      const gone = once(child, 'exit');
      process.kill(onlyChild(child), 'SIGKILL');
      await gone;
    },
  };
}

/** What a process that only entered namespaces has started there. */
function onlyChild({ pid }: ChildProcess): number {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim());
}

async function killed(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}
