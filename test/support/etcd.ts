/**
 * Debian's etcd as the peer that `bench state` compares with: members on the loopback of a network
 * namespace of their own, clients by mutual TLS with certificates as tsswarm's own nodes have,
 * members by TLS among themselves. What it stores lies beside the lab's state, on the same disk.
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
const FIRST_PORT = 23_790;

export function hasEtcd(): boolean {
  return existsSync(ETCD);
}

export interface EtcdMember {
  /** For clients; on the namespace's loopback. */
  readonly address: string;
  pid(): number;
  /** kill -9. */
  kill(): Promise<void>;
  start(): void;
}

export interface Etcds {
  readonly members: readonly EtcdMember[];
  /** A client's, of the same authority. */
  readonly credentials: NodeCredentials;
  /** Arguments of nsenter that lead to the members' namespace. */
  readonly enter: readonly string[];
  /** Kills all of it and removes what it stored. */
  stop(): Promise<void>;
}

export async function startEtcds(count: number): Promise<Etcds> {
  mkdirSync(dirname(STATE_ROOT), { recursive: true });
  const base = mkdtempSync(join(dirname(STATE_ROOT), 'peer-etcd-'));
  // Process 1 of a pid namespace ends with our end of its pipe, and all members with it.
  const script = 'ip link set lo up; echo up; exec cat';
  const namespaces = ['--net', '--pid', '--fork', '--kill-child=KILL'];
  const holder = spawn('unshare', [...namespaces, 'sh', '-c', script], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  await once(holder.stdout, 'data');
  const enter = ['-t', String(onlyChild(holder)), '-n'];
  const authority = await TestAuthority.make(clock.wallMs());
  const credentials = await authority.node('client', 'manager', clock.wallMs());
  const urls = Array.from({ length: count }, (_, at) => `https://127.0.0.1:${peerPort(at)}`);
  const cluster = urls.map((url, at) => `e${at}=${url}`).join(',');
  const members: EtcdMember[] = [];
  for (let at = 0; at < count; at += 1) {
    const own = await authority.node(`e${at}`, 'manager', clock.wallMs());
    members.push(member(join(base, `e${at}`), at, own, enter, cluster));
  }
  return {
    members,
    credentials,
    enter,
    stop: async () => {
      for (const each of members) await each.kill();
      await killed(holder);
      rmSync(base, { recursive: true, force: true });
    },
  };
}

function peerPort(at: number): number {
  return FIRST_PORT + 2 * at + 1;
}

function member(
  directory: string,
  at: number,
  own: NodeCredentials,
  enter: readonly string[],
  cluster: string,
): EtcdMember {
  mkdirSync(directory, { mode: 0o700 });
  const file = (name: string, text: string): string => {
    writeFileSync(join(directory, name), text, { mode: 0o600 });
    return join(directory, name);
  };
  const address = `127.0.0.1:${FIRST_PORT + 2 * at}`;
  const peerUrl = `https://127.0.0.1:${peerPort(at)}`;
  const flags = [
    ...['--name', `e${at}`, '--data-dir', join(directory, 'data')],
    ...['--listen-client-urls', `https://${address}`],
    ...['--advertise-client-urls', `https://${address}`],
    ...['--listen-peer-urls', peerUrl, '--initial-advertise-peer-urls', peerUrl],
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
    const command = ['nsenter', ...enter, '-p', ETCD, ...flags];
    child = spawn('setsid', command, { stdio: ['ignore', log, log] });
    closeSync(log);
  };
  start();
  return {
    address,
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
