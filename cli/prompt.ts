/** Questions on the terminal: a secret without echo, and whether to go on. */
import { createInterface } from 'node:readline';
import { SwarmError } from '../base/errors.ts';
import type { Context } from './context.ts';
import { readStdin } from './input.ts';

/** One line of standard input, not shown while it is typed. Without a terminal: all of it. */
export async function readHidden(context: Context, question: string): Promise<string> {
  const { stdin } = process;
  if (stdin.isTTY !== true) return (await readStdin()).toString('utf8').replace(/\r?\n$/, '');
  context.err.write(question);
  stdin.setRawMode(true);
  let text = '';
  try {
    for await (const chunk of stdin) {
      for (const letter of String(chunk)) {
        if (letter === '\r' || letter === '\n' || letter === '\x04') return text;
        if (letter === '\x03') throw new SwarmError('cancelled', 'interrupted');
        text = letter === '\x7f' ? text.slice(0, -1) : text + letter;
      }
    }
    return text;
  } finally {
    stdin.setRawMode(false);
    context.err.write('\n');
  }
}

/** Shown as it is typed. */
export function readLine(context: Context, question: string): Promise<string> {
  return new Promise((resolve) => {
    context.err.write(question);
    const lines = createInterface({ input: process.stdin });
    let answer = '';
    lines.once('line', (line) => {
      answer = line;
      lines.close();
    });
    lines.once('close', () => resolve(answer));
  });
}

/** Whether to go on with what cannot be undone; 'no' where nobody can be asked. */
export async function confirmed(context: Context, warning: string): Promise<boolean> {
  const answer = await readLine(context, `${warning}\nAre you sure you want to continue? [y/N] `);
  if (process.stdin.isTTY !== true) context.err.write('\n');
  return /^y(es)?$/i.test(answer.trim());
}
