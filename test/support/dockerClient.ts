/** The real docker client of this machine: whether tests of it can run. */
import { outcome } from './lab.ts';

/** What the API is promised to. */
const OLDEST_CLIENT = 24;

/** false, or why tests of the docker client are skipped here. */
export async function skipWithoutDocker(oldest = OLDEST_CLIENT): Promise<string | false> {
  const { stdout } = await outcome('sh', ['-c', 'docker --version']);
  const major = Number(/version (\d+)\./.exec(stdout)?.[1] ?? 0);
  return major >= oldest ? false : `no docker client of version ${oldest} or later here`;
}
