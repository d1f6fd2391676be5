/**
 * The ways in which a container comes and goes in the benchmark of a thousand: run to its end,
 * removed while it runs or is paused, removed by itself, on a bridge, on a network of its own, with
 * a port, an exec, a volume, a health check, clients that leave in the middle, a start that fails.
 * Each takes away what it made.
 */
import { request } from 'node:http';
import { askSocket } from '../support/socketClient.ts';
import type { Standalone } from '../support/standalone.ts';
import { until } from '../support/until.ts';
import { API, createProbe, endOf, PROBE, removeProbe, startProbe } from './daemons.ts';
import { callAt } from './swarmClient.ts';

type Kind = (ours: Standalone, at: number) => Promise<void>;

const BRIDGE = { NetworkMode: 'bridge' };
const FIRST_PORT = 20_000;
const GONE_LIMIT_MS = 60_000;
const NS_A_SECOND = 1_000_000_000;

/** On the bridge with a port of the host's. */
export function published(at: number): object {
  return { ...BRIDGE, PortBindings: { '8080/tcp': [{ HostPort: String(FIRST_PORT + at) }] } };
}

async function ended(ours: Standalone, host?: object): Promise<void> {
  const id = await startProbe(ours, ['echo', 'a line'], host);
  await endOf(ours, id);
  await removeProbe(ours, id);
}

async function whileItRuns(ours: Standalone): Promise<void> {
  await removeProbe(ours, await startProbe(ours, ['sleep', '600']));
}

async function withPortAndExec(ours: Standalone, at: number): Promise<void> {
  const id = await startProbe(ours, ['ticks', '0'], published(at));
  const path = `${API}/containers/${id}/exec`;
  const how = { Cmd: [PROBE, 'exit', '0'], AttachStdout: true };
  const exec = await callAt<{ Id: string }>(ours.socket, 'POST', path, how);
  const { status } = await askSocket(ours.socket, 'POST', `${API}/exec/${exec.Id}/start`, {});
  if (status !== 200) throw new Error(`exec: ${status}`);
  await removeProbe(ours, id);
}

async function paused(ours: Standalone): Promise<void> {
  const id = await startProbe(ours, ['ticks', '0'], BRIDGE);
  await callAt(ours.socket, 'POST', `${API}/containers/${id}/pause`);
  await removeProbe(ours, id);
}

/** A name that is no program. */
async function failing(ours: Standalone): Promise<void> {
  const id = await createProbe(ours, { Cmd: ['/bin/nothing'], HostConfig: BRIDGE });
  const { status } = await askSocket(ours.socket, 'POST', `${API}/containers/${id}/start`);
  if (status !== 400) throw new Error(`a start without a program: ${status}`);
  await removeProbe(ours, id);
}

async function byItself(ours: Standalone): Promise<void> {
  const id = await startProbe(ours, ['exit', '0'], { ...BRIDGE, AutoRemove: true });
  await until('the container to remove itself', GONE_LIMIT_MS, async () => {
    const { status } = await askSocket(ours.socket, 'GET', `${API}/containers/${id}/json`);
    return status === 404;
  });
}

async function withVolumeAndHealth(ours: Standalone): Promise<void> {
  const second = NS_A_SECOND;
  const id = await createProbe(ours, {
    Cmd: [PROBE, 'sleep', '600'],
    Volumes: { '/data': {} },
    Healthcheck: { Test: ['CMD', PROBE, 'exit', '0'], Interval: second, Timeout: second },
    HostConfig: { NetworkMode: 'none', Tmpfs: { '/tmp': '' } },
  });
  await callAt(ours.socket, 'POST', `${API}/containers/${id}/start`);
  await callAt(ours.socket, 'POST', `${API}/containers/${id}/kill`);
  await removeProbe(ours, id);
}

async function onItsOwnNetwork(ours: Standalone, at: number): Promise<void> {
  const Name = `bench-${at}`;
  await callAt(ours.socket, 'POST', `${API}/networks/create`, { Name });
  await ended(ours, { NetworkMode: Name });
  await callAt(ours.socket, 'DELETE', `${API}/networks/${Name}`);
}

/** Someone follows its log and its output, and leaves without a word. */
async function withClients(ours: Standalone): Promise<void> {
  const id = await startProbe(ours, ['ticks', '0'], BRIDGE);
  await untilFirstByte(ours.socket, 'GET', `${API}/containers/${id}/logs?stdout=1&follow=1`);
  await untilFirstByte(ours.socket, 'POST', `${API}/containers/${id}/attach?stdout=1&stream=1`);
  await untilFirstByte(ours.socket, 'GET', `${API}/containers/${id}/stats?stream=1`);
  await callAt(ours.socket, 'POST', `${API}/containers/${id}/restart?t=0`);
  await removeProbe(ours, id);
}

function untilFirstByte(socketPath: string, method: string, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, agent: false, method, path }, (answer) => {
      answer.on('error', () => {
        // cut on purpose
      });
      answer.once('data', () => {
        asked.destroy();
        resolve();
      });
    });
    asked.on('error', reject);
    asked.end();
  });
}

export const KINDS: readonly Kind[] = [
  (ours) => ended(ours),
  whileItRuns,
  (ours) => ended(ours, BRIDGE),
  withPortAndExec,
  paused,
  failing,
  byItself,
  withVolumeAndHealth,
  onItsOwnNetwork,
  withClients,
];
