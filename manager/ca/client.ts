/**
 * A host's side of the certificate authority: join with a token, renew with the current
 * certificate. Nothing but a request for the root certificate is sent before that certificate's
 * digest matches the token; the clocks are compared before a certificate is asked for. Used by the
 * daemon only.
 */
import type { Clock } from '../../base/clock.ts';
import { formatDuration, SECOND_MS } from '../../base/duration.ts';
import { type ErrorCode, hasCode, messageOf, SwarmError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { NodeAvailability, NodeDescription, NodeRole } from '../../model/types.ts';
import { descriptionToWire, ROLES, word } from '../../proto/convert.ts';
import type { NodeCredentials } from '../../proto/credentials.ts';
import { type ChannelTrust, type Client, client, RpcChannel } from '../../proto/rpc.ts';
import { CertificateAuthority, type IssueCertificateResponse } from '../../proto/services.ts';
import { checkRoot, parseToken } from './tokens.ts';
import { isTrusted, splitPem } from './trust.ts';
import { createRequest, readCertificate } from './x509.ts';

export const MAX_CLOCK_SKEW_MS = 30 * SECOND_MS;
const CALL_TIMEOUT_MS = 15 * SECOND_MS;
const ROOT_TIMEOUT_MS = 5 * SECOND_MS;
/** A follower names the leader, which may have changed meanwhile. */
const MAX_REDIRECTS = 4;
const LEADERLESS_PAUSE_MS = 500;
/** Managers that answer but have no leader, or have just started, are asked again for so long. */
const SETTLING_MS = 15 * SECOND_MS;

export interface JoinOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** host:port of managers, tried in order. */
  readonly remoteAddresses: readonly string[];
  readonly token: string;
  readonly availability: NodeAvailability;
  readonly description: NodeDescription;
  /** '' = the address the manager sees. */
  readonly advertiseAddress: string;
  readonly port: number;
  /** '' unless this data root was part of the cluster before. */
  readonly previousNodeId: string;
}

export interface Membership {
  readonly nodeId: string;
  readonly role: NodeRole;
  readonly clusterId: string;
  readonly credentials: NodeCredentials;
  readonly hostIndex: number;
  readonly vxlanPort: number;
}

/**
 * Joins the cluster behind the first address that answers. SwarmError: invalid (not a token),
 * unauthorized (wrong token, wrong CA), unavailable (nobody answers; names each address and why).
 */
export async function requestCertificate(options: JoinOptions): Promise<Membership> {
  parseToken(options.token);
  const untilMs = options.clock.nowMs() + SETTLING_MS;
  for (;;) {
    const failures: SwarmError[] = [];
    for (const address of options.remoteAddresses) {
      try {
        return await joinAt(address, options);
      } catch (error) {
        if (!(error instanceof SwarmError) || !RETRIED.includes(error.code)) throw error;
        options.log.info('join attempt failed', { address, error: error.message });
        failures.push(error);
      }
    }
    // Where nobody even answers, waiting would only hide a wrong address.
    const settling = failures.some(({ detail }) => detail['reason'] === undefined);
    if (settling && options.clock.nowMs() < untilMs) {
      await options.clock.sleep(LEADERLESS_PAUSE_MS);
      continue;
    }
    throw new SwarmError(
      'unavailable',
      `no manager could be joined: ${failures.map(({ message }) => message).join('; ')} ` +
        '(is the daemon running there, and is its port open in the firewall?)',
    );
  }
}

/** Of one manager; another one, or the same a moment later, may do better. */
const RETRIED: readonly ErrorCode[] = ['unavailable', 'timeout', 'not_leader', 'no_quorum'];

async function joinAt(address: string, options: JoinOptions): Promise<Membership> {
  const root = await fetchRoot(address, options.clock);
  checkRoot(parseToken(options.token), root.certificatePem, address);
  checkSkew(options.clock.wallMs(), root.nowMs, address);
  const trust: ChannelTrust = { kind: 'root', rootCertificate: root.certificatePem };
  return issue(address, trust, root.certificatePem, options.clock, {
    token: options.token.trim(),
    availability: options.availability,
    description: descriptionToWire(options.description),
    address: options.advertiseAddress,
    port: options.port,
    previousNodeId: options.previousNodeId,
  });
}

/**
 * A new key and certificate for the node that holds `credentials`; the role in it is what the
 * cluster wants now. SwarmError forbidden when the node was removed, unauthorized when its
 * certificate has expired.
 */
export async function renewCertificate(options: {
  readonly clock: Clock;
  readonly remoteAddresses: readonly string[];
  readonly credentials: NodeCredentials;
}): Promise<Membership> {
  const { clock, credentials } = options;
  checkUsable(credentials.certificate, clock.wallMs());
  const failures: string[] = [];
  for (const address of options.remoteAddresses) {
    try {
      const trust: ChannelTrust = { kind: 'node', credentials };
      return await issue(address, trust, credentials.rootCertificate, clock, { token: '' });
    } catch (error) {
      if (hasCode(error, 'forbidden') || hasCode(error, 'unauthorized')) throw error;
      failures.push(messageOf(error));
    }
  }
  throw new SwarmError(
    'unavailable',
    `the certificate could not be renewed: ${failures.join('; ') || 'no manager is known'}`,
  );
}

