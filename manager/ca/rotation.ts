/**
 * Changing the cluster's root certificate while everything runs: asks the nodes, so many at a time,
 * to take a certificate of the new root, and drops the old root once every node has one and trusts
 * both. A node that is down holds the end up until it comes back or is removed, as with Docker.
 *
 * | rotation | true | left by |
 * |---|---|---|
 * | none | one root | the user asks for another: control sets Cluster.rootRotation |
 * | under way | both are trusted, the new one signs | every node has changed -> none, new root |
 */
import type { Steps } from '../../base/slices.ts';
import type { Node } from '../../model/types.ts';
import type { Change, DirtySet, Loop, PlanResult, View } from '../store/types.ts';
import { wantedTls } from './trust.ts';

/** Docker's: as many nodes are asked at once. */
export const ROTATION_BATCH = 30;

export class RootRotationLoop implements Loop {
  readonly name = 'root rotation';
  readonly tables = ['cluster', 'node'] as const;

  *plan(view: View, _dirty: DirtySet, _nowMs: number): Steps<PlanResult> {
    const cluster = view.cluster();
    const rotation = cluster?.rootRotation;
    if (cluster === undefined || rotation === undefined) return { changes: [] };
    const wanted = wantedTls(cluster);
    const has = ({ tls }: Node): boolean => tls.issuer === wanted.issuer;
    const nodes = [...view.all('node')];
    yield;
    if (nodes.every((node) => has(node) && node.tls.trust === wanted.trust)) {
      const object = {
        ...cluster,
        rootCaCertificate: rotation.certificate,
        rootCaKey: rotation.privateKey,
        rootRotation: undefined,
      };
      return { changes: [{ kind: 'update', table: 'cluster', object }] };
    }
    const left = nodes.filter((node) => !has(node));
    const isAsked = ({ tls }: Node): boolean => tls.wantedIssuer === wanted.issuer;
    // One that is down does not keep the others waiting; it is asked like any and answers later.
    const busy = left.filter((node) => isAsked(node) && node.state === 'ready').length;
    const changes: Change[] = left
      .filter((node) => !isAsked(node))
      .slice(0, Math.max(0, ROTATION_BATCH - busy))
      .map((node) => ({
        kind: 'update',
        table: 'node',
        object: { ...node, tls: { ...node.tls, wantedIssuer: wanted.issuer } },
      }));
    return { changes };
  }
}
