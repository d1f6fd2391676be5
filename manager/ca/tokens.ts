/**
 * Join tokens: SWMTKN-1-<base 36 SHA-256 of the root certificate, 50>-<base 36 secret, 25>. The
 * digest lets a joining host check the CA before it sends anything; the secret says that it may
 * join and as what. Secrets are compared in constant time.
 */
import { timingSafeEqual } from 'node:crypto';
import { SwarmError } from '../../base/errors.ts';
import type { Random } from '../../base/random.ts';
import type { Cluster, NodeRole } from '../../model/types.ts';
import type { JoinTokens } from '../control/types.ts';
import { certificateDigest } from './x509.ts';

const PREFIX = 'SWMTKN-1-';
const DIGEST_CHARACTERS = 50;
const SECRET_CHARACTERS = 25;
const SECRET_BYTES = 16;
const PATTERN = /^SWMTKN-1-([0-9a-z]{50})-([0-9a-z]{25})$/;

export interface JoinToken {
  readonly digest: string;
  readonly secret: string;
}

function base36(bytes: Uint8Array, characters: number): string {
  return BigInt(`0x${Buffer.from(bytes).toString('hex')}`)
    .toString(36)
    .padStart(characters, '0');
}

/** 128 random bits as 25 characters. */
export function newJoinSecret(random: Random): string {
  return base36(random.bytes(SECRET_BYTES), SECRET_CHARACTERS);
}

function digestOf(rootCertificate: string): string {
  return base36(certificateDigest(rootCertificate), DIGEST_CHARACTERS);
}

export function joinTokens(cluster: Cluster): JoinTokens {
  const digest = digestOf(cluster.rootCaCertificate);
  return {
    worker: `${PREFIX}${digest}-${cluster.joinSecretWorker}`,
    manager: `${PREFIX}${digest}-${cluster.joinSecretManager}`,
  };
}

/** SwarmError invalid when it is not shaped like a token. */
export function parseToken(text: string): JoinToken {
  const match = PATTERN.exec(text.trim());
  if (match === null) {
    throw new SwarmError(
      'invalid',
      'not a join token: copy it whole from "tsswarm join-token worker" (or manager) on a manager',
    );
  }
  return { digest: match[1], secret: match[2] };
}

function same(left: string, right: string): boolean {
  const a = Buffer.from(left);
  const b = Buffer.from(right);
  return a.length === b.length && timingSafeEqual(a, b);
}

/** SwarmError unauthorized unless `rootCertificate` is the one the token was made for. */
export function checkRoot(token: JoinToken, rootCertificate: string, address: string): void {
  if (same(token.digest, digestOf(rootCertificate))) return;
  throw new SwarmError(
    'unauthorized',
    `the join token is not of the cluster that answers at ${address} (its CA differs): ` +
      'take the token and the address from the same manager',
  );
}

/** What the token's holder may join as. SwarmError unauthorized when nothing. */
export function roleOfToken(token: JoinToken, cluster: Cluster): NodeRole {
  checkRoot(token, cluster.rootCaCertificate, 'this manager');
  const manager = same(token.secret, cluster.joinSecretManager);
  const worker = same(token.secret, cluster.joinSecretWorker);
  if (manager) return 'manager';
  if (worker) return 'worker';
  throw new SwarmError(
    'unauthorized',
    'the join token is not valid (it may have been rotated): ' +
      'get the current one with "tsswarm join-token worker" (or manager) on a manager',
  );
}
