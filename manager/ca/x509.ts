/**
 * Keys and certificates: the self-signed root, a node's key and signing request, a node's
 * certificate; ECDSA P-256 throughout. @peculiar/x509's only door, loaded when first used because
 * most processes never issue anything. It decides who gets what nowhere; see ca/server.
 */
import {
  createHash,
  createPrivateKey,
  type KeyObject,
  webcrypto,
  X509Certificate,
} from 'node:crypto';
import { DAY_MS, HOUR_MS } from '../../base/duration.ts';
import { SwarmError } from '../../base/errors.ts';
import type { Random } from '../../base/random.ts';
import type { NodeRole } from '../../model/types.ts';
import { organizationalUnit, roleOfUnit, TLS_SERVER_NAME } from '../../proto/credentials.ts';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const ROOT_LIFETIME_MS = 20 * 365 * DAY_MS;
/** Certificates begin an hour ago, so that a host whose clock is behind accepts them. */
export const BACKDATE_MS = HOUR_MS;
const SERIAL_BYTES = 19;

type Library = typeof import('@peculiar/x509');

let loaded: Promise<Library> | undefined;

/**
 * The library's dependency container will not load without the Reflect metadata calls, of which it
 * uses these three on classes. Given only where no fuller implementation is there already.
 */
function provideReflectMetadata(): void {
  const reflect = Reflect as unknown as Record<string, unknown>;
  if (reflect['getMetadata'] !== undefined) return;
  const known = new WeakMap<object, Map<string, unknown>>();
  const get = (key: string, target: object): unknown => known.get(target)?.get(key);
  reflect['getMetadata'] = get;
  reflect['getOwnMetadata'] = get;
  reflect['defineMetadata'] = (key: string, value: unknown, target: object): void => {
    known.set(target, (known.get(target) ?? new Map<string, unknown>()).set(key, value));
  };
}

function library(): Promise<Library> {
  provideReflectMetadata();
  loaded ??= import('@peculiar/x509').then((x509) => {
    x509.cryptoProvider.set(webcrypto as never);
    return x509;
  });
  return loaded;
}

export interface KeyedCertificate {
  readonly certificate: string;
  readonly privateKey: string;
}

function pem(label: string, der: ArrayBuffer): string {
  const body = Buffer.from(der).toString('base64').replace(/.{64}/g, '$&\n').trimEnd();
  return `-----BEGIN ${label}-----\n${body}\n-----END ${label}-----\n`;
}

function derOf(text: string, label: string): Buffer {
  const match = new RegExp(`-----BEGIN ${label}-----([^-]+)-----END ${label}-----`).exec(text);
  if (match === null) throw new SwarmError('invalid', `no ${label} in the PEM text given`);
  return Buffer.from(match[1], 'base64');
}

async function newKeys(): Promise<{ keys: webcrypto.CryptoKeyPair; privateKey: string }> {
  const keys = (await webcrypto.subtle.generateKey(ALGORITHM, true, [
    'sign',
    'verify',
  ])) as webcrypto.CryptoKeyPair;
  const der = (await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)) as ArrayBuffer;
  return { keys, privateKey: pem('PRIVATE KEY', der) };
}

/** Positive, unique enough (152 random bits), lower-case hex. */
function newSerial(random: Random): string {
  const bytes = Buffer.from(random.bytes(SERIAL_BYTES));
  bytes[0] = (bytes[0] & 0x7f) | 0x40; // no leading zero: every reader prints it the same
  return bytes.toString('hex');
}

