/** Texts of flags, templates and tables, without a process. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inOurWords } from '../../cli/client.ts';
import { tableText } from '../../cli/output/list.ts';
import { compileTemplate } from '../../cli/output/template.ts';
import { parseMount } from '../../cli/service/mount.ts';
import * as parse from '../../cli/service/parse.ts';
import { LeaderLines } from '../../cli/watch/lines.ts';
import { Picture } from '../../cli/watch/picture.ts';
import type { LiveMessage } from '../../model/live.ts';

const VALUE = {
  Name: 'web',
  Labels: { b: '2', a: '1' },
  List: ['x', 'y'],
  Empty: [],
  Inner: { Deep: { Count: 3 } },
  On: true,
};

const TEMPLATES: readonly (readonly [string, string])[] = [
  ['{{.Name}}', 'web'],
  ['{{.Inner.Deep.Count}}-{{.On}}', '3-true'],
  ['{{json .List}}', '["x","y"]'],
  ['{{.List}} {{.Labels}}', '[x y] map[a:1 b:2]'],
  ['{{.Nope}}', '<no value>'],
  ['{{upper .Name}} {{.Name | upper | lower}}', 'WEB web'],
  ['{{join .List ","}}', 'x,y'],
  ['{{range .List}}<{{.}}>{{end}}', '<x><y>'],
  ['{{range .Empty}}x{{else}}none{{end}}', 'none'],
  ['{{if .On}}yes{{else}}no{{end}}', 'yes'],
  ['{{if eq .Name "api"}}a{{else}}b{{end}}', 'b'],
  ['{{index .Labels "a"}} {{index .List 1}} {{len .List}}', '1 y 2'],
  ['{{(index .List 0)}}', 'x'],
  ['a {{- .Name -}} b', 'awebb'],
  ['{{println .Name}}', 'web\n'],
  ['{{.Name}}\\t|', 'web\t|'],
  ['{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}', 'a=1;b=2;'],
  ['{{range $i, $v := .List}}{{$i}}{{$v}}{{end}}', '0x1y'],
  ['{{with .Inner}}{{.Deep.Count}}{{$.Name}}{{end}}', '3web'],
  ['{{with .Nope}}x{{else}}none{{end}}', 'none'],
  ['{{if eq .Name "a"}}a{{else if eq .Name "web"}}w{{else}}o{{end}}', 'w'],
  ['{{$n := .Name}}{{range .List}}{{$n}}{{.}} {{end}}', 'webx weby '],
  ['{{printf "%-5s|%05d|%q|%.2f" .Name 42 "a" 1.5}}', 'web  |00042|"a"|1.50'],
  ['{{truncate .Name 2}}{{pad .Name 1 1}}|{{slice .Name 1}}', 'we web |eb'],
  ['{{if and (gt 3 2) (le 2 2) (not false)}}y{{end}}', 'y'],
  ['{{/* nothing */}}{{(index .Inner "Deep").Count}}', '3'],
  ['{{.Name | printf "%s!" | upper}}', 'WEB!'],
  ['{{$.Inner.Deep.Count}}', '3'],
];

for (const [source, wanted] of TEMPLATES) {
  test(`the template ${source} gives ${JSON.stringify(wanted)}`, () => {
    assert.equal(compileTemplate(source)(VALUE), wanted);
  });
}

test('commands that the daemon names are those that exist here', () => {
  const cases: readonly (readonly [string, string])[] = [
    ['Use "docker swarm init" or', 'Use "tsswarm init" or'],
    ['Please use "docker swarm unlock" to', 'Please use "tsswarm swarm unlock" to'],
    ['"docker swarm join-token worker"', '"tsswarm join-token worker"'],
    ['"docker node ls" shows it', '"tsswarm node ls" shows it'],
  ];
  for (const [theirs, ours] of cases) assert.equal(inOurWords(theirs), ours);
});

test('a broken template says what is wrong with it', () => {
  for (const source of ['{{.A', '{{range .A}}', '{{end}}', '{{nope .A}}', '{{}}', '{{.A .B}}']) {
    assert.throws(() => compileTemplate(source), { code: 'invalid', message: /^invalid template/ });
  }
});

test('published ports are read in Docker’s short and long forms', () => {
  const [one] = parse.parsePublish('8080:80');
  assert.deepEqual(one, {
    Protocol: 'tcp',
    TargetPort: 80,
    PublishedPort: 8080,
    PublishMode: 'ingress',
  });
  assert.equal(parse.parsePublish('53/udp')[0].Protocol, 'udp');
  assert.deepEqual(
    parse.parsePublish('8000-8001:80-81').map((port) => [port.PublishedPort, port.TargetPort]),
    [
      [8000, 80],
      [8001, 81],
    ],
  );
  assert.deepEqual(parse.parsePublish('published=80,target=81,mode=host,protocol=udp'), [
    { Protocol: 'udp', TargetPort: 81, PublishMode: 'host', PublishedPort: 80 },
  ]);
  for (const text of ['', '0:80', '80:', 'a:b', '1-3:1-2', '3-1:3-1', 'published=80', 'x=1']) {
    assert.throws(() => parse.parsePublish(text), { code: 'invalid' }, text);
  }
});

