/**
 * The way to the daemon: a unix socket, or TCP, with Docker's environment for certificates
 * (DOCKER_TLS_VERIFY, DOCKER_CERT_PATH). It sends nothing by itself.
 */
import { readFileSync } from 'node:fs';
import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import type { RequestOptions } from 'node:https';
import { request as httpsRequest } from 'node:https';
import { isIP } from 'node:net';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { messageOf, SwarmError } from '../base/errors.ts';

/** What node's requests want to know of where they go. */
export type Target = Pick<
  RequestOptions,
  'socketPath' | 'host' | 'port' | 'ca' | 'cert' | 'key' | 'servername'
>;

export type Variables = Readonly<Record<string, string | undefined>>;

/** unix:///path, tcp://host:port or http://host:port. SwarmError invalid. */
export function targetOf(address: string, variables: Variables): Target {
  if (address.startsWith('unix://')) return { socketPath: address.slice('unix://'.length) };
  const match = /^(?:tcp|http):\/\/(\[[^\]]+\]|[^:/]+):(\d+)\/?$/.exec(address);
  if (match === null) {
    throw new SwarmError(
      'invalid',
      `"${address}" is no address of a daemon: write unix:///path/to/socket or tcp://host:port`,
    );
  }
  const target = { host: match[1].replace(/^\[|\]$/g, ''), port: Number(match[2]) };
  if ((variables.DOCKER_TLS_VERIFY ?? '') === '') return target;
  const directory = variables.DOCKER_CERT_PATH || join(homedir(), '.docker');
  const read = (name: string): string => {
    try {
      return readFileSync(join(directory, name), 'utf8');
    } catch (error) {
      throw new SwarmError(
        'invalid',
        `DOCKER_TLS_VERIFY is set, and ${name} cannot be read (DOCKER_CERT_PATH names the ` +
          `directory of ca.pem, cert.pem and key.pem): ${messageOf(error)}`,
      );
    }
  };
  const files = { ca: read('ca.pem'), cert: read('cert.pem'), key: read('key.pem') };
  // An address is no name that a server could be asked for; it is checked all the same.
  return { ...target, ...files, servername: isIP(target.host) === 0 ? target.host : '' };
}

export function sendTo(
  target: Target,
  options: RequestOptions,
  answered?: (answer: IncomingMessage) => void,
): ClientRequest {
  const send = target.key === undefined ? httpRequest : httpsRequest;
  return send({ ...target, ...options }, answered);
}
