/**
 * The body of POST /containers/create as a StandaloneSpec. Every field that Docker knows is read,
 * accepted because it says what happens anyway, or refused by its path.
 */
import { SwarmError } from '../../../base/errors.ts';
import type { HealthCheck } from '../../../runtime/container/types.ts';
import type { CreateRequest, RestartPolicy, StandaloneSpec } from '../../containers/types.ts';
import { type Fields, isRecord } from '../fields.ts';
import { readDurationMs } from './common.ts';
import {
  endpointsFromDocker,
  exposedFromDocker,
  linksFromDocker,
  portsFromDocker,
} from './containerNetwork.ts';
import { hostFromDocker } from './hostConfig.ts';
import { logFromDocker } from './logConfig.ts';
import { mountsFromDocker } from './mounts.ts';

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
    ...linksFromDocker(body),
    ports: portsFromDocker(host),
    publishAll: host.flag('PublishAllPorts'),
    restart,
    autoRemove,
    ...logFromDocker(host.objectOrEmpty('LogConfig')),
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
