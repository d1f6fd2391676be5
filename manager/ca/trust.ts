/**
 * What the cluster trusts and who signs, now and while the root is being changed; and how a node
 * tells, in two digests, which of it has reached it. Pure but for a memory of digests.
 *
 * | | no rotation | rotation under way |
 * |---|---|---|
 * | signed by | the root | the new root, its cross-signed certificate sent along |
 * | trusted by nodes | the root | both roots |
 * | in join tokens | the root | the old root, until all nodes have changed |
 */
import { createHash, X509Certificate } from 'node:crypto';
import type { Cluster, NodeTls } from '../../model/types.ts';
import type { NodeCredentials } from '../../proto/credentials.ts';
import type { KeyedCertificate } from './x509.ts';

const PEM = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;
/** A handful is in use at a time. */
const MEMORY_MAX = 64;

/** The certificates of a PEM text, in order. */
export function splitPem(text: string): readonly string[] {
  return (text.match(PEM) ?? []).map((pem) => `${pem}\n`);
}

function remembering(make: (text: string) => string): (text: string) => string {
  const known = new Map<string, string>();
  return (text) => {
    const found = known.get(text);
    if (found !== undefined) return found;
    const made = make(text);
    if (known.size >= MEMORY_MAX) known.clear();
    known.set(text, made);
    return made;
  };
}

/** Of a CA's public key, hex: who issued. */
export const issuerDigest = remembering((caPem) => {
  const key = new X509Certificate(caPem).publicKey.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(key).digest('hex');
});

/** Of the certificates in a bundle, whatever their order; hex. */
export const trustDigest = remembering((bundle) => {
  const prints = splitPem(bundle).map((pem) => new X509Certificate(pem).fingerprint256);
  return createHash('sha256').update(prints.sort().join()).digest('hex');
});

/** What nodes are to trust, PEM. */
export function trustOf(cluster: Cluster): string {
  const { rootCaCertificate: root, rootRotation } = cluster;
  return rootRotation === undefined ? root : `${root}${rootRotation.certificate}`;
}

/** Digests of what a node has when nothing is left to be done. */
export function wantedTls(cluster: Cluster): Pick<NodeTls, 'issuer' | 'trust'> {
  const signer = cluster.rootRotation?.certificate ?? cluster.rootCaCertificate;
  return { issuer: issuerDigest(signer), trust: trustDigest(trustOf(cluster)) };
}

/** Who signs now; `chain` goes along with what is signed. */
export function signerOf(cluster: Cluster): KeyedCertificate & { readonly chain: string } {
  const { rootRotation } = cluster;
  if (rootRotation === undefined) {
    return { certificate: cluster.rootCaCertificate, privateKey: cluster.rootCaKey, chain: '' };
  }
  const { certificate, privateKey, crossSigned } = rootRotation;
  return { certificate, privateKey, chain: crossSigned };
}

/** Whether the first certificate of `chainPem` leads, by itself or by those after it, to a root. */
export function isTrusted(chainPem: string, roots: string): boolean {
  const [leaf, ...middle] = splitPem(chainPem).map((pem) => new X509Certificate(pem));
  if (leaf === undefined) return false;
  const anchors = splitPem(roots).map((pem) => new X509Certificate(pem));
  const signedBy = (one: X509Certificate, others: readonly X509Certificate[]): boolean =>
    others.some((other) => one.verify(other.publicKey));
  return (
    signedBy(leaf, anchors) ||
    middle.some((each) => leaf.verify(each.publicKey) && signedBy(each, anchors))
  );
}

/** What a node has, as its session tells it. */
export function tlsOf(credentials: NodeCredentials): Pick<NodeTls, 'issuer' | 'trust'> {
  const [own, ...middle] = splitPem(credentials.certificate);
  const leaf = new X509Certificate(own ?? credentials.certificate);
  const candidates = [...splitPem(credentials.rootCertificate), ...middle];
  const issuer = candidates.find((pem) => leaf.verify(new X509Certificate(pem).publicKey));
  return {
    issuer: issuer === undefined ? '' : issuerDigest(issuer),
    trust: trustDigest(credentials.rootCertificate),
  };
}
