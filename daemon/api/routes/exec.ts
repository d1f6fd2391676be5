/** /exec: programs beside a container's first one. */
import { messageOf, SwarmError } from '../../../base/errors.ts';
import type { Exec } from '../../../runtime/container/types.ts';
import type { ExecRecord } from '../../containers/execs.ts';
import { type ApiRequest, empty, json, type Reply, type Router, STREAMED } from '../http.ts';
import type { ApiParts } from '../parts.ts';
import {
  frame,
  headTaken,
  joinStreams,
  MULTIPLEXED_STREAM,
  parseDetachKeys,
  RAW_STREAM,
} from '../streams.ts';
import { sizeOf } from './containerStreams.ts';
import { found } from './containers.ts';

export function addExecRoutes(router: Router, parts: ApiParts): void {
  router.post('/containers/{id}/exec', (request) => create(request, parts));
  router.post('/exec/{id}/start', (request) => start(request, parts));
  router.post('/exec/{id}/resize', async (request) => {
    const { exec, id } = execsOf(parts).get(request.params.id);
    if (exec === undefined) throw new SwarmError('conflict', `exec ${id} is not running`);
    const { rows, columns } = sizeOf(request);
    await exec.resize(rows, columns);
    return empty();
  });
  router.get('/exec/{id}/json', async (request) =>
    json(execToDocker(execsOf(parts).get(request.params.id))),
  );
}

function execsOf(parts: ApiParts) {
  return parts.node.host.containers.execs;
}

async function create(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const { container } = found(parts, request);
  const body = await request.body();
  const args = body.texts('Cmd');
  if (args.length === 0) throw new SwarmError('invalid', 'No exec command specified');
  const detachKeys = body.text('DetachKeys');
  parseDetachKeys(detachKeys);
  const id = execsOf(parts).create(container, {
    config: {
      args,
      env: body.texts('Env'),
      workingDir: body.text('WorkingDir'),
      user: body.text('User'),
      tty: body.flag('Tty'),
      privileged: body.flag('Privileged'),
      stdin: body.flag('AttachStdin'),
    },
    detachKeys,
    openStdout: body.flag('AttachStdout'),
    openStderr: body.flag('AttachStderr'),
  });
  return json({ Id: id }, 201);
}

async function start(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const execs = execsOf(parts);
  const { id } = request.params;
  const body = await request.body();
  const record = execs.get(id);
  const size = body.size('ConsoleSize');
  if (body.flag('Detach')) {
    const exec = await execs.start(id, size);
    discard(exec);
    return empty();
  }
  // What has to be told by a status code is found before the connection is taken.
  if (record.state !== 'created' || record.container.state !== 'running') {
    await execs.start(id, size);
  }
  const { stdin } = record.config;
  // As Docker: how it is sent is said at the start, not when it was made.
  const tty = body.flag('Tty');
  const connection = request.takeConnection(tty ? RAW_STREAM : MULTIPLEXED_STREAM);
  await headTaken(request, parts.clock);
  let exec: Exec;
  try {
    exec = await execs.start(id, size);
  } catch (error) {
    const line = Buffer.from(`${failureText(error)}\r\n`);
    connection.output.end(tty ? line : frame('stdout', line));
    connection.input.resume();
    return STREAMED;
  }
  await joinStreams(connection, exec.streams, {
    tty,
    stdin,
    stdout: record.openStdout || record.config.tty,
    stderr: record.openStderr || record.config.tty,
    detachKeys: parseDetachKeys(record.detachKeys),
  });
  return STREAMED;
}

function failureText(error: unknown): string {
  return `OCI runtime exec failed: exec failed: ${messageOf(error)}: unknown`;
}

/** Nobody reads what it writes: it must not wait for a reader. */
function discard(exec: Exec): void {
  exec.streams.stdin?.end();
  exec.streams.stdout.resume();
  exec.streams.stderr.resume();
}

function execToDocker(record: ExecRecord): object {
  const { config, container, state, exitCode, pid } = record;
  const [entrypoint = '', ...args] = config.args;
  return {
    ID: record.id,
    Running: state === 'running',
    ExitCode: exitCode ?? null,
    ProcessConfig: {
      tty: config.tty,
      entrypoint,
      arguments: args,
      privileged: config.privileged,
      ...(config.user === '' ? {} : { user: config.user }),
    },
    OpenStdin: config.stdin,
    OpenStderr: record.openStderr,
    OpenStdout: record.openStdout,
    CanRemove: state === 'ended',
    ContainerID: container.config.id,
    DetachKeys: record.detachKeys,
    Pid: pid,
  };
}
