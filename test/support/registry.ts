/**
 * Debian's docker-registry for tests, in the caller's network namespace or another: plain, with TLS
 * from an authority of its own, with a password file, or with tokens of a small token server that
 * counts what it gave.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createHash, createPrivateKey, createSign, X509Certificate } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import type http from 'node:http';
import { join } from 'node:path';
import { until } from './until.ts';

const LISTEN_LIMIT_MS = 10_000;

export interface RegistryConfig {
  /** An existing directory; storage, keys and configuration lie in it. */
  readonly directory: string;
  readonly port: number;
  readonly tls?: boolean;
  /** 'user:password'. */
  readonly basic?: string;
  /** URL of the token server; its certificate is in `directory`. */
  readonly tokenRealm?: string;
}

/** Writes what the registry needs; returns the command that runs it. */
export function registryCommand(config: RegistryConfig): string[] {
  const { directory, port } = config;
  mkdirSync(join(directory, 'storage'), { recursive: true });
  const lines = [
    'version: 0.1',
    'log: {level: error, accesslog: {disabled: true}}',
    `storage: {filesystem: {rootdirectory: ${directory}/storage}, delete: {enabled: true}}`,
    `http:\n  addr: "127.0.0.1:${port}"`,
  ];
  if (config.tls === true) {
    makeCertificates(directory);
    lines.push(`  tls: {certificate: ${directory}/cert.pem, key: ${directory}/key.pem}`);
  }
  if (config.basic !== undefined) {
    const [user, password] = config.basic.split(':');
    const hashed = execFileSync('python3', [
      '-c',
      'import crypt,sys; print(crypt.crypt(sys.argv[1], crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)))',
      password,
    ]);
    writeFileSync(join(directory, 'htpasswd'), `${user}:${hashed.toString().trim()}\n`);
    lines.push(`auth: {htpasswd: {realm: test, path: ${directory}/htpasswd}}`);
  }
  if (config.tokenRealm !== undefined) {
    makeCertificates(directory);
    lines.push(
      `auth: {token: {realm: "${config.tokenRealm}", service: test-registry, issuer: test, ` +
        `rootcertbundle: ${directory}/cert.pem}}`,
    );
  }
  writeFileSync(join(directory, 'registry.yml'), `${lines.join('\n')}\n`);
  return ['docker-registry', 'serve', join(directory, 'registry.yml')];
}

/** ca.pem, cert.pem and key.pem for 127.0.0.1. */
export function makeCertificates(directory: string): void {
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { cwd: directory, stdio: 'ignore' });
  };
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  openssl('req', '-x509', ...ec, '-subj', '/CN=ca', '-keyout', 'ca.key', '-out', 'ca.pem');
  openssl('req', ...ec, '-subj', '/CN=registry', '-keyout', 'key.pem', '-out', 'request.pem');
  writeFileSync(join(directory, 'names'), 'subjectAltName=IP:127.0.0.1,DNS:localhost\n');
  const signed = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-extfile', 'names'];
  openssl('x509', '-req', '-days', '2', '-in', 'request.pem', ...signed, '-out', 'cert.pem');
}

/** Gives tokens (docker/distribution, "Token Authentication") to whoever has the password. */
export class TokenServer {
  readonly #directory: string;
  readonly #basic: string;
  readonly #lifeSeconds: number;
  /** Scopes asked for, in order. */
  readonly scopes: string[] = [];

  constructor(directory: string, basic: string, lifeSeconds: number) {
    this.#directory = directory;
    this.#basic = `Basic ${Buffer.from(basic).toString('base64')}`;
    this.#lifeSeconds = lifeSeconds;
  }

  readonly handler = (request: http.IncomingMessage, response: http.ServerResponse): void => {
    const url = new URL(request.url ?? '/', 'http://token');
    const scopes = url.searchParams.getAll('scope').flatMap((scope) => scope.split(' '));
    this.scopes.push(...scopes);
    const { authorization } = request.headers;
    if (authorization !== undefined && authorization !== this.#basic) {
      response.writeHead(401).end('{"details":"incorrect username or password"}');
      return;
    }
    if (authorization === undefined) {
      response.writeHead(401).end('{"errors":[{"code":"UNAUTHORIZED","message":"log in"}]}');
      return;
    }
    response.writeHead(200, { 'Content-Type': 'application/json' });
    response.end(JSON.stringify({ token: this.#token(scopes), expires_in: this.#lifeSeconds }));
  };

  #token(scopes: readonly string[]): string {
    const certificate = new X509Certificate(readFileSync(join(this.#directory, 'cert.pem')));
    const access = scopes.map((scope) => {
      const [type, name, actions] = [
        scope.slice(0, scope.indexOf(':')),
        scope.slice(scope.indexOf(':') + 1, scope.lastIndexOf(':')),
        scope.slice(scope.lastIndexOf(':') + 1),
      ];
      return { type, name, actions: actions.split(',') };
    });
    const now = Math.floor(Date.parse(new Date().toISOString()) / 1000);
    const part = (value: object): string =>
      Buffer.from(JSON.stringify(value)).toString('base64url');
    const header = { typ: 'JWT', alg: 'ES256', x5c: [certificate.raw.toString('base64')] };
    const claims = {
      iss: 'test',
      sub: 'me',
      aud: 'test-registry',
      exp: now + this.#lifeSeconds,
      nbf: now - 60,
      iat: now,
      jti: createHash('sha256').update(String(this.scopes.length)).digest('hex'),
      access,
    };
    const signed = `${part(header)}.${part(claims)}`;
    const key = createPrivateKey(readFileSync(join(this.#directory, 'key.pem')));
    const signature = createSign('SHA256')
      .update(signed)
      .sign({ key, dsaEncoding: 'ieee-p1363' })
      .toString('base64url');
    return `${signed}.${signature}`;
  }
}

/** Waits until something listens on the TCP port, in the network namespace of process `pid`. */
export async function untilListening(port: number, pid: number | 'self' = 'self'): Promise<void> {
  const hex = port.toString(16).toUpperCase().padStart(4, '0');
  // proc_pid_net(5): the local address, the remote one, the state; 0A is LISTEN.
  const listening = new RegExp(`^ *\\d+: [0-9A-F]+:${hex} [0-9A-F:]+ 0A `, 'm');
  await until(`port ${port} to be listened on`, LISTEN_LIMIT_MS, () =>
    ['tcp', 'tcp6'].some((table) =>
      listening.test(readFileSync(`/proc/${pid}/net/${table}`, 'utf8')),
    ),
  );
}

/** Runs `command` until it is killed; the caller waits for its port. */
export function runRegistry(command: readonly string[]): ChildProcess {
  return spawn(command[0], command.slice(1), { stdio: ['ignore', 'ignore', 'inherit'] });
}
