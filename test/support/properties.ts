/**
 * Property tests: fast-check with a seed that does not change by itself, so that a run can be
 * repeated. $PROPERTY_SEED explores others.
 */
import * as fc from 'fast-check';

const DEFAULT_SEED = 20_260_701;

fc.configureGlobal({ seed: Number(process.env['PROPERTY_SEED'] ?? DEFAULT_SEED) });

export { fc };
