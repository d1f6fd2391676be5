/**
 * Where etcd-io/raft's recorded files are: RAFT_CHECKOUT names a checkout of it, or the older raft
 * of Debian's golang-etcd-server-dev (/usr/share/gocode/src/go.etcd.io/etcd/raft). They are read
 * there and are no part of this tree.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';

export const checkout = process.env['RAFT_CHECKOUT'] ?? '';

/** Files of a folder of it, by name; none where there is no checkout. */
export function recorded(folder: string): string[] {
  const directory = path.join(checkout, folder);
  if (checkout === '' || !fs.existsSync(directory)) return [];
  const names = fs.readdirSync(directory).filter((name) => name.endsWith('.txt'));
  return names.map((name) => path.join(directory, name));
}

/**
 * etcd 3.4's: a member's own vote counted at once, a new member began at index 0, and a line was
 * written otherwise here and there.
 */
export const isOlder =
  recorded('testdata').length > 0 && !recorded('testdata').some((file) => /async_/.test(file));

export const SKIP =
  recorded('testdata').length > 0 ? false : 'RAFT_CHECKOUT names no checkout of etcd-io/raft';
