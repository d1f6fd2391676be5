/**
 * What a process has exactly one of (clock, randomness, ids, log) and how it is told to run: handed
 * to everything in the daemon through constructors.
 */
import type { Clock } from '../base/clock.ts';
import type { Ids } from '../base/id.ts';
import type { Log } from '../base/log.ts';
import type { Meter } from '../base/meter.ts';
import type { Random } from '../base/random.ts';
import type { TlsFlags } from './apiAddresses.ts';

export interface Environment {
  readonly clock: Clock;
  readonly random: Random;
  readonly ids: Ids;
  readonly log: Log;
  readonly meter: Meter;
  /** The process cannot go on truthfully: it says why and ends. */
  readonly fatal: (error: unknown) => void;
}

export interface DaemonOptions {
  /** State that outlives a boot. */
  readonly dataRoot: string;
  /** Sockets, pids, exit records: gone after a boot. */
  readonly execRoot: string;
  /** What the API is served on: unix:///path, tcp://address:port. */
  readonly hosts: readonly string[];
  readonly tls: TlsFlags;
  /** host:port on which figures are served to whoever asks; '' = only where the API is. */
  readonly metricsAddress: string;
  /** Group that may use the sockets, beside root. */
  readonly socketGroup: string;
  /** Subtree of every cgroup hierarchy that containers live in. */
  readonly cgroupParent: string;
  /** debug, info, warn or error. */
  readonly logLevel: string;
  readonly insecureRegistries: readonly string[];
  /** URLs asked before Docker Hub. */
  readonly registryMirrors: readonly string[];
  /** Layers fetched, and sent, at once. */
  readonly parallelDownloads: number;
  readonly parallelUploads: number;
  /** Whose ids root in containers has: 'default', 'user[:group]'; '' = the host's. */
  readonly usernsRemap: string;
  /** What unused images may take, and how long they may lie: '10GB', '168h'; '' = no bound. */
  readonly imageGcSize: string;
  readonly imageGcAge: string;
  /** 'key=value', told to the managers as engine labels. */
  readonly labels: readonly string[];
  /** Where other hosts reach this one from now on; '' = where they did. */
  readonly advertiseAddress: string;
  /** 'gpu=2', 'gpu=UUID-1': what the host offers besides. */
  readonly genericResources: readonly string[];
}
