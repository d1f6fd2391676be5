/** service: create, ls, ps, inspect, scale, update, rollback, rm, logs. */
import { filtersText } from '../client.ts';
import { addCommand, type Command, collect, lineCount } from '../command.ts';
import { forEachName, parseFilters, type Run } from '../context.ts';
import type { TaskJson } from '../docker.ts';
import type { InspectFlags, ListOptions } from '../output/list.ts';
import { printTasks, type TaskListOptions } from '../tasks.ts';
import { inspectServices, listServices } from './list.ts';
import { addCreateLists, addUpdateLists } from './lists.ts';
import { type LogFlags, serviceLogs } from './logs.ts';
import { addScalars } from './scalars.ts';
import {
  createService,
  getService,
  removeServices,
  rollbackService,
  scaleServices,
  updateService,
} from './write.ts';

export function registerService(program: Command, run: Run): void {
  const service = addCommand(program, 'service', 'what runs in the swarm');
  registerWrites(service, run);
  registerReads(service, run);
}

function registerWrites(service: Command, run: Run): void {
  const create = addCommand(service, 'create <image> [command] [args...]', 'start a service')
    .passThroughOptions()
    .option('--name <name>', 'its name (default: made up)')
    .option('--mode <word>', 'replicated, global, replicated-job or global-job', 'replicated');
  addScalars(create);
  addCreateLists(create);
  create.action(
    (image: string, command: string | undefined, args: string[], flags: Record<string, unknown>) =>
      run((context) =>
        createService(context, image, command === undefined ? [] : [command, ...args], flags),
      ),
  );

  const update = addCommand(service, 'update <service>', 'change a service')
    .option('--image <image>', 'another image')
    .option('--args <command>', 'other arguments, as one text')
    .option('--force', 'replace its tasks even if nothing changes')
    .option('--rollback', 'back to the specification before the last change');
  addScalars(update);
  addUpdateLists(update);
  update.action((name: string, flags: Record<string, unknown>) =>
    run((context) =>
      flags.rollback === true
        ? rollbackService(context, name, flags)
        : updateService(context, name, flags),
    ),
  );

  addCommand(service, 'rollback <service>', 'back to the specification before the last change')
    .option('-d, --detach', 'do not wait for the tasks')
    .option('-q, --quiet', 'no progress')
    .action((name: string, flags: Record<string, unknown>) =>
      run((context) => rollbackService(context, name, flags)),
    );
  addCommand(service, 'scale <service=replicas...>', 'change how many tasks services have')
    .option('-d, --detach', 'do not wait for the tasks')
    .action((pairs: string[], flags: { detach?: boolean }) =>
      run((context) => scaleServices(context, pairs, flags.detach === true)),
    );
  addCommand(service, 'rm <service...>', 'stop services and forget them')
    .alias('remove')
    .option('-d, --detach', 'do not wait until their tasks have stopped')
    .action((names: string[], flags: { detach?: boolean }) =>
      run((context) => removeServices(context, names, flags.detach === true)),
    );
}

function registerReads(service: Command, run: Run): void {
  addCommand(service, 'ls', 'list them')
    .alias('list')
    .option('-f, --filter <key=value>', 'id, name, label, mode', collect)
    .option('--format <template>', 'a Go template, "table ..." or "json"')
    .option('-q, --quiet', 'only ids')
    .option('--json', 'the API’s objects')
    .action((flags: ListOptions & { filter?: string[] }) =>
      run((context) => listServices(context, flags)),
    );
  addCommand(service, 'ps <service...>', 'tasks of services')
    .option('-f, --filter <key=value>', 'id, name, node, desired-state', collect)
    .option('--format <template>', 'a Go template, "table ..." or "json"')
    .option('--no-resolve', 'ids instead of names')
    .option('--no-trunc', 'nothing is cut')
    .option('-q, --quiet', 'only ids')
    .option('--json', 'the API’s objects')
    .action(
      (
        names: string[],
        flags: TaskListOptions & { filter?: string[]; trunc: boolean; resolve: boolean },
      ) =>
        run(async (context) => {
          const filters = parseFilters(flags.filter);
          const ids: string[] = [];
          await forEachName(context, names, async (name) => {
            ids.push((await getService(context, name)).ID);
          });
          if (ids.length === 0) return;
          const query = { filters: filtersText({ ...filters, service: ids }) };
          const tasks = await context.client.get<TaskJson[]>('/tasks', query);
          const options = { ...flags, noTrunc: !flags.trunc, noResolve: !flags.resolve };
          await printTasks(context, tasks, options);
        }),
    );
  addCommand(service, 'inspect <service...>', 'details of services')
    .option('-f, --format <template>', 'a Go template')
    .option('--json', 'as JSON, which is the default')
    .option('--pretty', 'for people')
    .action((names: string[], flags: InspectFlags) =>
      run((context) => inspectServices(context, names, flags)),
    );
  addCommand(service, 'logs <service>', 'what its tasks (or one task) wrote')
    .option('-f, --follow', 'and what they write from now on')
    .option('-n, --tail <lines>', 'only so many last lines of each task', lineCount, 'all')
    .option('--since <time>', 'RFC 3339, Unix seconds, or 10m ago as "10m"')
    .option('-t, --timestamps', 'with the time of each line')
    .option('--raw', 'the lines alone')
    .option('--details', 'where each line came from')
    .option('--no-resolve', 'ids instead of names')
    .option('--no-task-ids', 'names without task ids')
    .option('--no-trunc', 'whole ids')
    .action((name: string, flags: LogFlags) => run((context) => serviceLogs(context, name, flags)));
}
