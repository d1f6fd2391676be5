/**
 * Commands that a test types into while they run; and a command on a terminal of its own, through
 * script(1), for tests of what a terminal changes: its size, ^C, detach keys. Input and output of
 * script are the terminal's other side.
 */
import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import type { Outcome } from './lab.ts';

export interface WindowSize {
  readonly rows: number;
  readonly columns: number;
}

/**
 * The arguments of script(1) that run a command (shell words) on a new terminal, end with its exit
 * code, and keep what it shows in `screen` too. $SHELL runs it, and a shell may or may not stay
 * between script and the command, where a ^C ends it, and where timeout(1) leaves the foreground.
 * Hence `exec`: the command is what script started, whatever the shell.
 */
export function scriptArguments(
  command: string,
  options: { readonly size?: WindowSize; readonly screen?: string } = {},
): string[] {
  const { size, screen = '/dev/null' } = options;
  const sized = size === undefined ? '' : `stty rows ${size.rows} cols ${size.columns}; `;
  return ['-qefc', `${sized}exec ${command}`, screen];
}

/** A command that runs beside the test, on pipes or on a terminal. */
export interface Client {
  type(text: string): void;
  endInput(): void;
  signal(name: NodeJS.Signals): void;
  said(): string;
  readonly ended: Promise<Outcome>;
}

export function clientOf(child: ChildProcessWithoutNullStreams): Client {
  const out = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk: Buffer) => {
    out.stdout += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    out.stderr += chunk.toString();
  });
  child.stdin.on('error', () => undefined); // it may end before it has read all
  const ended = new Promise<Outcome>((resolve) => {
    child.on('close', (code) => resolve({ code: code ?? -1, ...out }));
  });
  return {
    type: (text) => void child.stdin.write(text),
    endInput: () => void child.stdin.end(),
    signal: (name) => void child.kill(name),
    said: () => out.stdout,
    ended,
  };
}
