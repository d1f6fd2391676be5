/** All planted bugs, in the order in which they are tried. */
import { CONFIGURATION_MUTANTS, ELECTION_MUTANTS, LOG_MUTANTS, READ_MUTANTS } from './core.ts';
import type { Mutant } from './mutant.ts';
import { DISK_MUTANTS, DRIVER_MUTANTS, LOSS_MUTANTS, STATE_MUTANTS } from './outside.ts';

export const MUTANTS: readonly Mutant[] = [
  ...ELECTION_MUTANTS,
  ...LOG_MUTANTS,
  ...READ_MUTANTS,
  ...CONFIGURATION_MUTANTS,
  ...DRIVER_MUTANTS,
  ...DISK_MUTANTS,
  ...LOSS_MUTANTS,
  ...STATE_MUTANTS,
];