test('mounts, networks, hosts, preferences and commands are read', () => {
  assert.deepEqual(parseMount('type=bind,src=/a,dst=/b,ro'), {
    Type: 'bind',
    Source: '/a',
    Target: '/b',
    ReadOnly: true,
  });
  assert.deepEqual(parseMount('type=tmpfs,target=/t,tmpfs-mode=1777'), {
    Type: 'tmpfs',
    Target: '/t',
    TmpfsOptions: { Mode: 0o1777 },
  });
  assert.throws(() => parseMount('type=bind'), /target is missing/);
  assert.deepEqual(parse.parseNetwork('a'), { Target: 'a' });
  assert.deepEqual(parse.parseNetwork('name=a,alias=b,alias=c'), {
    Target: 'a',
    Aliases: ['b', 'c'],
  });
  assert.throws(() => parse.parseNetwork('alias=b'), /name is missing/);
  assert.equal(parse.parseHost('db:::1'), '::1 db');
  assert.equal(parse.parsePreference('spread=node.labels.zone'), 'node.labels.zone');
  assert.equal(parse.parseCpus('.5'), 500_000_000);
  assert.deepEqual(parse.splitCommand(`a "b c" 'd"e' f\\ g "h\\"i" ''`), [
    'a',
    'b c',
    'd"e',
    'f g',
    'h"i',
    '',
  ]);
  assert.throws(() => parse.splitCommand('a "b'), /a quote is not closed/);
});

test('a variable without a value takes it from the caller’s environment', () => {
  process.env.TSSWARM_TEST_VARIABLE = 'x';
  assert.equal(parse.parseEnv('TSSWARM_TEST_VARIABLE'), 'TSSWARM_TEST_VARIABLE=x');
  delete process.env.TSSWARM_TEST_VARIABLE;
  assert.equal(parse.parseEnv('TSSWARM_TEST_VARIABLE'), undefined);
  assert.throws(() => parse.parseEnv('=x'), { code: 'invalid' });
});

test('tables have Docker’s spacing', () => {
  const rows = [
    ['ID', 'NAME'],
    ['1', 'a long name'],
  ];
  assert.equal(tableText(rows), 'ID        NAME\n1         a long name\n');
});

test('the picture fits its terminal and shows managers, nodes, tasks and events', () => {
  const picture = new Picture();
  const task = {
    id: 't1',
    serviceId: 's1',
    name: 'web.1',
    nodeId: 'n1',
    hostname: 'h1',
    state: 'running',
    desiredState: 'running',
    atMs: 1000,
    message: 'started',
    error: '',
    phases: { new: 0, assigned: 3, running: 20 },
  };
  const manager = { nodeId: 'n1', hostname: 'h1', address: '10.0.0.1:2377', reachable: true };
  const node = {
    id: 'n1',
    hostname: 'h1',
    address: '10.0.0.1',
    role: 'manager',
    availability: 'active',
    state: 'ready',
    stateMessage: '',
    heartbeatAgeMs: 120,
    runningTasks: 1,
    reservedNanoCpus: 500_000_000,
    nanoCpus: 2_000_000_000,
    reservedMemoryBytes: 0,
    memoryBytes: 1024 ** 3,
  } as const;
  picture.apply({
    type: 'state',
    taskCount: 1,
    atMs: 1000,
    cluster: {
      term: 4,
      leaderNodeId: 'n1',
      managers: [{ ...manager, isLeader: true, lag: 0 }],
      nodes: [node],
    },
    tasks: [],
  });
  picture.apply({ type: 'task', atMs: 1000, change: 'update', task, before: 'starting' });
  const text = picture.render(100, 24, 3000);
  const lines = text.split('\n');
  assert.ok(lines.length <= 24);
  assert.match(text, /MANAGERS {2}term 4/);
  assert.match(text, /h1 +ready +1 tasks {2}0\.5\/2 CPU {2}0B\/1GiB {2}heard 120 ms ago/);
  assert.match(text, /web\.1 +h1 +running +2 seconds +placed 3, started 17 ms/);
  assert.match(text, /web\.1 on h1: starting -> running \(placed 3, started 17 ms\)/);
  for (const rows of [1, 5, 10]) {
    assert.ok(picture.render(20, rows, 3000).split('\n').length <= Math.max(1, rows));
  }
});

test('a lost leader is told once, with who is not heard, and once that there is one again', () => {
  const managers = ['h1', 'h2'].map((hostname) => ({
    nodeId: hostname,
    hostname,
    address: `${hostname}:2377`,
    lag: null,
  }));
  const message = (leader: string, atMs: number): LiveMessage => ({
    type: 'cluster',
    atMs,
    cluster: {
      term: 5,
      leaderNodeId: leader,
      managers: managers.map((manager) => ({
        ...manager,
        isLeader: manager.hostname === leader,
        reachable: leader !== '' || manager.hostname === 'h1',
      })),
      nodes: [],
    },
  });
  const lines = new LeaderLines();
  const told = ['h2', '', '', 'h1', 'h1'].map((leader) => [...lines.of(message(leader, 0))]);
  const lost = 'no leader (no quorum, or an election is under way): not heard: h2 (h2:2377)';
  assert.deepEqual(told, [
    [],
    [`00:00:00.000 swarm: ${lost}`],
    [],
    ['00:00:00.000 swarm: leader h1 again, term 5'],
    [],
  ]);
  const picture = new Picture();
  picture.apply(message('', 0));
  assert.ok(picture.render(100, 24, 0).startsWith(`\x1b[31mMANAGERS  ${lost}`));
});
