/**
 * Runs a command for the caller: its terminal, input, output and signals are the caller's, and so
 * is the exit code (128 and the signal's number when a signal ended it, as a shell tells it).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:os';
import { childrenOf } from './system.ts';

/** A terminal sends these to the whole foreground group: the command has got them already. */
const FROM_TERMINAL: readonly NodeJS.Signals[] = ['SIGINT', 'SIGQUIT'];
const TO_ONE: readonly NodeJS.Signals[] = ['SIGTERM', 'SIGHUP'];

/**
 * `behind`: the program waits for a child that is the real command (nsenter into a pid namespace).
 */
export function attach(
  program: string,
  args: readonly string[],
  options: { readonly env?: NodeJS.ProcessEnv; readonly behind: boolean },
): Promise<number> {
  let child: ChildProcess | undefined;
  const pass = (signal: NodeJS.Signals): void => {
    const real = options.behind ? childrenOf(child?.pid ?? 0) : [];
    if (real.length === 0) child?.kill(signal);
    for (const pid of real) process.kill(pid, signal);
  };
  // Before the command is there: it may be sent a ^C while this process has yet to run again.
  const onTerminal = process.stdin.isTTY === true;
  for (const signal of FROM_TERMINAL) process.on(signal, onTerminal ? () => undefined : pass);
  for (const signal of TO_ONE) process.on(signal, pass);
  const env = options.env ?? process.env;
  const command = spawn(program, [...args], { stdio: 'inherit', env });
  child = command;
  return new Promise((resolve, reject) => {
    command.on('error', reject);
    command.on('close', (code, signal) =>
      resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])),
    );
  });
}