/** A new root for a new cluster, valid for 20 years. */
export async function createRoot(nowMs: number, random: Random): Promise<KeyedCertificate> {
  const x509 = await library();
  const { keys, privateKey } = await newKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: newSerial(random),
    name: 'CN=tsswarm-ca',
    notBefore: new Date(nowMs - BACKDATE_MS),
    notAfter: new Date(nowMs + ROOT_LIFETIME_MS),
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [
      // One below it: the root that may take its place one day, cross-signed.
      new x509.BasicConstraintsExtension(true, 1, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificate: `${certificate.toString('pem')}\n`, privateKey };
}

export interface KeyedRequest {
  readonly csr: string;
  readonly privateKey: string;
}

/** A fresh key and the request to certify it; the request's own subject means nothing. */
export async function createRequest(): Promise<KeyedRequest> {
  const x509 = await library();
  const { keys, privateKey } = await newKeys();
  const csr = await x509.Pkcs10CertificateRequestGenerator.create({
    name: 'CN=tsswarm-node',
    keys,
    signingAlgorithm: ALGORITHM,
  });
  return { csr: `${csr.toString('pem')}\n`, privateKey };
}

export interface IssueOptions {
  readonly root: KeyedCertificate;
  readonly csr: string;
  readonly nodeId: string;
  readonly role: NodeRole;
  readonly clusterId: string;
  readonly nowMs: number;
  readonly lifetimeMs: number;
  readonly random: Random;
}

export interface IssuedCertificate {
  readonly certificate: string;
  readonly serial: string;
}

/**
 * A node's certificate: CN, OU and O are the issuer's choice, never the request's. SwarmError
 * invalid when the request is malformed, not signed by its own key, or its key not ECDSA P-256.
 */
export async function issueCertificate(options: IssueOptions): Promise<IssuedCertificate> {
  const x509 = await library();
  const publicKey = await requestedKey(x509, options.csr);
  const root = new x509.X509Certificate(options.root.certificate);
  const signingKey = await importSigningKey(options.root.privateKey);
  const serial = newSerial(options.random);
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serial,
    subject: [
      { O: [options.clusterId] },
      { OU: [organizationalUnit(options.role)] },
      { CN: [options.nodeId] },
    ],
    issuer: root.subject,
    notBefore: new Date(options.nowMs - BACKDATE_MS),
    notAfter: new Date(options.nowMs + options.lifetimeMs),
    publicKey,
    signingKey,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([
        x509.ExtendedKeyUsage.serverAuth,
        x509.ExtendedKeyUsage.clientAuth,
      ]),
      new x509.SubjectAlternativeNameExtension([
        { type: 'dns', value: TLS_SERVER_NAME },
        { type: 'dns', value: options.nodeId },
      ]),
      await x509.AuthorityKeyIdentifierExtension.create(root.publicKey),
    ],
  });
  return { certificate: `${certificate.toString('pem')}\n`, serial };
}

async function importSigningKey(privateKeyPem: string): Promise<webcrypto.CryptoKey> {
  const der = derOf(privateKeyPem, 'PRIVATE KEY');
  const key = await webcrypto.subtle.importKey('pkcs8', der, ALGORITHM, false, ['sign']);
  return key as webcrypto.CryptoKey;
}

/** `next`'s key under `old`'s signature: who trusts the old root alone trusts the new one by it. */
export async function crossSign(
  old: KeyedCertificate,
  next: string,
  nowMs: number,
  random: Random,
): Promise<string> {
  const x509 = await library();
  const issuer = new x509.X509Certificate(old.certificate);
  const subject = new x509.X509Certificate(next);
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: newSerial(random),
    subject: subject.subject,
    issuer: issuer.subject,
    notBefore: new Date(nowMs - BACKDATE_MS),
    notAfter: new Date(Math.min(subject.notAfter.getTime(), issuer.notAfter.getTime())),
    publicKey: subject.publicKey,
    signingKey: await importSigningKey(old.privateKey),
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      await x509.SubjectKeyIdentifierExtension.create(subject.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey),
    ],
  });
  return `${certificate.toString('pem')}\n`;
}

/**
 * A root that a user gives, its key in the form that is kept. SwarmError invalid says what is wrong
 * with the pair: not one certificate, no CA, expired, another's key, a key that is not ECDSA P-256.
 */
