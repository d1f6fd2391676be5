/**
 * HostConfig.LogConfig: the log driver of a container and its options, by Docker's names and with
 * Docker's refusals. local and json-file keep files; none keeps nothing; the rest of Docker's
 * drivers send away and are refused.
 */
import { parseBytes } from '../../../base/bytes.ts';
import { messageOf, SwarmError } from '../../../base/errors.ts';
import type { LogAttributes, StandaloneSpec } from '../../containers/types.ts';
import type { Fields } from '../fields.ts';

const LOG_FILES_MAX = 10_000;
/** Docker's default of max-buffer-size. */
const WAITING_BYTES = 1024 * 1024;
/** What a socket may be told to hold. */
const WAITING_MAX_BYTES = 1024 * 1024 * 1024;
/** Of a list of names, or a pattern. */
const NAMES_MAX = 4096;

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
const FILES: readonly string[] = ['max-size', 'max-file', 'compress', 'mode', 'max-buffer-size'];
const SAYS: readonly string[] = ['labels', 'labels-regex', 'env', 'env-regex', 'tag'];

/** The default is Docker's: its SDKs read the output of a run only where they know the driver. */
export function logFromDocker(config: Fields): Pick<StandaloneSpec, 'log' | 'logAttributes'> {
  const driver = driverOf(config);
  if (driver === 'none') return { log: { driver } };
  const options = config.labels('Config');
  const known = driver === 'local' ? FILES : [...FILES, ...SAYS];
  const unknown = Object.keys(options).find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw new SwarmError('invalid', `unknown log opt '${unknown}' for ${driver} log driver`);
  }
  const maxFiles = wholeOf(options, 'max-file', LOG_FILES_MAX);
  const maxSize = options['max-size'];
  const waitingBytes = waitingOf(options);
  // As Docker's, local packs unless told otherwise; one file alone is never packed.
  const compress = flagOf(options, 'compress', driver === 'local' && maxFiles !== 1);
  if (compress && maxFiles === 1) {
    throw new SwarmError('invalid', 'compress cannot be true when max-file is less than 2');
  }
  const says = attributesOf(options);
  return {
    log: {
      driver,
      ...(maxSize === undefined || maxSize === '-1' ? {} : { maxSizeBytes: sizeOf(maxSize) }),
      ...(maxFiles === undefined ? {} : { maxFiles }),
      ...(compress ? { compress } : {}),
      ...(waitingBytes === undefined ? {} : { waitingBytes }),
    },
    ...(says === undefined ? {} : { logAttributes: says }),
  };
}

function driverOf(config: Fields): 'local' | 'json-file' | 'none' {
  const driver = config.text('Type');
  if (driver === '') return 'json-file';
  if (driver === 'local' || driver === 'json-file' || driver === 'none') return driver;
  if (OTHER_DRIVERS.includes(driver)) {
    config.refused('Type', `"${driver}": use local, json-file or none`);
  }
  throw new SwarmError(
    'invalid',
    `error looking up logging plugin ${driver}: plugin "${driver}" not found`,
  );
}

type Options = Readonly<Record<string, string>>;

function sizeOf(text: string): number {
  const bytes = parseBytes(text);
  if (bytes > 0) return bytes;
  throw new SwarmError('invalid', 'max-size must be a positive number');
}

function wholeOf(options: Options, name: string, most: number): number | undefined {
  const text = options[name];
  if (text === undefined) return undefined;
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 1 && value <= most) return value;
  throw new SwarmError('invalid', `${name}: give a number from 1 to ${most}`);
}

function flagOf(options: Options, name: string, otherwise: boolean): boolean {
  const text = options[name];
  if (text === undefined) return otherwise;
  if (/^(1|t|true)$/i.test(text)) return true;
  if (/^(0|f|false)$/i.test(text)) return false;
  throw new SwarmError('invalid', `${name}: "${text}" is neither true nor false`);
}

/** How much may wait for the disk; undefined where the program waits. */
function waitingOf(options: Options): number | undefined {
  const mode = options['mode'] ?? 'blocking';
  const size = options['max-buffer-size'];
  if (mode !== 'blocking' && mode !== 'non-blocking') {
    throw new SwarmError('invalid', `logger: logging mode not supported: ${mode}`);
  }
  if (mode === 'non-blocking') {
    const bytes = size === undefined ? WAITING_BYTES : parseBytes(size);
    if (bytes > 0 && bytes <= WAITING_MAX_BYTES) return bytes;
    throw new SwarmError('invalid', `max-buffer-size: ${size} is not between 1 byte and 1 GiB`);
  }
  if (size === undefined) return undefined;
  throw new SwarmError(
    'invalid',
    "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
  );
}

function attributesOf(options: Options): LogAttributes | undefined {
  if (!SAYS.some((name) => (options[name] ?? '') !== '')) return undefined;
  const names = (name: string): readonly string[] =>
    (options[name] ?? '').split(',').filter((each) => each !== '');
  for (const name of SAYS) {
    if ((options[name] ?? '').length <= NAMES_MAX) continue;
    throw new SwarmError('invalid', `${name} is longer than ${NAMES_MAX} characters`);
  }
  return {
    labels: names('labels'),
    labelsPattern: patternOf(options, 'labels-regex'),
    env: names('env'),
    envPattern: patternOf(options, 'env-regex'),
    tag: options['tag'] ?? '',
  };
}

function patternOf(options: Options, name: string): string {
  const text = options[name] ?? '';
  try {
    new RegExp(text);
  } catch (cause) {
    throw new SwarmError('invalid', `${name}: ${messageOf(cause)}`, { cause });
  }
  return text;
}
