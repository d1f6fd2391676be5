/**
 * The few file operations of the image store that must be right on a full or failing disk: atomic
 * replacement of a file, synchronised directories, and errors that say what to do. Never decides
 * what is kept.
 */
import { mkdir, open, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { messageOf, SwarmError } from '../../base/errors.ts';

/** `error` as people should read it: a full disk as SwarmError exhausted, else unchanged. */
export function diskError(error: unknown, where: string): unknown {
  const code =
    error instanceof SwarmError
      ? error.detail['errno']
      : (error as { code?: unknown } | null)?.code;
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new SwarmError(
      'exhausted',
      `no space left on the disk of ${where}: free some (tsswarm image rm) and try again`,
      { cause: error },
    );
  }
  if (code === 'EROFS' || code === 'EIO') {
    return new SwarmError('internal', `the disk of ${where} fails: ${messageOf(error)}`, {
      cause: error,
    });
  }
  return error;
}

export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Replaces `file` by `content`, whole or not at all, also across a power cut. */
export async function replaceFile(file: string, content: string): Promise<void> {
  const temporary = `${file}.new`;
  try {
    const handle = await open(temporary, 'w', 0o600);
    try {
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
    await syncDirectory(path.dirname(file));
  } catch (error) {
    await rm(temporary, { force: true });
    throw diskError(error, path.dirname(file));
  }
}

/** Makes `directory` (0700) where it is not there. */
export async function ensureDirectory(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
}

/** Removes `directory` and what is in it, and makes it again. */
export async function emptyDirectory(directory: string): Promise<void> {
  await rm(directory, { recursive: true, force: true });
  await ensureDirectory(directory);
}
