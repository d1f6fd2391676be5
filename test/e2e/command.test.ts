/**
 * The command beside what it changes: the live picture on a terminal and in a pipe, completion, and
 * the ways to pick from lists (--format, --filter, -q, --json, prefixes of ids). Three hosts, one
 * of them a worker; the tests share one lab.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { follow, inside, lab, loadImage, raise, swarm, until, WEB_IMAGE } from '../support/lab.ts';
import { onTerminal, refused, within } from '../support/labHosts.ts';

const WAIT_MS = 20_000;
const ESC = '\x1b';

before(async () => {
  await raise(3, 2);
  await loadImage('h1', 'h2', 'h3');
  await swarm('h1', 'network', 'create', '--label', 'side=front', 'front');
  await swarm(
    'h1',
    'service',
    'create',
    '--name',
    'web',
    '--replicas',
    '3',
    '--label',
    'a=b',
    WEB_IMAGE,
  );
});

after(async () => {
  await lab('down');
});

test('watch in a pipe is one line an event, and a task tells its move with its phases', async () => {
  const watch = follow('h1', 'tsswarm', 'watch');
  try {
    await until('the state is told', WAIT_MS, () => watch.lines.length > 0 || undefined);
    assert.match(
      watch.lines[0],
      /^\d\d:\d\d:\d\d\.\d{3} swarm: 3 of 3 nodes ready, leader h[12], term \d+/,
    );
    await swarm('h1', 'service', 'create', '--name', 'seen', WEB_IMAGE);
    await swarm('h1', 'service', 'rm', 'seen');
    await until(
      'its removal is told',
      WAIT_MS,
      () => watch.lines.some((line) => /service seen: remove/.test(line)) || undefined,
    );
  } finally {
    watch.stop();
  }
  const line = /^\d\d:\d\d:\d\d\.\d{3} (swarm|(task|service|node|network) \S+).*: \S/;
  for (const each of watch.lines) assert.match(each, line);
  const text = watch.lines.join('\n');
  assert.ok(!text.includes(ESC), 'no terminal codes in a pipe');
  assert.match(text, /task seen\.1 on h\d: \S+ -> running \(.*\d ms\)$/m);
});

test('watch --json is one valid object a line', async () => {
  const watch = follow('h2', 'tsswarm', 'watch', '--json');
  try {
    await until('the state is told', WAIT_MS, () => watch.lines.length > 0 || undefined);
    await swarm('h1', 'service', 'update', '--force', '--detach', 'web');
    await until('moves are told', WAIT_MS, () => watch.lines.length > 5 || undefined);
  } finally {
    watch.stop();
  }
  const messages = watch.lines.map((line) => JSON.parse(line) as { type: string; atMs: number });
  assert.equal(messages[0].type, 'state');
  assert.ok(messages.some(({ type }) => type === 'task'));
  assert.ok(messages.every(({ atMs }) => atMs > 0));
});

test('watch on a terminal draws leader, nodes and tasks, and leaves it clean', async () => {
  const line = `trap : INT; stty rows 50 cols 140; tsswarm watch; echo "ended $?"; stty -a`;
  const terminal = onTerminal('h1', line);
  await until('every task is drawn', WAIT_MS, () => {
    const seen = [1, 2, 3].every((slot) =>
      new RegExp(`web\\.${slot} +h\\d +running`).test(terminal.said()),
    );
    return seen || undefined;
  });
  terminal.type('\x03');
  assert.equal((await terminal.ended).code, 0);
  const text = terminal.said();
  assert.match(text, /MANAGERS +term \d+/);
  assert.match(text, /h[12] +10\.99\.0\.1[12]:2377 +leader +reachable/);
  for (const host of ['h1', 'h2', 'h3']) assert.match(text, new RegExp(`${host} +ready`));
  for (const slot of [1, 2, 3]) assert.match(text, new RegExp(`web\\.${slot} +h\\d +running`));
  const [entered, left] = [`${ESC}[?1049h${ESC}[?25l`, `${ESC}[?25h${ESC}[?1049l`];
  assert.equal(text.split(entered).length, 2);
  assert.equal(text.split(left).length, 2);
  const rest = text.slice(text.indexOf(left) + left.length);
  assert.match(rest, /^(\^C)?ended (0|130)\r\n/);
  // The terminal echoes and gathers lines as before.
  assert.match(rest, / icanon /);
  assert.match(rest, / echo /);
});

test('completion is valid for its shell and answers with commands, flags and names', async () => {
  for (const shell of ['bash', 'zsh', 'fish']) {
    assert.match(await swarm('h1', 'completion', shell), /tsswarm/);
  }
  const check = await inside('h1', 'sh', '-c', 'tsswarm completion bash | bash -n');
  assert.equal(check.stderr, '');
  assert.equal(check.code, 0);
  const asked = await inside(
    'h1',
    'bash',
    '-c',
    `eval "$(tsswarm completion bash)"; complete_line() { COMP_WORDS=("$@"); COMP_CWORD=$(($#-1));
     _tsswarm; echo "\${COMPREPLY[*]}"; }
     complete_line tsswarm serv; complete_line tsswarm service sc
     complete_line tsswarm service rm w
     complete_line tsswarm node promote h; complete_line tsswarm service create --repl`,
  );
  const [group, command, service, node, flag] = asked.stdout.trim().split('\n');
  assert.equal(group, 'service');
  assert.equal(command, 'scale');
  assert.equal(service, 'web');
  assert.equal(node, 'h1 h2 h3');
  assert.match(flag, /--replicas\b/);
  await refused('h1', ['completion', 'tcsh'], /unknown shell "tcsh": use bash, zsh or fish/);
});

const LISTS: readonly (readonly [string[], string, string, string, number])[] = [
  // command, a field, a filter, what the field is then, how many there are unfiltered
  [['node', 'ls'], 'Hostname', 'name=h2', 'h2', 3],
  [['service', 'ls'], 'Name', 'label=a=b', 'web', 1],
  [['network', 'ls'], 'Name', 'label=side=front', 'front', -1],
  [['service', 'ps', 'web'], 'Name', 'name=web.2', 'web.2', -1],
  [['image', 'ls'], 'Repository', 'reference=tsswarm/web', 'tsswarm/web', 1],
];

for (const [command, field, filter, value, count] of LISTS) {
  test(`${command.join(' ')} obeys --format, --filter, -q and --json`, async () => {
    const current = command[1] === 'ps' ? ['--filter', 'desired-state=running'] : [];
    const ls = async (...args: string[]): Promise<string> => {
      const result = await within('h1', 'tsswarm', ...command, ...current, ...args);
      assert.equal(result.code, 0, result.stderr);
      return result.stdout.trimEnd();
    };
    const [table, quiet, json, only, lines, titled] = await Promise.all([
      ls(),
      ls('-q'),
      ls('--json'),
      ls('--filter', filter, '--format', `{{.${field}}}`),
      ls('--format', 'json'),
      ls('--format', `table {{.${field}}}\t{{.ID}}`),
    ]);
    const rows = table.split('\n').slice(1);
    if (count >= 0) assert.equal(rows.length, count, table);
    assert.equal(quiet.split('\n').length, rows.length);
    for (const id of quiet.split('\n')) assert.match(id, /^[0-9a-z]{12,25}$/);
    assert.equal((JSON.parse(json) as unknown[]).length, rows.length);
    assert.equal(only, value);
    assert.equal(lines.split('\n').filter((line) => field in JSON.parse(line)).length, rows.length);
    assert.equal(titled.split('\n').length, rows.length + 1);
    assert.match(titled, /^[A-Z ]+ +[A-Z ]*ID\n/);
    await refused('h1', [...command, '--format', '{{.Nope}}'], /\.Nope is unknown: use \./);
    await refused('h1', [...command, '--format', '{{.ID'], /invalid template/);
    await refused('h1', [...command, '--filter', 'nope=1'], /invalid filter 'nope': use one of/);
  });
}

test('a prefix of an id does, an ambiguous one is refused', async () => {
  const ids = (await swarm('h1', 'node', 'ls', '-q')).split('\n');
  const own = ids[0];
  const unique = own.slice(0, 12);
  const format = ['--format', '{{.ID}}'];
  assert.equal(await swarm('h1', 'node', 'inspect', ...format, unique), own);
  const service = await swarm('h1', 'service', 'ls', '-q');
  const named = await swarm(
    'h1',
    'service',
    'inspect',
    '--format',
    '{{.Spec.Name}}',
    service.slice(0, 5),
  );
  assert.equal(named, 'web');
  // As many services as it takes until two ids begin alike: one more than there are letters.
  const made = Array.from({ length: 37 }, (_, at) => `many${at}`);
  const all = await createMany(made);
  const first = all.map((id) => id[0]).find((letter, at, list) => list.indexOf(letter) !== at);
  assert.ok(first !== undefined);
  await refused('h1', ['service', 'inspect', first], /service . is ambiguous: give more of the id/);
  await refused('h1', ['service', 'rm', first], /service . is ambiguous: give more of the id/);
  assert.equal((await swarm('h1', 'service', 'ls', '-q')).split('\n').length, made.length + 1);
});

/** Services without tasks, made through the API in one process; their ids. */
async function createMany(names: readonly string[]): Promise<string[]> {
  const program = `const { request } = require('node:http');
    const create = (Name) => new Promise((resolve) => {
      const question = request({ socketPath: process.env.TSSWARM_HOST.slice(7), method: 'POST',
        path: '/services/create' }, async (answer) => {
        let text = '';
        for await (const chunk of answer) text += chunk;
        resolve(JSON.parse(text).ID);
      });
      question.end(JSON.stringify({ Name, Mode: { Replicated: { Replicas: 0 } },
        TaskTemplate: { ContainerSpec: { Image: '${WEB_IMAGE}' } } }));
    });
    Promise.all(process.argv.slice(1).map(create)).then((ids) => console.log(ids.join(' ')));`;
  const result = await inside('h1', 'node', '-e', program, ...names);
  return result.stdout.trim().split(' ');
}
