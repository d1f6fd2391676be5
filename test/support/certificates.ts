/** Certificates for tests: a root of its own and node certificates of any age, role and name. */
import { DAY_MS } from '../../base/duration.ts';
import { SystemRandom } from '../../base/random.ts';
import {
  createRequest,
  createRoot,
  issueCertificate,
  type KeyedCertificate,
} from '../../manager/ca/x509.ts';
import type { NodeRole } from '../../model/types.ts';
import type { NodeCredentials } from '../../proto/credentials.ts';

const random = new SystemRandom();

export class TestAuthority {
  readonly root: KeyedCertificate;
  readonly clusterId: string;

  private constructor(root: KeyedCertificate, clusterId: string) {
    this.root = root;
    this.clusterId = clusterId;
  }

  static async make(nowMs: number, clusterId = 'cluster1'): Promise<TestAuthority> {
    return new TestAuthority(await createRoot(nowMs, random), clusterId);
  }

  async node(
    nodeId: string,
    role: NodeRole,
    nowMs: number,
    lifetimeMs = DAY_MS,
  ): Promise<NodeCredentials> {
    const { csr, privateKey } = await createRequest();
    const { certificate } = await issueCertificate({
      root: this.root,
      csr,
      nodeId,
      role,
      clusterId: this.clusterId,
      nowMs,
      lifetimeMs,
      random,
    });
    return { rootCertificate: this.root.certificate, certificate, privateKey };
  }
}
