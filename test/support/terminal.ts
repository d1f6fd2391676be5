/**
 * A command on a terminal of its own, through script(1), for tests of what a terminal changes: its
 * size, ^C, detach keys. Input and output of script are the terminal's other side.
 */

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
