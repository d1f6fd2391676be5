/** `npm run fuzz -- [TARGET] [--seconds N] [--seed S] [--case N]`: fuzzes one target, or all. */
import { parseArgs } from 'node:util';
import { SystemRandom } from '../../base/random.ts';
import { FuzzFailure, fuzz } from './fuzz.ts';
import { TARGETS } from './targets.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: 'string', default: '30' },
    seed: { type: 'string' },
    case: { type: 'string' },
  },
});
const wanted = positionals.length === 0 ? Object.keys(TARGETS) : positionals;
const unknown = wanted.find((name) => TARGETS[name] === undefined);
if (unknown !== undefined) {
  process.stderr.write(`fuzz: no target ${unknown}: ${Object.keys(TARGETS).join(', ')}\n`);
  process.exit(2);
}
const seed = Number(values.seed ?? new SystemRandom().below(2 ** 31));
const from = Number(values.case ?? 0);
const seconds = values.case === undefined ? Number(values.seconds) : 0;
for (const target of wanted) {
  try {
    const { cases, refused } = await fuzz(target, seed, seconds, from);
    process.stdout.write(`${target}: seed ${seed}, ${cases} cases, ${refused} refused\n`);
  } catch (error) {
    if (!(error instanceof FuzzFailure)) throw error;
    process.stdout.write(`${error.message}\n`);
    process.exitCode = 1;
  }
}
