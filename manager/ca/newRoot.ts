/**
 * Whether a cluster update asks for another root certificate, and what is to take the present one's
 * place: one made here, or one that the user gave with its key. It makes certificates; that nodes
 * take them over is rotation.ts's.
 */
import { SwarmError } from '../../base/errors.ts';
import type { Random } from '../../base/random.ts';
import type { Cluster, ClusterSpec, RootRotation } from '../../model/types.ts';
import { createRoot, crossSign, givenRoot, type KeyedCertificate } from './x509.ts';

export interface NewRootOptions {
  readonly cluster: Cluster;
  /** What the user wants now. */
  readonly spec: ClusterSpec;
  /** PEM or ''. */
  readonly signingCaKey: string;
  readonly nowMs: number;
  readonly random: Random;
}

/** The rotation that should be under way; the present one when nothing else is asked for. */
export async function nextRotation(options: NewRootOptions): Promise<RootRotation | undefined> {
  const { cluster, nowMs, random } = options;
  const next = await wantedRoot(options);
  if (next === undefined) return cluster.rootRotation;
  const old = { certificate: cluster.rootCaCertificate, privateKey: cluster.rootCaKey };
  const crossSigned = await crossSign(old, next.certificate, nowMs, random);
  return { ...next, crossSigned };
}

async function wantedRoot(options: NewRootOptions): Promise<KeyedCertificate | undefined> {
  const { cluster, spec, signingCaKey, nowMs, random } = options;
  const same = (left: string, right: string): boolean => left.trim() === right.trim();
  const given = spec.signingCaCertificate;
  if (given === '') {
    if (signingCaKey !== '') {
      throw new SwarmError('invalid', 'CAConfig.SigningCAKey is given without SigningCACert');
    }
    return spec.forceRotate === cluster.spec.forceRotate ? undefined : createRoot(nowMs, random);
  }
  const target = cluster.rootRotation?.certificate ?? cluster.rootCaCertificate;
  if (same(given, target)) return undefined;
  if (same(given, cluster.rootCaCertificate)) {
    throw new SwarmError(
      'unsupported',
      'CAConfig.SigningCACert is the root that is being replaced: let the rotation finish first',
    );
  }
  if (signingCaKey === '') {
    throw new SwarmError(
      'invalid',
      'CAConfig.SigningCAKey is missing: give the key of the new root certificate: external ' +
        'CAs are not supported',
    );
  }
  return givenRoot(given, signingCaKey, nowMs);
}
