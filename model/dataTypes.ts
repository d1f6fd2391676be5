/**
 * Secrets and configs in the domain: what is kept, and how a container refers to it. Part of
 * types.ts, which hands it on; declares only.
 */
import type { Labels, ObjectBase } from './types.ts';

/** Bytes by name. Only the labels of one that exists change. */
export interface DataSpec {
  readonly name: string;
  readonly labels: Labels;
  readonly data: Uint8Array;
  /** 'golang': templates in the data are replaced where a task gets it; '' = as it is. */
  readonly templating: '' | 'golang';
}

/** Never shown to anyone but the tasks that name it. */
export interface Secret extends ObjectBase {
  readonly spec: DataSpec;
}

export interface Config extends ObjectBase {
  readonly spec: DataSpec;
}

export type DataTable = 'secret' | 'config';

/** A secret or config of the cluster as a file in a container. */
export interface FileReference {
  /** Secret or config. In a request '' or a name is resolved to it by control. */
  readonly id: string;
  readonly name: string;
  /** Its path; when not absolute, below /run/secrets (secrets) or / (configs). */
  readonly target: string;
  /** Whole numbers as text, as Docker has them. */
  readonly uid: string;
  readonly gid: string;
  /** Permission bits. */
  readonly mode: number;
}
