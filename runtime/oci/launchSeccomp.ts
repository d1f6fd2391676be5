/**
 * The seccomp part of an OCI launch: the compiled filter, and what its listener is sent with (the
 * specification's container process state) when calls are to be handed to an agent.
 */
import { SwarmError } from '../../base/errors.ts';
import { type SpecWriter, TAG } from '../container/encode.ts';
import { compileSeccomp, type OciSeccomp } from '../container/seccompOci.ts';
import { type HookState, stateText } from './hookState.ts';
import { SPEC_VERSION } from './versions.ts';

const LISTENER_NAME = 'seccompFd';

/** `pid`: of a running container's first process; undefined for the one that is being made. */
export function addSeccomp(
  writer: SpecWriter,
  seccomp: OciSeccomp | undefined,
  state: HookState,
  pid?: number,
): void {
  if (seccomp === undefined) return;
  const { program, flags, needsListener } = compileSeccomp(seccomp);
  writer.add(TAG.seccomp, program);
  if (!needsListener) {
    if (flags !== 0) writer.add(TAG.seccompListener, flags, '');
    return;
  }
  const { listenerPath = '', listenerMetadata = '' } = seccomp;
  if (listenerPath === '') {
    throw new SwarmError('invalid', 'linux.seccomp.listenerPath: SCMP_ACT_NOTIFY needs one');
  }
  const start = JSON.stringify({ ociVersion: SPEC_VERSION, fds: [LISTENER_NAME] });
  const metadata = JSON.stringify(listenerMetadata);
  const head = `${start.slice(0, -1)},"pid":`;
  const middle = `,"metadata":${metadata},"state":`;
  // The process's own number goes between each two of these.
  const parts =
    pid === undefined
      ? [head, `${middle}${state.head}creating","pid":`, `${state.tail}}`]
      : [head, `${middle}${stateText(state, 'running', pid)}}`];
  writer.add(TAG.seccompListener, flags, listenerPath, ...parts);
}
