/**
 * The body of POST /containers/create as a StandaloneSpec. Every field that Docker knows is read,
 * accepted because it says what happens anyway, or refused by its path.
 */
import { parseBytes } from '../../../base/bytes.ts';
import { SwarmError } from '../../../base/errors.ts';
import type { HealthCheck } from '../../../runtime/container/types.ts';
import type { CreateRequest, RestartPolicy, StandaloneSpec } from '../../containers/types.ts';
import { type Fields, isRecord } from '../fields.ts';
import { readDurationMs } from './common.ts';
import { endpointsFromDocker, exposedFromDocker, portsFromDocker } from './containerNetwork.ts';
import { hostFromDocker } from './hostConfig.ts';
import { mountsFromDocker } from './mounts.ts';

const LOG_FILES_MAX = 10_000;

/** SwarmError invalid or unsupported names the field. */
export function createFromDocker(name: string, body: Fields): CreateRequest {
  const host = body.objectOrEmpty('HostConfig');
  const raw = body.raw('HostConfig');
  return { name, spec: specFromDocker(body, host), hostConfig: isRecord(raw) ? raw : {} };
}

function specFromDocker(body: Fields, host: Fields): StandaloneSpec {
  const image = body.text('Image');
  if (image === '') {
    throw new SwarmError('invalid', 'Image is missing: name an image to make the container from');
  }
  body.refuse('OnBuild', 'Shell', 'NetworkDisabled');
  const restart = restartFromDocker(host);
  const autoRemove = host.flag('AutoRemove');
  if (autoRemove && restart.name !== 'no') {
    throw new SwarmError('invalid', "can't create 'AutoRemove' container with restart policy");
  }
  return {
    image,
    command: body.has('Cmd') ? words(body, 'Cmd') : undefined,
    entrypoint: body.has('Entrypoint') ? words(body, 'Entrypoint') : undefined,
    env: body.texts('Env'),
    workingDir: body.text('WorkingDir'),
    user: body.text('User'),
    labels: body.labels('Labels'),
    hostname: body.line('Hostname'),
    domainName: body.line('Domainname'),
    tty: body.flag('Tty'),
    openStdin: body.flag('OpenStdin'),
    stdinOnce: body.flag('StdinOnce'),
    stopSignal: body.text('StopSignal'),
    stopTimeoutS: body.has('StopTimeout') ? body.wide('StopTimeout', 0) : undefined,
    healthCheck: healthFromDocker(body.object('Healthcheck')),
    exposedPorts: exposedFromDocker(body),
    anonymousVolumes: keysOf(body, 'Volumes'),
    mounts: mountsFromDocker(host),
    volumesFrom: host.texts('VolumesFrom'),
    endpoints: endpointsFromDocker(body),
    ports: portsFromDocker(host),
    publishAll: host.flag('PublishAllPorts'),
    restart,
    autoRemove,
    log: logFromDocker(host.objectOrEmpty('LogConfig')),
    consoleSize: host.size('ConsoleSize'),
    ...hostFromDocker(host),
  };
}

/** Docker takes one string for a list of one here. */
function words(body: Fields, name: string): string[] {
  const value = body.raw(name);
  return typeof value === 'string' ? [value] : body.texts(name);
}

export function keysOf(body: Fields, name: string): string[] {
  const value = body.raw(name);
  if (value === undefined) return [];
  if (!isRecord(value)) throw new SwarmError('invalid', `${body.at(name)} must be an object`);
  return Object.keys(value);
}

/** Shorter makes no sense; Docker's own bound. */
const SHORTEST_MS = 1;

export function healthFromDocker(check: Fields | undefined): HealthCheck | undefined {
  if (check === undefined) return undefined;
  const ms = (name: string): number => {
    const value = readDurationMs(check, name, 0);
    if (value === 0 || value >= SHORTEST_MS) return value;
    throw new SwarmError('invalid', `${check.at(name)} cannot be less than 1ms`);
  };
  const test = check.texts('Test');
  const [kind] = test;
  if (kind !== undefined && !['NONE', 'CMD', 'CMD-SHELL'].includes(kind)) {
    throw new SwarmError(
      'invalid',
      `${check.at('Test')}: "${kind}" is none of NONE, CMD, CMD-SHELL`,
    );
  }
  return {
    test,
    intervalMs: ms('Interval'),
    timeoutMs: ms('Timeout'),
    retries: check.whole('Retries', 0),
    startPeriodMs: ms('StartPeriod'),
    startIntervalMs: ms('StartInterval'),
  };
}

const POLICIES = ['no', 'always', 'unless-stopped', 'on-failure'] as const;

/** Also the body of /containers/{id}/update has one. */
export function restartFromDocker(host: Fields): RestartPolicy {
  const policy = host.objectOrEmpty('RestartPolicy');
  const name = policy.choice('Name', POLICIES, 'no');
  const maximumRetries = policy.wide('MaximumRetryCount', 0);
  if (maximumRetries !== 0 && name !== 'on-failure') {
    throw new SwarmError(
      'invalid',
      'invalid restart policy: maximum retry count can only be used with on-failure',
    );
  }
  if (!Number.isSafeInteger(maximumRetries) || maximumRetries < 0) {
    throw new SwarmError(
      'invalid',
      'invalid restart policy: maximum retry count cannot be negative',
    );
  }
  return { name, maximumRetries };
}

const OTHER_DRIVERS: readonly string[] = [
  'awslogs',
  'etwlogs',
  'fluentd',
  'gcplogs',
  'gelf',
  'journald',
  'logentries',
  'splunk',
  'syslog',
];

/**
 * local and json-file keep files; none keeps nothing. The rest of Docker's drivers send away. The
 * default is Docker's: its SDKs read the output of a run only where they know the driver.
 */
function logFromDocker(config: Fields): StandaloneSpec['log'] {
  const driver = config.text('Type');
  if (!['', 'local', 'json-file', 'none', ...OTHER_DRIVERS].includes(driver)) {
    throw new SwarmError(
      'invalid',
      `error looking up logging plugin ${driver}: plugin "${driver}" not found`,
    );
  }
  if (OTHER_DRIVERS.includes(driver)) {
    config.refused('Type', `"${driver}": use local, json-file or none`);
  }
  const options = config.labels('Config');
  const unknown = Object.keys(options).find((name) => !['max-size', 'max-file'].includes(name));
  if (unknown !== undefined) config.refused(`Config.${unknown}`, 'use max-size and max-file');
  const maxFiles = Number(options['max-file'] ?? 1);
  if (!Number.isSafeInteger(maxFiles) || maxFiles < 1 || maxFiles > LOG_FILES_MAX) {
    throw new SwarmError('invalid', `max-file: give a number from 1 to ${LOG_FILES_MAX}`);
  }
  const maxSize = options['max-size'];
  return {
    driver: driver === '' ? 'json-file' : (driver as 'local' | 'json-file' | 'none'),
    ...(maxSize === undefined || maxSize === '-1' ? {} : { maxSizeBytes: parseBytes(maxSize) }),
    ...(options['max-file'] === undefined ? {} : { maxFiles }),
  };
}
