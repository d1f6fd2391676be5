/** What commands read from files and standard input, and how they say that it cannot be read. */
import { SwarmError } from '../base/errors.ts';

/** All of standard input. */
export async function readStdin(): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** For a failed read of a file; `where` names the file as the user does. */
export function unreadable(where: string, cause: unknown): SwarmError {
  const { code } = cause as NodeJS.ErrnoException;
  const why = code === 'ENOENT' ? 'there is no such file' : `it cannot be read (${code})`;
  return new SwarmError('invalid', `${where}: ${why}`, { cause });
}
