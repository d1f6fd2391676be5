/**
 * Where etcd-io/raft's recorded files are: RAFT_CHECKOUT names a checkout of it; without one it is
 * the older raft of Debian's golang-etcd-server-dev, fetched. They are read there and are no part
 * of this tree.
 */
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';

const FETCH = fileURLToPath(new URL('../../../../deploy/test-recordings', import.meta.url));
const checkout =
  process.env['RAFT_CHECKOUT'] || execFileSync(FETCH, { encoding: 'utf8' }).trimEnd();

/** Files of a folder of it, by name. */
export function recorded(folder: string): string[] {
  const directory = path.join(checkout, folder);
  const names = fs.readdirSync(directory).filter((name) => name.endsWith('.txt'));
  return names.map((name) => path.join(directory, name));
}

/**
 * etcd 3.4's: a member's own vote counted at once, a new member began at index 0, and a line was
 * written otherwise here and there.
 */
export const isOlder = !recorded('testdata').some((file) => /async_/.test(file));
