/**
 * Flags that hold one value, the same on create and update: each row says the flag and what it sets
 * in the specification. A flag that was not given changes nothing.
 */
import { parseBytes } from '../../base/bytes.ts';
import { msToNanoseconds, parseDuration } from '../../base/duration.ts';
import { SwarmError } from '../../base/errors.ts';
import { REBALANCE_LABEL } from '../../model/defaults.ts';
import { type Command, collect, optionKey } from '../command.ts';
import type {
  ContainerSpecJson,
  HealthJson,
  ResourcesJson,
  ServiceSpecJson,
  TaskSpecJson,
  UpdateConfigJson,
} from '../docker.ts';
import { pairs } from '../network.ts';
import { parseCpus, splitCommand } from './parse.ts';

interface ScalarFlag {
  /** As commander wants it: '-u, --user <name>'. */
  readonly usage: string;
  readonly about: string;
  apply(spec: ServiceSpecJson, value: string): void;
}

function duration(text: string): number {
  return msToNanoseconds(parseDuration(text));
}

function count(text: string): number {
  if (!/^\d+$/.test(text)) {
    throw new SwarmError('invalid', `"${text}" is not a whole number, 0 or more`);
  }
  return Number(text);
}

function ratio(text: string): number {
  const value = Number(text);
  if (text === '' || !(value >= 0 && value <= 1)) {
    throw new SwarmError('invalid', `"${text}" is not a ratio between 0 and 1`);
  }
  return value;
}

function container(
  usage: string,
  about: string,
  apply: (container: ContainerSpecJson, value: string) => void,
): ScalarFlag {
  return { usage, about, apply: (spec, value) => apply(spec.TaskTemplate.ContainerSpec, value) };
}

function resource(
  part: 'Limits' | 'Reservations',
  usage: string,
  about: string,
  change: (value: string) => ResourcesJson,
): ScalarFlag {
  return {
    usage,
    about,
    apply: (spec, value) => {
      const task = spec.TaskTemplate;
      task.Resources = {
        ...task.Resources,
        [part]: { ...task.Resources?.[part], ...change(value) },
      };
    },
  };
}

function restart(
  usage: string,
  about: string,
  change: (value: string) => NonNullable<TaskSpecJson['RestartPolicy']>,
): ScalarFlag {
  return {
    usage,
    about,
    apply: (spec, value) => {
      const task = spec.TaskTemplate;
      task.RestartPolicy = { ...task.RestartPolicy, ...change(value) };
    },
  };
}

/** The six flags of how updates, and of how rollbacks, go. */
function updating(
  name: 'update' | 'rollback',
  field: 'UpdateConfig' | 'RollbackConfig',
): ScalarFlag[] {
  const flag = (
    usage: string,
    about: string,
    change: (value: string) => UpdateConfigJson,
  ): ScalarFlag => ({
    usage: `--${name}-${usage}`,
    about: `${name}: ${about}`,
    apply: (spec, value) => {
      spec[field] = { ...spec[field], ...change(value) };
    },
  });
  return [
    flag('parallelism <count>', 'tasks at a time; 0 = all', (v) => ({ Parallelism: count(v) })),
    flag('delay <duration>', 'between tasks', (v) => ({ Delay: duration(v) })),
    flag('monitor <duration>', 'how long a new task is watched', (v) => ({ Monitor: duration(v) })),
    flag('max-failure-ratio <ratio>', 'failures that are borne', (v) => ({
      MaxFailureRatio: ratio(v),
    })),
    flag('failure-action <word>', 'pause, continue or rollback', (v) => ({ FailureAction: v })),
    flag('order <word>', 'stop-first or start-first', (v) => ({ Order: v })),
    flag('progress-deadline <duration>', 'how long without progress is a failure', (v) => ({
      ProgressDeadline: duration(v),
    })),
  ];
}

function health(usage: string, about: string, change: (value: string) => HealthJson): ScalarFlag {
  return container(`--health-${usage}`, about, (spec, value) => {
    // A check that was switched off is on again.
    const { Test = [], ...rest } = spec.Healthcheck ?? {};
    const kept = Test[0] === 'NONE' || Test.length === 0 ? {} : { Test };
    spec.Healthcheck = { ...rest, ...kept, ...change(value) };
  });
}

