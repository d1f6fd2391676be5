/**
 * A certificate of a real cluster that has already expired, for tests: the cluster's own root key
 * is read from a manager's log with the project's own code, and signs for the same node and role.
 * Used on labs only.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { DAY_MS } from '../../base/duration.ts';
import { SystemRandom } from '../../base/random.ts';
import { Seal } from '../../base/seal.ts';
import { Identity } from '../../daemon/identity.ts';
import {
  createRequest,
  issueCertificate,
  type KeyedCertificate,
  readCertificate,
} from '../../manager/ca/x509.ts';
import { recoverWal } from '../../manager/raft/disk/recovery.ts';
import { decodeLogEntry } from '../../proto/convert.ts';

export async function expiredCopy(
  certificatePem: string,
  dataRoot: string,
  nowMs: number,
): Promise<{ certificate: string; privateKey: string }> {
  const { nodeId, role, clusterId } = readCertificate(certificatePem);
  assert.ok(role !== undefined);
  const { csr, privateKey } = await createRequest();
  const { certificate } = await issueCertificate({
    root: rootOf(dataRoot),
    csr,
    nodeId,
    role,
    clusterId,
    nowMs: nowMs - 2 * DAY_MS,
    lifetimeMs: DAY_MS,
    random: new SystemRandom(),
  });
  return { certificate, privateKey };
}

function rootOf(dataRoot: string): KeyedCertificate {
  const random = new SystemRandom();
  const identity = new Identity(dataRoot, random);
  const walDirectory = join(identity.raftDirectory, 'wal');
  const seal = new Seal(identity.raftKey(), random);
  for (const { data, type } of recoverWal(walDirectory, seal)?.entries ?? []) {
    if (type !== 'normal' || data.length === 0) continue;
    for (const change of decodeLogEntry(data).changes) {
      if (change.kind === 'remove' || change.table !== 'cluster') continue;
      const { rootCaCertificate, rootCaKey } = change.object;
      return { certificate: rootCaCertificate, privateKey: rootCaKey };
    }
  }
  return assert.fail(`no cluster in ${walDirectory}`);
}
