/**
 * The public suites of other OCI runtimes, run against one runtime: runc's (bats) and crun's
 * (Python). Their checkouts are given by path and copied aside, with what they would download or
 * build put in place from this machine. Every file runs in a mount namespace of its own; nothing
 * uses the network.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, join, resolve } from 'node:path';

/** Of one file of a suite; some tests wait for ever for what does not come. */
const FILE_TIMEOUT_MS = { bats: 15 * 60 * 1000, python: 5 * 60 * 1000 } as const;
const HERE = resolve('test/oci');

export type Outcome = 'passed' | 'failed' | 'skipped';

export interface CaseResult {
  readonly file: string;
  readonly name: string;
  readonly outcome: Outcome;
  /** What it printed, of one that failed. */
  readonly output: string;
}

export interface SuiteOptions {
  readonly runtime: string;
  readonly checkout: string;
  /** Empty; for copies. */
  readonly work: string;
  /** Only files whose name contains it. */
  readonly only?: string;
  /** Unmounts the v2 hierarchy of a hybrid host for the suite, for runtimes that refuse those. */
  readonly withoutUnified?: boolean;
  readonly onFile?: (results: readonly CaseResult[]) => void;
}

/** The lines of the Test Anything Protocol, with what failing ones said. */
export function parseTap(file: string, text: string): readonly CaseResult[] {
  const results: CaseResult[] = [];
  const before: string[] = [];
  for (const line of text.split('\n')) {
    const match = /^(not ok|ok) \d+ (?:- )?(.*)$/.exec(line);
    if (match === null) {
      const last = results.at(-1);
      if (last?.outcome === 'failed' && line.startsWith('#')) {
        results[results.length - 1] = { ...last, output: `${last.output}${line}\n` };
      } else {
        before.push(line);
      }
      continue;
    }
    const [, status, title = ''] = match;
    const [name = ''] = title.split(/ ?# ?skip/i);
    const isSkip = /# ?skip/i.test(title);
    const outcome = status === 'not ok' ? 'failed' : isSkip ? 'skipped' : 'passed';
    results.push({
      file,
      name,
      outcome,
      output: outcome === 'failed' ? `${before.join('\n')}\n` : '',
    });
    before.length = 0;
  }
  return results;
}

function runFile(
  file: string,
  command: readonly string[],
  cwd: string,
  env: Readonly<Record<string, string>>,
  { work, withoutUnified = false }: SuiteOptions,
): readonly CaseResult[] {
  const hide = withoutUnified ? 'umount /sys/fs/cgroup/unified; ' : '';
  // To a file: what a test leaves behind would keep a pipe open.
  const logs = [join(work, `${file}.out`), join(work, `${file}.err`)];
  const [out = -1, err = -1] = logs.map((log) => openSync(log, 'w'));
  const { error } = spawnSync(
    'unshare',
    ['-m', '--propagation', 'private', 'sh', '-c', `${hide}exec "$@"`, 'sh', ...command],
    {
      cwd,
      env: { ...process.env, ...env },
      timeout: file.endsWith('.py') ? FILE_TIMEOUT_MS.python : FILE_TIMEOUT_MS.bats,
      killSignal: 'SIGKILL',
      // Not /dev/null: crun gives the host's to the container's user.
      input: '',
      stdio: ['pipe', out, err],
    },
  );
  closeSync(out);
  closeSync(err);
  const text = logs.map((log) => readFileSync(log, 'utf8')).join('\n');
  const found = parseTap(file, text);
  const isWhole = error === undefined && (found.length > 0 || /^1\.\.0/m.test(text));
  if (isWhole) return found;
  const output = `${text}${error?.message ?? ''}`;
  return [...found, { file, name: '(the whole file)', outcome: 'failed', output }];
}

/** runc's, from its checkout (1.1). */
export function runRuncSuite(options: SuiteOptions): readonly CaseResult[] {
  const { checkout, work, runtime } = options;
  const top = join(work, 'runc');
  for (const name of ['tests', 'contrib', 'go.mod']) {
    cpSync(join(checkout, name), join(top, name), { recursive: true });
  }
  const integration = join(top, 'tests/integration');
  const images = join(work, 'images');
  execFileSync(join(HERE, 'images'), [images]);
  writeFileSync(
    join(integration, 'get-images.sh'),
    `#!/bin/sh\necho "BUSYBOX_IMAGE=${images}/busybox.tar"\necho "DEBIAN_IMAGE=${images}/debian.tar"\n`,
  );
  const receiver = join(top, 'contrib/cmd/recvtty/recvtty');
  if (!buildHelper(checkout, 'recvtty', receiver)) {
    copyFileSync(join(HERE, 'recvtty.py'), receiver);
    chmodSync(receiver, 0o755);
  }
  // For the tests of seccomp's notifications; without libseccomp's headers they fail.
  buildHelper(checkout, 'seccompagent', join(top, 'contrib/cmd/seccompagent/seccompagent'));
  // The suite looks for its subject's name in help and version.
  const subject = join(work, 'bin/runc');
  mkdirSync(join(work, 'bin'), { recursive: true });
  symlinkSync(resolve(runtime), subject);
  const results: CaseResult[] = [];
  for (const name of readdirSync(integration).toSorted()) {
    if (!name.endsWith('.bats') || !name.includes(options.only ?? '')) continue;
    const env = { RUNC: subject };
    const found = runFile(name, ['bats', '--tap', name], integration, env, options);
    results.push(...found);
    options.onFile?.(found);
  }
  return results;
}

/** false without Go. */
function buildHelper(checkout: string, name: string, target: string): boolean {
  const { status } = spawnSync(
    'go',
    ['build', '-tags', 'seccomp', '-o', target, `./contrib/cmd/${name}`],
    {
      cwd: checkout,
      stdio: 'ignore',
      env: { ...process.env, GOFLAGS: '-mod=vendor', GOPROXY: 'off', CGO_ENABLED: '1' },
    },
  );
  return status === 0;
}

/** crun's, from its checkout (1.8). */
export function runCrunSuite(options: SuiteOptions): readonly CaseResult[] {
  const { checkout, work, runtime } = options;
  const top = join(work, 'crun');
  const tests = join(top, 'tests');
  cpSync(join(checkout, 'tests'), tests, { recursive: true });
  const init = join(tests, 'init');
  // What its configure script would find out.
  writeFileSync(
    join(tests, 'config.h'),
    '#define _GNU_SOURCE 1\n#define HAVE_SECCOMP 1\n#define HAVE_ERROR_H 1\n',
  );
  execFileSync('gcc', ['-static', '-w', `-I${tests}`, '-o', init, join(tests, 'init.c')]);
  const env = {
    OCI_RUNTIME: resolve(runtime),
    INIT: init,
    PYTHONPATH: HERE,
    PYTHONDONTWRITEBYTECODE: '1',
  };
  const results: CaseResult[] = [];
  for (const name of readdirSync(tests).toSorted()) {
    const isTest = /^test_.*\.py$/.test(name) && name.includes(options.only ?? '');
    if (!isTest || !existsSync(join(tests, name))) continue;
    const found = runFile(name, ['python3', join('tests', name)], top, env, options);
    results.push(...found);
    options.onFile?.(found);
  }
  return results;
}

/** Passed, failed and skipped by file, and in all. */
export function tableOf(results: readonly CaseResult[]): string {
  const files = [...new Set(results.map(({ file }) => file))];
  const row = (title: string, some: readonly CaseResult[]): string => {
    const count = (outcome: Outcome): string =>
      String(some.filter((one) => one.outcome === outcome).length).padStart(8);
    return `${title.padEnd(32)}${count('passed')}${count('failed')}${count('skipped')}`;
  };
  const head = `${'file'.padEnd(32)}${['passed', 'failed', 'skipped'].map((word) => word.padStart(8)).join('')}`;
  const rows = files.map((file) => {
    const some = results.filter((result) => result.file === file);
    return row(basename(file), some);
  });
  return [head, ...rows, row('in all', results)].join('\n');
}
