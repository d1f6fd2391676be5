/**
 * Extended attributes of files in a container that belong into an archive: file capabilities and
 * users' own. Overlayfs's and other trusted ones are the host's business. Small synchronous calls,
 * by paths that end in one name which is not followed.
 */
import { check, define, errno, errnoName } from '../sys/libc.ts';

/** Linux's own bounds (xattr(7)). */
const LIST_MAX_BYTES = 64 * 1024;
const VALUE_MAX_BYTES = 64 * 1024;

const llistxattr = define<(path: string, list: Uint8Array, size: number) => number>(
  '',
  'long llistxattr(const char *path, void *list, size_t size)',
);
const lgetxattr = define<(path: string, name: string, value: Uint8Array, size: number) => number>(
  '',
  'long lgetxattr(const char *path, const char *name, void *value, size_t size)',
);
const lsetxattr = define<
  (path: string, name: string, value: Uint8Array, size: number, flags: number) => number
>('', 'int lsetxattr(const char *path, const char *name, void *value, size_t size, int flags)');

function isWanted(name: string): boolean {
  return name === 'security.capability' || (name.startsWith('user.') && !isOverlay(name));
}

function isOverlay(name: string): boolean {
  return name.startsWith('user.overlay.');
}

const list = Buffer.alloc(LIST_MAX_BYTES);
const value = Buffer.alloc(VALUE_MAX_BYTES);

/** None where there are none, or where the file system keeps none. */
export function readAttributes(path: string): ReadonlyMap<string, Uint8Array> {
  const found = new Map<string, Uint8Array>();
  const length = Number(llistxattr(path, list, list.length));
  if (length <= 0) return found;
  for (const name of list.toString('utf8', 0, length).split('\0')) {
    if (!isWanted(name)) continue;
    const bytes = Number(lgetxattr(path, name, value, value.length));
    if (bytes >= 0) found.set(name, Buffer.from(value.subarray(0, bytes)));
  }
  return found;
}

/** One byte of an attribute; undefined when there is none. For overlayfs's marks. */
export function attributeLetter(path: string, name: string): string | undefined {
  return Number(lgetxattr(path, name, value, 1)) === 1 ? value.toString('latin1', 0, 1) : undefined;
}

/**
 * Sets those of an archive that belong into a container; a file system without them is no error.
 */
export function writeAttributes(path: string, attributes: ReadonlyMap<string, Uint8Array>): void {
  for (const [name, bytes] of attributes) {
    if (!isWanted(name)) continue;
    const result = lsetxattr(path, name, bytes, bytes.byteLength, 0);
    if (result < 0 && errnoName(errno()) !== 'EOPNOTSUPP') check(result, `set ${name}`);
  }
}