const HEALTH_FLAGS: readonly ScalarFlag[] = [
  health('cmd <command>', 'command that says whether a task is healthy', (value) =>
    value === '' ? {} : { Test: ['CMD-SHELL', value] },
  ),
  health('interval <duration>', 'between checks', (value) => ({ Interval: duration(value) })),
  health('retries <count>', 'failures in a row that make it unhealthy', (value) => ({
    Retries: count(value),
  })),
  health('start-interval <duration>', 'between checks while it starts', (value) => ({
    StartInterval: duration(value),
  })),
  health('start-period <duration>', 'time to start, in which failures do not count', (value) => ({
    StartPeriod: duration(value),
  })),
  health('timeout <duration>', 'how long a check may take', (value) => ({
    Timeout: duration(value),
  })),
];

const SCALAR_FLAGS: readonly ScalarFlag[] = [
  {
    usage: '--replicas <count>',
    about: 'how many tasks',
    apply: (spec, value) => {
      if (spec.Mode?.Global !== undefined || spec.Mode?.GlobalJob !== undefined) {
        throw new SwarmError('invalid', '--replicas is only for replicated services');
      }
      const job = spec.Mode?.ReplicatedJob;
      spec.Mode =
        job === undefined
          ? { Replicated: { Replicas: count(value) } }
          : {
              ReplicatedJob: {
                MaxConcurrent: count(value),
                ...job,
                TotalCompletions: count(value),
              },
            };
    },
  },
  {
    usage: '--max-concurrent <count>',
    about: 'of a replicated job: tasks at a time (default: --replicas)',
    apply: (spec, value) => {
      const job = spec.Mode?.ReplicatedJob;
      if (job === undefined) {
        throw new SwarmError('invalid', '--max-concurrent is only for replicated jobs');
      }
      spec.Mode = { ReplicatedJob: { ...job, MaxConcurrent: count(value) } };
    },
  },
  {
    usage: '--rebalance <word>',
    about: 'off: its tasks are never moved; on: even those that hold volumes; auto',
    apply: (spec, value) => {
      const { [REBALANCE_LABEL]: _, ...labels } = spec.Labels ?? {};
      if (value === 'auto') spec.Labels = labels;
      else if (value === 'off' || value === 'on') {
        spec.Labels = { ...labels, [REBALANCE_LABEL]: value };
      } else throw new SwarmError('invalid', `"${value}" is not off, on or auto`);
    },
  },
  {
    usage: '--replicas-max-per-node <count>',
    about: 'at most so many on one host; 0 = any',
    apply: (spec, value) => {
      const task = spec.TaskTemplate;
      task.Placement = { ...task.Placement, MaxReplicas: count(value) };
    },
  },
  resource('Limits', '--limit-cpu <cpus>', 'at most so many CPUs', (value) => ({
    NanoCPUs: parseCpus(value),
  })),
  resource('Limits', '--limit-memory <bytes>', 'at most so much memory', (value) => ({
    MemoryBytes: parseBytes(value),
  })),
  resource('Limits', '--limit-pids <count>', 'at most so many processes', (value) => ({
    Pids: count(value),
  })),
  resource('Reservations', '--reserve-cpu <cpus>', 'CPUs a host must have free', (value) => ({
    NanoCPUs: parseCpus(value),
  })),
  resource('Reservations', '--reserve-memory <bytes>', 'memory a host must have free', (value) => ({
    MemoryBytes: parseBytes(value),
  })),
  restart('--restart-condition <word>', 'none, on-failure or any', (value) => ({
    Condition: value,
  })),
  restart('--restart-delay <duration>', 'between restarts', (value) => ({
    Delay: duration(value),
  })),
  restart('--restart-max-attempts <count>', 'before giving up; 0 = never', (value) => ({
    MaxAttempts: count(value),
  })),
  restart('--restart-window <duration>', 'in which attempts are counted', (value) => ({
    Window: duration(value),
  })),
  ...updating('update', 'UpdateConfig'),
  ...updating('rollback', 'RollbackConfig'),
  container('-u, --user <user>', 'user[:group] of the process', (spec, value) => {
    spec.User = value;
  }),
  container('-w, --workdir <directory>', 'working directory', (spec, value) => {
    spec.Dir = value;
  }),
  container('--hostname <name>', 'host name of its containers', (spec, value) => {
    spec.Hostname = value;
  }),
  container('--stop-signal <signal>', 'what ends it', (spec, value) => {
    spec.StopSignal = value;
  }),
  container('--stop-grace-period <duration>', 'before it is killed', (spec, value) => {
    spec.StopGracePeriod = duration(value);
  }),
  container('--entrypoint <command>', 'instead of the image’s entrypoint', (spec, value) => {
    spec.Command = splitCommand(value);
  }),
  container('--userns <word>', 'ids of its containers: host, or own', (spec, value) => {
    spec.UsernsMode = value;
  }),
  container('--oom-score-adj <number>', 'which is ended first, -1000 to 1000', (spec, value) => {
    if (!/^-?\d{1,4}$/.test(value) || Math.abs(Number(value)) > 1000) {
      throw new SwarmError('invalid', `"${value}" is not in -1000 to 1000`);
    }
    spec.OomScoreAdj = Number(value);
  }),
  container('--isolation <word>', 'only default', (spec, value) => {
    if (value !== 'default') {
      throw new SwarmError('unsupported', 'isolation is of Windows: leave it out');
    }
    spec.Isolation = value;
  }),
  container('--credential-spec <spec>', 'of Windows only', () => {
    throw new SwarmError('unsupported', 'credential specs are of Windows: leave it out');
  }),
  ...HEALTH_FLAGS,
  {
    usage: '--endpoint-mode <word>',
    about: 'vip or dnsrr',
    apply: (spec, value) => {
      spec.EndpointSpec = { ...spec.EndpointSpec, Mode: value };
    },
  },
  {
    usage: '--log-driver <name>',
    about: 'which driver keeps the output',
    apply: (spec, value) => {
      const Options = spec.TaskTemplate.LogDriver?.Options ?? {};
      spec.TaskTemplate.LogDriver = { Name: value, Options };
    },
  },
];

