/**
 * The daemon's process: takes the data root's lock, opens this host's runtime, resumes the swarm
 * membership and serves the API until told to stop. SIGTERM and SIGINT stop it; containers run on.
 * Loaded by `tsswarm daemon` only.
 */

import { chmodSync } from 'node:fs';
import { dirname } from 'node:path';
import { AssertionError } from '../base/assert.ts';
import { SystemClock } from '../base/clock.ts';
import { makeDirectories } from '../base/directories.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import { Ids } from '../base/id.ts';
import { createLog, type LogLevel } from '../base/log.ts';
import { Meter } from '../base/meter.ts';
import { SystemRandom } from '../base/random.ts';
import { VERSION } from '../base/version.ts';
import { createApi } from './api/server.ts';
import { addressText, apiAddresses, metricsAddress } from './apiAddresses.ts';
import type { DaemonOptions, Environment } from './environment.ts';
import { parseGenericResources } from './genericResources.ts';
import { linkHandedFiles } from './handedFiles.ts';
import { openHost } from './hostRuntime.ts';
import { missingFeatures } from './kernel.ts';
import { parseLabels } from './labels.ts';
import { lockDataRoot } from './lock.ts';
import { keepMemoryLow } from './memory.ts';
import { Node } from './node.ts';
import { notifySystemd } from './notify.ts';
import { collectAlone, compileSoon } from './v8.ts';

/** A stop that takes longer ends the process anyway. */
const STOP_TIMEOUT_MS = 8000;
const LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error'];

function levelOf(text: string): LogLevel {
  const level = LEVELS.find((each) => each === text);
  if (level !== undefined) return level;
  throw new SwarmError('invalid', `invalid log level "${text}": use ${LEVELS.join(', ')}`);
}

function addHostGauges(meter: Meter, node: Node): void {
  meter.gauge('tsswarm_build_info', 'What runs here; always 1.', () => [
    { labels: { version: VERSION, node: process.version }, value: 1 },
  ]);
  meter.gauge('tsswarm_containers', 'Containers of this host.', () => {
    const all = node.host.containers.list();
    const running = all.filter(({ container }) => container.state === 'running').length;
    return [
      { labels: { state: 'running' }, value: running },
      { labels: { state: 'stopped' }, value: all.length - running },
    ];
  });
}

/** Runs until a signal stops it; rejects when it cannot start, with what a person should read. */
export async function runDaemon(options: DaemonOptions): Promise<void> {
  compileSoon();
  const log = createLog(levelOf(options.logLevel));
  parseLabels(options.labels);
  parseGenericResources(options.genericResources);
  const addresses = apiAddresses(options.hosts, options.tls);
  const metrics = metricsAddress(options.metricsAddress);
  if (process.getuid?.() !== 0) {
    throw new SwarmError('forbidden', 'the daemon needs root: start it as root or through sudo');
  }
  const clock = new SystemClock();
  keepMemoryLow(clock);
  const random = new SystemRandom();
  const fatal = (error: unknown): void => {
    const stack = error instanceof Error ? error.stack : undefined;
    log.error('the daemon ends', { error: messageOf(error), stack });
    process.exit(1);
  };
  process.on('uncaughtException', fatal);
  process.on('unhandledRejection', fatal);
  const meter = new Meter();
  const environment: Environment = { clock, random, ids: new Ids(random), log, meter, fatal };

  makeDirectories(options.execRoot, 0o711);
  chmodSync(options.execRoot, 0o711);
  lockDataRoot(options.dataRoot);
  linkHandedFiles(options.execRoot, options.dataRoot);
  const host = await openHost(environment, options);
  const node = new Node(environment, options, host.runtime, host.rooms);
  await node.resume();
  collectAlone();
  addHostGauges(meter, node);
  const api = createApi({ node, clock, log, random, meter });
  for (const address of addresses) {
    if (address.kind === 'tcp') {
      await api.listenTcp(address);
      continue;
    }
    makeDirectories(dirname(address.path), 0o755);
    await api.listenUnix(address.path, { group: options.socketGroup });
  }
  if (metrics !== undefined) await api.listenMetrics(metrics.host, metrics.port);
  node.serveApi((connection) => api.accept(connection));
  host.reserveIds();
  notifySystemd('READY=1');
  log.info('the daemon is ready', { version: VERSION, api: addresses.map(addressText) });
  void missingFeatures().then((lines) => {
    for (const line of lines) log.warn(line);
  });

  await new Promise<void>((resolve) => {
    process.once('SIGTERM', () => resolve());
    process.once('SIGINT', () => resolve());
  });
  notifySystemd('STOPPING=1');
  log.info('the daemon stops; containers run on');
  clock.afterIdle(STOP_TIMEOUT_MS, () => fatal(new AssertionError('stopping took too long')));
  await api.close();
  await node.close();
  await host.close();
  process.exit(0);
}
