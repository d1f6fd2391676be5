/**
 * The container's state as hooks, seccomp agents and `state` read it (runtime.md, "State"): one
 * JSON object, made in two halves where status and pid are known only to the launcher.
 */
export interface StateFacts {
  readonly ociVersion: string;
  readonly id: string;
  readonly bundle: string;
  readonly annotations: Readonly<Record<string, string>>;
}

/** What is read is head + status + `","pid":` + pid + tail. */
export interface HookState {
  readonly head: string;
  readonly tail: string;
}

export function hookState({ ociVersion, id, bundle, annotations }: StateFacts): HookState {
  const start = JSON.stringify({ ociVersion, id });
  const end = JSON.stringify({ bundle, annotations });
  return { head: `${start.slice(0, -1)},"status":"`, tail: `,${end.slice(1)}` };
}

export function stateText(state: HookState, status: string, pid: number): string {
  return `${state.head}${status}","pid":${pid}${state.tail}`;
}
