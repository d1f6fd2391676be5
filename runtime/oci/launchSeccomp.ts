/** The seccomp part of an OCI launch: the compiled filter and who listens to it. */
import { SwarmError } from '../../base/errors.ts';
import { type SpecWriter, TAG } from '../container/encode.ts';
import type { OciProcess, OciSeccomp } from './config.ts';
import type { HookState } from './hookState.ts';

/** SwarmError unsupported for what cannot be compiled. */
export function addSeccomp(
  writer: SpecWriter,
  seccomp: OciSeccomp | undefined,
  _process: OciProcess,
  _state: HookState,
): void {
  if (seccomp === undefined) return;
  void writer;
  void TAG;
  throw new SwarmError('unsupported', 'linux.seccomp: profiles cannot be compiled yet');
}