/** Takes the node of `credentials` out again: its host could not finish joining. */
export async function withdrawJoin(options: {
  readonly clock: Clock;
  readonly remoteAddresses: readonly string[];
  readonly credentials: NodeCredentials;
}): Promise<void> {
  const trust: ChannelTrust = { kind: 'node', credentials: options.credentials };
  for (const [at, address] of options.remoteAddresses.entries()) {
    try {
      await atLeader(address, trust, options.clock, (authority) =>
        authority.withdraw({}, { timeoutMs: CALL_TIMEOUT_MS }),
      );
      return;
    } catch (error) {
      if (at === options.remoteAddresses.length - 1) throw error;
    }
  }
}

/** SwarmError unauthorized, saying what to do, when a certificate is not valid at `nowMs`. */
export function checkUsable(certificatePem: string, nowMs: number): void {
  const facts = readCertificate(certificatePem);
  if (nowMs >= facts.notAfterMs) {
    throw new SwarmError(
      'unauthorized',
      `this node's certificate expired on ${new Date(facts.notAfterMs).toISOString()}: ` +
        'if the clock is right, run "tsswarm leave --force" and join again',
    );
  }
  if (nowMs < facts.notBeforeMs) {
    throw new SwarmError(
      'unauthorized',
      `this node's certificate is valid only from ${new Date(facts.notBeforeMs).toISOString()}: ` +
        `set this host's clock (it says ${new Date(nowMs).toISOString()})`,
    );
  }
}

/** SwarmError invalid naming the clock that is ahead when two differ by more than 30 s. */
export function checkSkew(hereMs: number, thereMs: number, address: string): void {
  const skewMs = Math.abs(hereMs - thereMs);
  if (skewMs <= MAX_CLOCK_SKEW_MS) return;
  const [ahead, behind] = hereMs > thereMs ? ['this host', address] : [address, 'this host'];
  throw new SwarmError(
    'invalid',
    `the clock of ${ahead} is ${formatDuration(skewMs)} ahead of that of ${behind}: ` +
      'set both by NTP (at most 30s may lie between them), then try again',
  );
}

async function fetchRoot(address: string, clock: Clock) {
  const channel = new RpcChannel(address, { kind: 'unverified' }, { clock });
  try {
    const authority = client(CertificateAuthority, channel);
    const answer = await authority.getRootCertificate({}, { timeoutMs: ROOT_TIMEOUT_MS });
    return { certificatePem: answer.certificatePem, nowMs: Number(answer.nowMs) };
  } finally {
    channel.close();
  }
}

interface IssueRequest {
  readonly token: string;
  readonly availability?: string;
  readonly description?: ReturnType<typeof descriptionToWire>;
  readonly address?: string;
  readonly port?: number;
  readonly previousNodeId?: string;
}

async function issue(
  firstAddress: string,
  trust: ChannelTrust,
  rootCertificate: string,
  clock: Clock,
  request: IssueRequest,
): Promise<Membership> {
  const { csr, privateKey } = await createRequest();
  return atLeader(firstAddress, trust, clock, async (authority, address) => {
    const answer = await authority.issueCertificate(
      { ...request, csrPem: csr },
      { timeoutMs: CALL_TIMEOUT_MS },
    );
    return membershipOf(answer, privateKey, rootCertificate, address);
  });
}

/** `call`, at the manager given or at the leader that it names. */
async function atLeader<T>(
  firstAddress: string,
  trust: ChannelTrust,
  clock: Clock,
  call: (authority: Client<typeof CertificateAuthority>, address: string) => Promise<T>,
): Promise<T> {
  let address = firstAddress;
  for (let redirects = 0; ; redirects += 1) {
    const channel = new RpcChannel(address, trust, { clock, expect: { role: 'manager' } });
    try {
      return await call(client(CertificateAuthority, channel), address);
    } catch (error) {
      if (!hasCode(error, 'not_leader') || redirects >= MAX_REDIRECTS) throw error;
      const leader = error.detail['leader'] ?? '';
      if (leader === '' || leader === address) await clock.sleep(LEADERLESS_PAUSE_MS);
      if (leader !== '') address = leader;
    } finally {
      channel.close();
    }
  }
}

function membershipOf(
  answer: IssueCertificateResponse,
  privateKey: string,
  rootCertificate: string,
  address: string,
): Membership {
  // While the root is being changed the managers say what to trust besides the one known here.
  const trusted = answer.rootCertificatePem;
  const known = splitPem(rootCertificate).some((pem) => splitPem(trusted).includes(pem));
  if (!known || !isTrusted(answer.certificatePem, trusted)) {
    throw new SwarmError('unauthorized', `${address} answered with a certificate of another CA`);
  }
  return {
    nodeId: answer.nodeId,
    role: word(answer.role, ROLES, 'role'),
    clusterId: readCertificate(answer.certificatePem).clusterId,
    credentials: { rootCertificate: trusted, certificate: answer.certificatePem, privateKey },
    hostIndex: answer.hostIndex,
    vxlanPort: answer.vxlanPort,
  };
}
