/**
 * Puts another device program in the place of a running container's: cgroup v2 has its device rules
 * as BPF, attached to the group by the shim when it makes one (runtime/shim/cgroup.c). The kernel
 * exchanges the two at once: there is no moment without rules. Knows no rules itself.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { SwarmError } from '../../base/errors.ts';
import { define, defineStruct, errno, errnoText } from './libc.ts';

/** Of x86_64 and of the table that all newer architectures share. */
const SYS_BPF = process.arch === 'x64' ? 321 : 280;
const BPF_PROG_LOAD = 5;
const BPF_PROG_ATTACH = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE = 15;
const BPF_CGROUP_DEVICE = 6;
const INSTRUCTION_BYTES = 8;
/** Four numbers of 32 bits each. */
const ATTACH_BYTES = 16;
/** What of linux/bpf.h's union is given, up to the flags. */
const LOAD_BYTES = 48;

defineStruct('tsswarm_bpf_load', {
  type: 'uint32_t',
  count: 'uint32_t',
  instructions: 'void *',
  license: 'const char *',
  logLevel: 'uint32_t',
  logSize: 'uint32_t',
  log: 'void *',
  kernel: 'uint32_t',
  flags: 'uint32_t',
});

interface Load {
  readonly type: number;
  readonly count: number;
  readonly instructions: Uint8Array;
  readonly license: string;
  readonly logLevel: number;
  readonly logSize: number;
  readonly log: null;
  readonly kernel: number;
  readonly flags: number;
}

const bpfLoad = define<(number: number, command: number, load: Load, bytes: number) => number>(
  '',
  'long syscall(long number, int command, tsswarm_bpf_load *load, unsigned int bytes)',
);
const bpf = define<(number: number, command: number, data: Uint8Array, bytes: number) => number>(
  '',
  'long syscall(long number, int command, void *data, unsigned int bytes)',
);

/** `program`: as deviceProgram makes it. SwarmError invalid when the kernel does not take it. */
export function replaceDeviceProgram(dir: string, program: Uint8Array): void {
  const load: Load = {
    type: BPF_PROG_TYPE_CGROUP_DEVICE,
    count: program.length / INSTRUCTION_BYTES,
    instructions: program,
    license: 'Apache-2.0',
    logLevel: 0,
    logSize: 0,
    log: null,
    kernel: 0,
    flags: 0,
  };
  const loaded = bpfLoad(SYS_BPF, BPF_PROG_LOAD, load, LOAD_BYTES);
  if (loaded < 0) throw refused('load');
  const group = openSync(dir, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    // Attached as the shim does, for this group alone: then the later one takes the place.
    const attach = Uint8Array.from(
      new Uint8Array(Uint32Array.of(group, loaded, BPF_CGROUP_DEVICE, 0).buffer),
    );
    if (bpf(SYS_BPF, BPF_PROG_ATTACH, attach, ATTACH_BYTES) < 0) throw refused('attach');
  } finally {
    closeSync(group);
    closeSync(loaded);
  }
}

function refused(what: string): SwarmError {
  return new SwarmError('invalid', `cannot ${what} the device rules: ${errnoText(errno())}`);
}
