/**
 * A change of one object, as it is proposed, stands in the log and is applied. Declares only.
 */
import type { TableName, Tables } from './types.ts';

/**
 * `object.version` of an update is the version it was decided from; a stale one is refused when
 * applied. create and update carry the whole new record; id, version and times are set by apply
 * (createdAtMs, updatedAtMs from the entry's stamp).
 */
export type Change = {
  [T in TableName]:
    | { readonly kind: 'create'; readonly table: T; readonly object: Tables[T] }
    | { readonly kind: 'update'; readonly table: T; readonly object: Tables[T] }
    | {
        readonly kind: 'remove';
        readonly table: T;
        readonly id: string;
        readonly version?: number;
      };
}[TableName];
