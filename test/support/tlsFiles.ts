/** A CA, a server's and a client's certificate as openssl makes them, for tests of TLS on TCP. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface KeyPair {
  readonly certificate: string;
  readonly privateKey: string;
}

export interface TlsFiles {
  readonly ca: string;
  /** For 'localhost', 127.0.0.1 and the addresses given. */
  readonly server: KeyPair;
  readonly client: KeyPair;
}

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

export async function certificates(addresses: readonly string[] = []): Promise<TlsFiles> {
  const directory = mkdtempSync(join(tmpdir(), 'tls-files-'));
  const at = (name: string): string => join(directory, name);
  const openssl = (...args: string[]): Promise<unknown> => run('openssl', args);
  try {
    await openssl(
      ...['req', '-x509', ...KEY, '-days', '2', '-subj', '/CN=test-ca'],
      ...['-keyout', at('ca.key'), '-out', at('ca.pem')],
    );
    const issue = async (name: string, usage: string, names: string): Promise<KeyPair> => {
      const subject = ['-subj', `/CN=${name}`];
      const files = ['-keyout', at(`${name}.key`), '-out', at(`${name}.csr`)];
      await openssl('req', ...KEY, ...subject, ...files);
      writeFileSync(at('ext'), `extendedKeyUsage=${usage}\nsubjectAltName=${names}\n`);
      await openssl(
        ...['x509', '-req', '-in', at(`${name}.csr`), '-CA', at('ca.pem'), '-CAkey', at('ca.key')],
        ...['-CAcreateserial', '-days', '2', '-extfile', at('ext'), '-out', at(`${name}.pem`)],
      );
      const read = (file: string): string => readFileSync(at(file), 'utf8');
      return { certificate: read(`${name}.pem`), privateKey: read(`${name}.key`) };
    };
    const ips = ['127.0.0.1', ...addresses].map((address) => `IP:${address}`);
    return {
      ca: readFileSync(at('ca.pem'), 'utf8'),
      server: await issue('server', 'serverAuth', ['DNS:localhost', ...ips].join(',')),
      client: await issue('client', 'clientAuth', 'DNS:client'),
    };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
