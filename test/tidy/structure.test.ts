/**
 * The structure of the tree, as tests: who may import whom (ARCHITECTURE's table), one door per npm
 * package, calls that would break "one seed replays a cluster", head comments and lengths.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { codeOnly, type Source, sources } from './sources.ts';

const all = sources();
const product = all.filter((source) => !/^(test|deploy)\//.test(source.path));

const MAX_LINES = 500;
const MAX_COLUMNS = 100;

/** Paths a room may import, beside itself. The first matching row counts. */
const TABLE: readonly (readonly [RegExp, RegExp])[] = [
  [/^base\//, /^$/],
  [/^model\//, /^base\//],
  [/^proto\//, /^(base|model)\//],
  [/^runtime\//, /^base\//],
  [/^agent\//, /^(base|model|proto|runtime)\//],
  [/^manager\/raft\/core\//, /^base\/(assert|random)\.ts$/],
  [/^manager\/raft\//, /^(base|model|proto)\//],
  [/^manager\/store\//, /^(base|model)\//],
  [/^manager\/placement\//, /^(base\/|model\/|manager\/store\/)/],
  [
    /^manager\/(allocator|orchestrator|rebalancer|scheduler)\//,
    /^(base\/|model\/|manager\/(store|loop|placement))/,
  ],
  [/^manager\//, /^(base|model|proto|manager)\//],
  [/^daemon\//, /^(base|model|proto|runtime|agent|manager)\//],
  [/^cli\//, /^(base|model)\/|^daemon\/(main|offline)\.ts$/],
  [/^sim\//, /^(base|model|proto|manager|agent)\//],
  [/^deploy\//, /^(base|model|runtime\/image)\//],
  [/^test\//, /./],
];

/** A room's own folder, as far as the table sees it as one. */
function roomOf(path: string): string {
  const inManager = /^manager\/(raft\/core|[^/]+)\//.exec(path);
  return inManager === null ? `${path.split('/')[0]}/` : inManager[0];
}

function isPackage(target: string): boolean {
  return !target.endsWith('.ts') && !target.endsWith('.js');
}

test('every room imports only what the table allows', () => {
  const wrong: string[] = [];
  for (const source of all) {
    const row = TABLE.find(([room]) => room.test(source.path));
    assert.ok(row !== undefined, `${source.path} is in no known room`);
    for (const { target } of source.imports) {
      if (isPackage(target) || target.startsWith('proto/gen/')) continue;
      if (target.startsWith(roomOf(source.path)) || row[1].test(target)) continue;
      wrong.push(`${source.path} -> ${target}`);
    }
  }
  assert.deepEqual(wrong, []);
});

test('the Raft core imports nothing of node and no package', () => {
  const core = all.filter((source) => source.path.startsWith('manager/raft/core/'));
  assert.ok(core.length > 0);
  const wrong = core.flatMap((source) =>
    source.imports.filter(({ target }) => isPackage(target)).map(({ target }) => target),
  );
  assert.deepEqual(wrong, []);
});

test('tests are imported by nobody', () => {
  const wrong = all
    .filter((source) => !source.path.startsWith('test/'))
    .filter((source) => source.imports.some(({ target }) => target.startsWith('test/')));
  assert.deepEqual(
    wrong.map((source) => source.path),
    [],
  );
});

/** The agent's only files that name the runtime. */
const RUNTIME_DOORS =
  /^agent\/(containerController|containerParts|health|networks|volumes|secrets)\.ts$/;

test('only the agent files made for it name the runtime', () => {
  const wrong = all
    .filter((source) => source.path.startsWith('agent/') && !RUNTIME_DOORS.test(source.path))
    .filter((source) => source.imports.some(({ target }) => target.startsWith('runtime/')));
  assert.deepEqual(
    wrong.map((source) => source.path),
    [],
  );
});

test('every npm package has one door', () => {
  const doors = new Map<string, Set<string>>();
  for (const source of product) {
    for (const { target } of source.imports) {
      if (!isPackage(target) || target.startsWith('node:')) continue;
      const name = target.startsWith('@')
        ? target.split('/').slice(0, 2).join('/')
        : target.split('/')[0];
      // protobuf's own runtime is proto's, whose generated code speaks it; proto is its door.
      const door = name === '@bufbuild/protobuf' ? source.path.split('/')[0] : source.path;
      doors.set(name, (doors.get(name) ?? new Set()).add(door));
    }
  }
  const many = [...doors].filter(([, files]) => files.size > 1);
  assert.deepEqual(
    many.map(([name, files]) => `${name}: ${[...files].join(', ')}`),
    [],
  );
});

test('generated code is imported only by proto', () => {
  const wrong = all
    .filter((source) => !source.path.startsWith('proto/'))
    .filter((source) => source.imports.some(({ target }) => target.includes('proto/gen/')));
  assert.deepEqual(
    wrong.map((source) => source.path),
    [],
  );
});

const BANNED = new RegExp(
  [
    String.raw`\b(Date|performance)\.now\b`,
    String.raw`\bMath\.random\b`,
    String.raw`\bset(Timeout|Interval)\b`,
    String.raw`\brandom(Bytes|UUID|FillSync)\b`,
    String.raw`\bgetRandomValues\b`,
    String.raw`\bnew Date\(\)`,
  ].join('|'),
);

test('time, timers and randomness come only through base', () => {
  const wrong: string[] = [];
  for (const source of all) {
    if (/^(base|test)\//.test(source.path)) continue;
    codeOnly(source.text)
      .split('\n')
      .forEach((line, at) => {
        if (BANNED.test(line)) wrong.push(`${source.path}:${at + 1}`);
      });
  }
  assert.deepEqual(wrong, []);
});

function headComment(source: Source): number {
  const start = source.lines.findIndex((line) => line !== '' && !line.startsWith('#!'));
  if (source.lines[start]?.startsWith('/**') !== true) return 0;
  const end = source.lines.findIndex((line, at) => at >= start && line.includes('*/'));
  return end - start + 1;
}

test('every file says at its head what it is for', () => {
  const silent = all.filter((source) => headComment(source) === 0).map((source) => source.path);
  assert.deepEqual(silent, []);
});

/** Addresses anywhere; in tests, names that are sentences and texts that are compared. */
function unbreakable(path: string, line: string): boolean {
  return /https?:\/\//.test(line) || (path.startsWith('test/') && /['`/]/.test(line));
}

test('no file is longer than 500 lines and no line than 100 columns', () => {
  const long = all.flatMap((source) => {
    const found = source.lines
      .map((line, at) => ({ line, at }))
      .filter(({ line }) => line.length > MAX_COLUMNS && !unbreakable(source.path, line))
      .map(({ at }) => `${source.path}:${at + 1}`);
    return source.lines.length > MAX_LINES + 1 ? [...found, source.path] : found;
  });
  assert.deepEqual(long, []);
});
