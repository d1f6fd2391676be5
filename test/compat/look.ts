/**
 * What cases about the swarm, networks, images and the system look at beside containers: a host's
 * disk and certificate, its sockets, the gateway's namespace, and files that cases write.
 */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { outcome } from '../support/lab.ts';
import { within as insideHost, layoutOf } from '../support/labHosts.ts';
import { pidOf, within, work } from './world.ts';

/** A command inside a host, wanted to succeed; its standard output without the last newline. */
export async function onHost(host: string, ...command: string[]): Promise<string> {
  const { code, stdout, stderr } = await insideHost(host, ...command);
  assert.equal(code, 0, `${host}: ${command.join(' ')}: ${stderr}`);
  return stdout.trimEnd();
}

/** Where a host's bridges and overlays are. */
export function inGateway(host: string, ...command: string[]): Promise<string> {
  const namespace = join(layoutOf(host).execRoot, 'netns', 'gateway');
  return onHost(host, 'nsenter', `--net=${namespace}`, ...command);
}

/** Sockets that listen on TCP: 'address:port'. */
export async function listening(host: string): Promise<string[]> {
  const text = await onHost(host, 'ss', '-Hltn');
  return text.split('\n').map((line) => line.trim().split(/\s+/)[3]);
}

export function dataPath(host: string, ...names: string[]): string {
  return join(layoutOf(host).dataRoot, ...names);
}

export function filesIn(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory) : [];
}

export const readData = (host: string, ...names: string[]): string =>
  readFileSync(dataPath(host, ...names), 'utf8');

/** What the host shows to the others. */
export function certificateOf(host: string): X509Certificate {
  return new X509Certificate(readData(host, 'swarm', 'node.crt'));
}

export function daysOf({ validFrom, validTo }: X509Certificate): number {
  return (Date.parse(validTo) - Date.parse(validFrom)) / 86_400_000;
}

/** A file of this machine that docker is given by name. */
export function written(name: string, text: string | Uint8Array): string {
  const path = join(work, name);
  writeFileSync(path, text);
  return path;
}

/** The addresses of a container's interfaces but loopback, as its kernel has them. */
export async function addressesOf(host: string, container: string): Promise<string[]> {
  const text = await within(await pidOf(host, container), 'ip', '-o', 'addr', 'show');
  return [...text.matchAll(/^\d+: (?!lo\b).*inet6? (\S+)/gm)].map((match) => match[1]);
}

/** Whether a container's kernel gets an answer from an address, within a second. */
export async function pings(host: string, container: string, target: string): Promise<boolean> {
  const pid = String(await pidOf(host, container));
  const ping = ['ping', '-c1', '-W1', target];
  return (await outcome('nsenter', ['-t', pid, '-n', ...ping])).code === 0;
}