export function givenRoot(certificatePem: string, keyPem: string, nowMs: number): KeyedCertificate {
  const wrong = (why: string): SwarmError => new SwarmError('invalid', `CAConfig: ${why}`);
  const pems = certificatePem.match(/-----BEGIN CERTIFICATE-----/g) ?? [];
  if (pems.length !== 1) throw wrong('SigningCACert must hold one certificate');
  let certificate: X509Certificate;
  let key: KeyObject;
  try {
    certificate = new X509Certificate(certificatePem);
    key = createPrivateKey(keyPem);
  } catch (error) {
    throw wrong(`SigningCACert or SigningCAKey cannot be read: ${String(error)}`);
  }
  if (!certificate.ca) throw wrong('SigningCACert is not the certificate of a CA');
  if (!certificate.checkPrivateKey(key)) {
    throw wrong('SigningCAKey is not the key of SigningCACert');
  }
  if (!certificate.verify(certificate.publicKey)) {
    throw wrong('SigningCACert is not self-signed: give a root certificate');
  }
  if (Date.parse(certificate.validTo) <= nowMs) throw wrong('SigningCACert has expired');
  if (key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') {
    throw wrong('SigningCAKey must be an ECDSA P-256 key');
  }
  return {
    certificate: `${certificatePem.trim()}\n`,
    privateKey: String(key.export({ type: 'pkcs8', format: 'pem' })),
  };
}

async function requestedKey(x509: Library, csrPem: string): Promise<webcrypto.CryptoKey> {
  try {
    const csr = new x509.Pkcs10CertificateRequest(csrPem);
    if (!(await csr.verify())) throw new Error('its signature is not of its own key');
    return await csr.publicKey.export(ALGORITHM, ['verify']);
  } catch (error) {
    throw new SwarmError('invalid', `bad certificate request: ${String(error)}`, { cause: error });
  }
}

export interface CertificateFacts {
  readonly nodeId: string;
  readonly role: NodeRole | undefined;
  readonly clusterId: string;
  readonly serial: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** What a node's certificate says of itself. SwarmError corrupt when it is no certificate. */
export function readCertificate(certificatePem: string): CertificateFacts {
  const certificate = parseCertificate(certificatePem);
  const field = (name: string): string =>
    new RegExp(`^${name}=(.*)$`, 'm').exec(certificate.subject)?.[1] ?? '';
  return {
    nodeId: field('CN'),
    role: roleOfUnit(field('OU')),
    clusterId: field('O'),
    serial: certificate.serialNumber.toLowerCase(),
    notBeforeMs: Date.parse(certificate.validFrom),
    notAfterMs: Date.parse(certificate.validTo),
  };
}

/** The DER of whom the certificate names as its subject. */
export function subjectDer(certificatePem: string): Buffer {
  const [certificate] = derElements(parseCertificate(certificatePem).raw);
  const [signed] = derElements(certificate.content);
  // version, serial number, algorithm, issuer, validity, subject
  return derElements(signed.content)[5].whole;
}

interface DerElement {
  readonly whole: Buffer;
  readonly content: Buffer;
}

/** The elements that follow each other in valid DER. */
function derElements(der: Buffer): DerElement[] {
  const found: DerElement[] = [];
  for (let at = 0; at < der.length; ) {
    const first = der[at + 1];
    const more = first < 0x80 ? 0 : first & 0x7f;
    const length = more === 0 ? first : der.readUIntBE(at + 2, more);
    const start = at + 2 + more;
    found.push({
      whole: der.subarray(at, start + length),
      content: der.subarray(start, start + length),
    });
    at = start + length;
  }
  return found;
}

/** SHA-256 of the certificate's DER, as a join token carries it. */
export function certificateDigest(certificatePem: string): Buffer {
  return createHash('sha256').update(parseCertificate(certificatePem).raw).digest();
}

/** Whether the key is the certificate's. SwarmError corrupt when it is no key. */
export function isKeyOf(privateKeyPem: string, certificatePem: string): boolean {
  const certificate = parseCertificate(certificatePem);
  try {
    return certificate.checkPrivateKey(createPrivateKey(privateKeyPem));
  } catch (error) {
    throw new SwarmError('corrupt', `not a private key: ${String(error)}`, { cause: error });
  }
}

function parseCertificate(certificatePem: string): X509Certificate {
  try {
    return new X509Certificate(certificatePem);
  } catch (error) {
    throw new SwarmError('corrupt', `not a certificate: ${String(error)}`, { cause: error });
  }
}
