/**
 * Who is who on the wire: the names inside a node's certificate (CN = node id, OU = role, O =
 * cluster id), the credentials a process holds, and the check a caller makes of the server it
 * reached. It issues nothing (manager/ca does) and opens no socket (proto/rpc does).
 */
import type { PeerCertificate } from 'node:tls';
import type { NodeRole } from '../model/types.ts';

/** Every node certificate carries it as its DNS name: servers are known by node, not by address. */
export const TLS_SERVER_NAME = 'tsswarm-node';
export const MANAGER_OU = 'tsswarm-manager';
export const WORKER_OU = 'tsswarm-worker';

/** What a node proves itself with; PEM. */
export interface NodeCredentials {
  readonly rootCertificate: string;
  readonly certificate: string;
  readonly privateKey: string;
}

/** The verified identity of the other side of a connection. */
export interface PeerIdentity {
  readonly nodeId: string;
  readonly role: NodeRole;
  readonly clusterId: string;
  /** Certificate serial number, lower-case hex. */
  readonly serial: string;
  readonly expiresAtMs: number;
}

/** What a caller demands of the server it reaches, beyond a certificate of the cluster's CA. */
export interface ExpectedServer {
  readonly role?: NodeRole;
  readonly nodeId?: string;
}

export function organizationalUnit(role: NodeRole): string {
  return role === 'manager' ? MANAGER_OU : WORKER_OU;
}

export function roleOfUnit(unit: string): NodeRole | undefined {
  if (unit === MANAGER_OU) return 'manager';
  if (unit === WORKER_OU) return 'worker';
  return undefined;
}

/**
 * The identity in a certificate whose chain TLS has verified already; undefined when its names are
 * not a node's. A subject with a name twice is refused: nothing this cluster issued has one.
 */
export function peerFromCertificate(certificate: PeerCertificate): PeerIdentity | undefined {
  const { CN: nodeId, OU: unit, O: clusterId } = certificate.subject ?? {};
  if (typeof nodeId !== 'string' || typeof unit !== 'string' || typeof clusterId !== 'string') {
    return undefined;
  }
  const role = roleOfUnit(unit);
  if (role === undefined || nodeId === '') return undefined;
  return {
    nodeId,
    role,
    clusterId,
    serial: certificate.serialNumber.toLowerCase(),
    expiresAtMs: Date.parse(certificate.valid_to),
  };
}

/** For TLS's checkServerIdentity: an Error when the server is not who was expected. */
export function checkServer(
  certificate: PeerCertificate,
  expected: ExpectedServer,
): Error | undefined {
  const peer = peerFromCertificate(certificate);
  if (peer === undefined) return new Error('the certificate presented is not a node certificate');
  if (expected.role !== undefined && peer.role !== expected.role) {
    return new Error(`node ${peer.nodeId} presents a certificate of a ${peer.role}`);
  }
  if (expected.nodeId !== undefined && peer.nodeId !== expected.nodeId) {
    return new Error(`node ${peer.nodeId} answers there, not node ${expected.nodeId}`);
  }
  return undefined;
}
