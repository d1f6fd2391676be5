/** watch: the swarm as it moves; a picture on a terminal, lines in a pipe, JSON with --json. */
import { SwarmError } from '../../base/errors.ts';
import type { LiveMessage } from '../../model/live.ts';
import { jsonLines } from '../client.ts';
import { addCommand, type Command } from '../command.ts';
import type { Context, Run } from '../context.ts';
import { LeaderLines, lineOf } from './lines.ts';
import { Picture } from './picture.ts';

const REDRAW_MS = 100;
const ALTERNATE_SCREEN = '\x1b[?1049h\x1b[?25l';
const NORMAL_SCREEN = '\x1b[?25h\x1b[?1049l';

export function registerWatch(program: Command, run: Run): void {
  addCommand(program, 'watch', 'a live picture of the swarm; in a pipe one line an event')
    .option('--json', 'one JSON object a line')
    .action((flags: { json?: boolean }) => run((context) => watch(context, flags.json === true)));
}

async function watch(context: Context, asJson: boolean): Promise<void> {
  const { out, signal } = context;
  const stream = await context.client.stream('GET', '/tsswarm/watch', { signal });
  const messages = jsonLines<LiveMessage>(stream);
  try {
    if (!asJson && out.isTty) await draw(context, messages);
    else await print(context, messages, asJson);
  } catch (error) {
    if (signal.aborted) return;
    throw ended(error);
  }
  if (!signal.aborted) throw ended(undefined);
}

function ended(cause: unknown): SwarmError {
  const why = 'the daemon ended the connection; run "tsswarm watch" again';
  return new SwarmError('unavailable', why, { cause });
}

async function print(
  context: Context,
  messages: AsyncIterable<LiveMessage>,
  asJson: boolean,
): Promise<void> {
  const leader = new LeaderLines();
  for await (const message of messages) {
    if (asJson) {
      context.out.write(`${JSON.stringify(message)}\n`);
      continue;
    }
    for (const line of lineOf(message)) context.out.write(`${line}\n`);
    for (const line of leader.of(message)) context.out.write(`${line}\n`);
  }
}

/** Redraws at most every REDRAW_MS, however many changes there are. */
async function draw(context: Context, messages: AsyncIterable<LiveMessage>): Promise<void> {
  const { out, clock } = context;
  const picture = new Picture();
  let waiting: { cancel(): void } | undefined;
  const paint = (): void => {
    waiting = undefined;
    out.write(`\x1b[H${picture.render(out.columns, out.rows, clock.wallMs())}\x1b[J`);
  };
  out.write(ALTERNATE_SCREEN);
  try {
    for await (const message of messages) {
      picture.apply(message);
      waiting ??= clock.after(REDRAW_MS, paint);
    }
  } finally {
    waiting?.cancel();
    out.write(NORMAL_SCREEN);
  }
}