export function addScalars(command: Command): void {
  for (const flag of SCALAR_FLAGS) command.option(flag.usage, flag.about);
  command.option('--log-opt <key=value>', 'max-size, max-file (repeatable)', collect);
  command.option('--read-only', 'the root file system cannot be written');
  command.option('--no-read-only', 'it can');
  command.option('-t, --tty', 'a terminal instead of pipes');
  command.option('--no-tty', 'pipes');
  command.option('--init', 'a process that passes on signals and reaps children');
  command.option('--no-init', 'without one');
  command.option('--no-healthcheck', 'without the image’s health check');
  command.option('--with-registry-auth', 'give the hosts what "docker login" keeps');
  command.option('--no-resolve-image', 'do not pin the digest of the image');
  command.option('-d, --detach', 'do not wait for the tasks');
  command.option('-q, --quiet', 'no progress');
}

/** Sets what was given; the error of a bad value names its flag. */
export function applyScalars(
  spec: ServiceSpecJson,
  options: Readonly<Record<string, unknown>>,
): void {
  for (const flag of SCALAR_FLAGS) {
    const value = options[optionKey(flag.usage)];
    if (typeof value !== 'string') continue;
    try {
      flag.apply(spec, value);
    } catch (error) {
      if (!(error instanceof SwarmError)) throw error;
      const name = /--[\w-]+/.exec(flag.usage)?.[0] ?? '';
      const message = error.message.includes(name) ? error.message : `${name}: ${error.message}`;
      throw new SwarmError(error.code, message, { cause: error });
    }
  }
  const task = spec.TaskTemplate;
  if (typeof options.readOnly === 'boolean') task.ContainerSpec.ReadOnly = options.readOnly;
  if (typeof options.tty === 'boolean') task.ContainerSpec.TTY = options.tty;
  if (typeof options.init === 'boolean') task.ContainerSpec.Init = options.init;
  if (options.healthcheck === false) {
    const { Healthcheck } = task.ContainerSpec;
    if (HEALTH_FLAGS.some((flag) => options[optionKey(flag.usage)] !== undefined)) {
      throw new SwarmError('invalid', '--no-healthcheck conflicts with --health-* flags');
    }
    task.ContainerSpec.Healthcheck = { ...Healthcheck, Test: ['NONE'] };
  }
  const logOptions = options.logOpt as readonly string[] | undefined;
  if (logOptions !== undefined) {
    const Name = task.LogDriver?.Name ?? 'local';
    task.LogDriver = { Name, Options: { ...task.LogDriver?.Options, ...pairs(logOptions) } };
  }
}
