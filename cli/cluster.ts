/** rebalance and why: what the cluster would move, and why something does not run. */
import { addCommand, type Command } from './command.ts';
import { type Context, patiently, type Run } from './context.ts';
import { printList } from './output/list.ts';

interface MoveJson {
  readonly TaskID: string;
  readonly Task: string;
  readonly Service: string;
  readonly From: string;
  readonly To: string;
  readonly Why: string;
}

interface WhyJson {
  readonly Kind: string;
  readonly Name: string;
  readonly Summary: string;
  readonly Reasons: readonly { readonly Subject: string; readonly Text: string }[];
}

interface MoveFlags {
  readonly plan?: boolean;
  readonly format?: string;
  readonly json?: boolean;
}

export function registerRebalance(program: Command, run: Run): void {
  addCommand(program, 'rebalance', 'spread running tasks evenly over the hosts, a few at a time')
    .option('--plan', 'only tell what would move')
    .option('--format <template>', 'a Go template, "table ..." or "json"')
    .option('--json', 'the API’s objects')
    .action((flags: MoveFlags) => run((context) => rebalance(context, flags)));
}

async function rebalance(context: Context, flags: MoveFlags): Promise<void> {
  const plan = flags.plan === true;
  const ask = (): Promise<{ Moves: MoveJson[]; Unsettled?: string[] }> =>
    context.client.post('/tsswarm/rebalance', undefined, plan ? { plan: 1 } : {});
  const { Moves, Unsettled = [] } = await patiently(context, ask);
  if (Moves.length === 0 && flags.format === undefined && flags.json !== true) {
    const names = Unsettled.join(', ');
    const later = `nothing to move now; tasks start, stop or are updated of: ${names}`;
    const even = 'nothing to move: the tasks are spread as evenly as they may be';
    context.out.write(`${Unsettled.length > 0 ? later : even}\n`);
    return;
  }
  const columns = [
    { header: 'TASK', field: 'Task', value: (move: MoveJson) => move.Task },
    { header: 'FROM', field: 'From', value: (move: MoveJson) => move.From },
    { header: 'TO', field: 'To', value: (move: MoveJson) => move.To },
    { header: 'WHY', field: 'Why', value: (move: MoveJson) => move.Why },
  ];
  printList(context, Moves, columns, flags, (move) => move.TaskID);
}

export function registerWhy(program: Command, run: Run): void {
  addCommand(program, 'why <task|service...>', 'why something does not run')
    .option('--json', 'the API’s objects')
    .action((names: string[], flags: { json?: boolean }) =>
      run(async (context) => {
        const found: WhyJson[] = [];
        for (const name of names) {
          found.push(await context.client.get(`/tsswarm/why/${encodeURIComponent(name)}`));
        }
        if (flags.json === true) context.out.write(`${JSON.stringify(found, undefined, 2)}\n`);
        else for (const why of found) context.out.write(whyText(why));
      }),
    );
}

function whyText({ Kind, Name, Summary, Reasons }: WhyJson): string {
  const lines = Reasons.map(({ Subject, Text }) => `  ${Subject} ${Text}\n`);
  return `${Kind} ${Name}: ${Summary}\n${lines.join('')}`;
}
