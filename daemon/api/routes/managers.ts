/** /tsswarm/managers: how the managers are, each as it tells itself. Needs no quorum. */
import type { ManagerEntry, ManagersPicture } from '../../../manager/managers.ts';
import { controlOf } from '../find.ts';
import { json, type Router } from '../http.ts';
import type { ApiParts } from '../parts.ts';

export function addManagerRoutes(router: Router, parts: ApiParts): void {
  router.get('/tsswarm/managers', async () =>
    json(pictureToJson(await controlOf(parts.node).managers())),
  );
}

function pictureToJson({ hasQuorum, problems, managers }: ManagersPicture): object {
  return { Quorum: hasQuorum, Problems: problems, Managers: managers.map(entryToJson) };
}

function entryToJson(entry: ManagerEntry): object {
  const { state } = entry;
  return {
    NodeID: entry.nodeId,
    Hostname: entry.hostname,
    Address: entry.address,
    RaftID: entry.raftId,
    Self: entry.isSelf,
    Reachable: state !== undefined,
    ...(state === undefined ? { Error: entry.error } : {}),
    Role: state?.role ?? (entry.learner ? 'learner' : ''),
    ...(entry.lag === undefined ? {} : { Lag: entry.lag }),
    ...(entry.heardAgeMs === undefined ? {} : { LastContactMs: Math.floor(entry.heardAgeMs) }),
    ...(state === undefined
      ? {}
      : {
          Term: state.term,
          Commit: state.commit,
          Applied: state.applied,
          LastIndex: state.lastIndex,
          SnapshotIndex: state.snapshotIndex,
          StoreVersion: state.storeVersion,
          StoreHash: state.storeHash,
          StoreDiffers: state.differsAt > 0 || entry.sameStore === false,
          DiskFull: state.diskFull,
          Version: state.release,
        }),
  };
}
