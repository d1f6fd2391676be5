/**
 * A conversation with a program in a container: standard input goes in, its output comes out, in
 * frames or raw. With a terminal it is raw at both ends, its size follows the window's, and the
 * detach keys end the conversation but not the program.
 */
import { hasCode, messageOf, SwarmError } from '../../base/errors.ts';
import type { Hijacked } from '../client.ts';
import type { Context } from '../context.ts';
import { frames } from '../service/logs.ts';

export interface ConverseOptions {
  readonly tty: boolean;
  readonly stdin: boolean;
  readonly stdout?: boolean;
  readonly stderr?: boolean;
  /** 'ctrl-p,ctrl-q'. */
  readonly detachKeys: string;
  /** Tells the daemon the size of this terminal. */
  readonly resize?: (rows: number, columns: number) => Promise<void>;
}

export const DETACH_KEYS = 'ctrl-p,ctrl-q';

/** 'ctrl-p,ctrl-q' or 'a,ctrl-[' -> the bytes that are typed. */
export function parseDetachKeys(text: string): number[] {
  return text.split(',').map((word) => {
    const match = /^ctrl-([a-z@[\]\\^_])$/i.exec(word);
    if (match !== null) return match[1].toUpperCase().charCodeAt(0) & 0x1f;
    if (word.length === 1) return word.charCodeAt(0);
    throw new SwarmError(
      'invalid',
      `invalid detach keys "${text}": write letters and ctrl-LETTER, e.g. ctrl-p,ctrl-q`,
    );
  });
}

/** Passes on what is typed, but for the keys that detach. */
class DetachWatch {
  readonly #keys: readonly number[];
  #matched = 0;

  constructor(keys: readonly number[]) {
    this.#keys = keys;
  }

  /** What to pass on; undefined once the keys have been typed. */
  pass(chunk: Uint8Array): Buffer | undefined {
    const out: number[] = [];
    for (const byte of chunk) {
      if (byte === this.#keys[this.#matched]) {
        this.#matched += 1;
        if (this.#matched === this.#keys.length) return undefined;
        continue;
      }
      out.push(...this.#keys.slice(0, this.#matched));
      this.#matched = byte === this.#keys[0] ? 1 : 0;
      if (this.#matched === 0) out.push(byte);
    }
    return Buffer.from(out);
  }
}

/** A terminal that programs are to use must be one. */
export function checkTty(tty: boolean, stdin: boolean): void {
  if (tty && stdin && process.stdin.isTTY !== true) {
    throw new SwarmError('invalid', 'the input device is not a TTY');
  }
}

/** Ends when the program's output ends, or 'detached' by the keys. */
export async function converse(
  context: Context,
  { socket, framed }: Hijacked,
  options: ConverseOptions,
): Promise<'ended' | 'detached'> {
  const { stdin } = process;
  const raw = options.tty && options.stdin && stdin.isTTY === true;
  const watch = raw ? new DetachWatch(parseDetachKeys(options.detachKeys)) : undefined;
  let detached = false;
  const onInput = (chunk: Buffer): void => {
    const passed = watch === undefined ? chunk : watch.pass(chunk);
    if (passed === undefined) {
      detached = true;
      socket.destroy();
    } else if (!socket.write(passed)) {
      stdin.pause();
      socket.once('drain', () => stdin.resume());
    }
  };
  const onEnd = (): void => {
    socket.end();
  };
  const onResize = (): void => {
    options.resize?.(context.out.rows, context.out.columns).catch(tellUnlessEnded(context));
  };
  if (options.stdin) {
    if (raw) stdin.setRawMode(true);
    stdin.on('data', onInput);
    stdin.on('end', onEnd);
  }
  if (options.tty && context.out.isTty) {
    onResize();
    process.on('SIGWINCH', onResize);
  }
  try {
    await output(context, { socket, framed: framed && !options.tty }, options);
  } catch (error) {
    if (!detached) throw error;
  } finally {
    process.off('SIGWINCH', onResize);
    stdin.off('data', onInput);
    stdin.off('end', onEnd);
    if (raw) stdin.setRawMode(false);
    stdin.pause();
    // An input that nobody ends (a pipe of a shell) must not hold the command.
    if (options.stdin) stdin.unref?.();
    socket.destroy();
  }
  return detached ? 'detached' : 'ended';
}

async function output(
  context: Context,
  { socket, framed }: Hijacked,
  options: ConverseOptions,
): Promise<void> {
  const { stdout = true, stderr = true } = options;
  try {
    if (framed) {
      for await (const { isError, bytes } of frames(socket)) {
        if (isError ? stderr : stdout) (isError ? context.err : context.out).write(bytes);
      }
      return;
    }
    for await (const chunk of socket) if (stdout) context.out.write(chunk as Uint8Array);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // The other side may end abruptly when the program does.
    if (code !== 'ECONNRESET' && code !== 'ERR_STREAM_PREMATURE_CLOSE') throw error;
  }
}

/** For requests beside a conversation: the program may have ended just now; all else is told. */
function tellUnlessEnded(context: Context): (error: unknown) => void {
  return (error) => {
    if (hasCode(error, 'not_found') || hasCode(error, 'conflict')) return;
    context.err.write(`tsswarm: ${messageOf(error)}\n`);
  };
}

/** Signals that this command gets and passes on to the container it is attached to. */
const PASSED_ON = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const;

/** Passes signals on until the function it returns is called. */
export function passSignals(context: Context, path: string): () => void {
  const pass = (signal: string): void => {
    context.client.post(`${path}/kill`, undefined, { signal }).catch(tellUnlessEnded(context));
  };
  for (const name of PASSED_ON) process.on(name, pass);
  return () => {
    for (const name of PASSED_ON) process.off(name, pass);
  };
}
