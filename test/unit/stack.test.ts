/** Stack files: reading, variables, merging, order; what is refused and with which words. */
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of stack files look so.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { convertServices } from '../../cli/stack/convert.ts';
import { readStackFile } from '../../cli/stack/file.ts';
import { interpolate } from '../../cli/stack/interpolate.ts';
import { loadStack, parseDotEnv, parseEnvFile } from '../../cli/stack/load.ts';
import { mergeStackFiles } from '../../cli/stack/merge.ts';
import { deployOrder } from '../../cli/stack/order.ts';
import { configText } from '../../cli/stack/text.ts';
import type { StackFile, StackService } from '../../cli/stack/types.ts';
import { parseYaml } from '../../cli/stack/yaml.ts';

const directory = mkdtempSync(join(tmpdir(), 'tsswarm-stack-'));
after(() => rmSync(directory, { recursive: true, force: true }));

function read(text: string, notes: string[] = []): StackFile {
  return readStackFile(parseYaml(text, 'f.yml'), '/base', notes);
}

/** The service 'web' of one line of YAML, in the long form. */
function service(line: string, notes: string[] = []): StackService {
  const declared = 'volumes: {data: }\nsecrets: {s: {external: true}}';
  return read(`services: {web: {image: i, ${line}}}\n${declared}`, notes).services.web;
}

test('variables are replaced in every form', () => {
  const values: Record<string, string> = { SET: 'v', EMPTY: '', OTHER: 'o' };
  const cases: readonly (readonly [string, string])[] = [
    ['plain', 'plain'],
    ['$SET', 'v'],
    ['a${SET}b', 'avb'],
    ['$SET-x', 'v-x'],
    ['$UNSET', ''],
    ['${UNSET}', ''],
    ['${SET:-d}', 'v'],
    ['${EMPTY:-d}', 'd'],
    ['${EMPTY-d}', ''],
    ['${UNSET-d}', 'd'],
    ['${UNSET:-}', ''],
    ['${UNSET:-${OTHER}}', 'o'],
    ['${UNSET:-${ALSO:-x}y}', 'xy'],
    ['${SET:+r}', 'r'],
    ['${EMPTY:+r}', ''],
    ['${EMPTY+r}', 'r'],
    ['${UNSET+r}', ''],
    ['${SET:?gone}', 'v'],
    ['${EMPTY?gone}', ''],
    ['$$SET', '$SET'],
    ['$${SET}', '${SET}'],
    ['a$$', 'a$'],
    ['${UNSET:-http://x/?a=b}', 'http://x/?a=b'],
  ];
  for (const [text, expected] of cases) {
    assert.equal(
      interpolate(text, (name) => values[name], 'p'),
      expected,
      text,
    );
  }
});

test('a variable that must be set, and forms that are wrong, are told with their path', () => {
  const fails = (text: string, message: RegExp): void => {
    assert.throws(() => interpolate(text, () => undefined, 'services.web.image'), { message });
  };
  fails('${TAG:?name a tag}', /^services\.web\.image: the variable TAG is required: name a tag$/);
  fails('${TAG?}', /^services\.web\.image: the variable TAG is required$/);
  fails('${', /^services\.web\.image: invalid variable in "\$\{"/);
  fails('$', /and \$\$ for a dollar$/);
  fails('${1x}', /invalid variable/);
  fails('${A!b}', /invalid variable/);
});

test('short and long syntaxes are one', () => {
  const ports = (text: string): unknown => service(`ports: ${text}`).ports;
  const ingress = { mode: 'ingress', protocol: 'tcp' };
  assert.deepEqual(ports('["8080:80"]'), [{ ...ingress, target: 80, published: 8080 }]);
  assert.deepEqual(ports('["127.0.0.1:8080:80"]'), [
    { ...ingress, target: 80, published: 8080, host_ip: '127.0.0.1' },
  ]);
  assert.deepEqual(ports('[80]'), [{ ...ingress, target: 80 }]);
  assert.deepEqual(ports('["8000-8001:80-81/udp"]'), [
    { mode: 'ingress', protocol: 'udp', target: 80, published: 8000 },
    { mode: 'ingress', protocol: 'udp', target: 81, published: 8001 },
  ]);
  assert.deepEqual(ports('[{target: 80, published: "8080", mode: host}]'), [
    { mode: 'host', protocol: 'tcp', target: 80, published: 8080 },
  ]);
  const volume = (text: string): unknown => service(`volumes: [${text}]`).volumes?.[0];
  assert.deepEqual(volume('"data:/d:ro"'), {
    type: 'volume',
    source: 'data',
    target: '/d',
    read_only: true,
  });
  assert.deepEqual(volume('./x:/d'), { type: 'bind', source: '/base/x', target: '/d' });
  assert.deepEqual(volume('/x:/d:rshared'), {
    type: 'bind',
    source: '/x',
    target: '/d',
    bind: { propagation: 'rshared' },
  });
  assert.deepEqual(volume('/d'), { type: 'volume', target: '/d' });
  assert.deepEqual(service('command: echo "a b" c').command, ['echo', 'a b', 'c']);
  assert.deepEqual(service('command: ').command, []);
  assert.deepEqual(service('environment: [A=1, B]').environment, { A: '1', B: null });
  assert.deepEqual(service('labels: {a: 1, b: true}').labels, { a: '1', b: 'true' });
  assert.deepEqual(service('ulimits: {nproc: 5}').ulimits, { nproc: { soft: 5, hard: 5 } });
  assert.deepEqual(service('secrets: [s]').secrets, [{ source: 's' }]);
  assert.deepEqual(service('configs: [{source: c, mode: 0440}]').configs, [
    { source: 'c', mode: 0o440 },
  ]);
  assert.deepEqual(service('networks: [a, b]').networks, { a: null, b: null });
  assert.deepEqual(service('extra_hosts: {a: 1.2.3.4}').extra_hosts, ['a:1.2.3.4']);
  assert.deepEqual(service('healthcheck: {test: x y}').healthcheck, { test: ['CMD-SHELL', 'x y'] });
  assert.deepEqual(service('stop_grace_period: 90s').stop_grace_period, '1m30s');
  assert.deepEqual(service('depends_on: [db]').depends_on, {
    db: { condition: 'service_started' },
  });
});

test('what a swarm cannot do is told by its path and with what to do instead', () => {
  const cases: readonly (readonly [string, RegExp])[] = [
    ['build: .', /^services\.web\.build: images are not built here: build and push one/],
    ['privileged: true', /^services\.web\.privileged: name what the program needs in cap_add$/],
    ['container_name: x', /^services\.web\.container_name: .*use hostname/],
    ['extends: {service: x}', /^services\.web\.extends: write the service out, use a YAML anchor/],
    ['mem_limit: 5m', /^services\.web\.mem_limit: use deploy\.resources\.limits\.memory$/],
    ['scale: 3', /^services\.web\.scale: use deploy\.replicas$/],
    ['imgae: x', /^services\.web\.imgae: not known \(did you mean image\?\)$/],
    ['foo: x', /^services\.web\.foo: this key is not known$/],
    [
      'deploy: {replica: 3}',
      /^services\.web\.deploy\.replica: not known \(did you mean replicas\?\)$/,
    ],
    ['networks: {a: {priority: 5}}', /^services\.web\.networks\.a\.priority: the order of netw/],
    ['volumes: [{type: volume, target: /x, foo: 1}]', /^services\.web\.volumes\[0\]\.foo: /],
  ];
  for (const [line, expected] of cases) {
    const notes: string[] = [];
    service(line, notes);
    assert.equal(notes.length, 1, line);
    assert.match(notes[0], expected);
  }
  const none: string[] = [];
  service('x-own: {a: b}, deploy: {x-more: 1}', none);
  assert.deepEqual(none, []);
});

test('wrong values are refused by their path, also when keys are passed over', () => {
  const cases: readonly (readonly [string, RegExp])[] = [
    ['deploy: {replicas: many}', /^services\.web\.deploy\.replicas: "many" is no whole number$/],
    ['deploy: {replicas: -1}', /^services\.web\.deploy\.replicas: -1 is below 0$/],
    ['deploy: {mode: x}', /^services\.web\.deploy\.mode: "x" is none of replicated, global, repl/],
    ['deploy: []', /^services\.web\.deploy: \[\] is no map of names to values$/],
    ['init: 3', /^services\.web\.init: 3 is neither true nor false$/],
    ['stop_grace_period: 5', /^services\.web\.stop_grace_period: invalid duration "5"/],
    ['ports: ["80:70000"]', /^services\.web\.ports\[0\]: .*"70000" is not in 1-65535$/],
    ['ports: [{published: 80}]', /^services\.web\.ports\[0\]\.target: it is missing$/],
    ['volumes: ["data:rel"]', /^services\.web\.volumes\[0\]: .*begins with \/$/],
    [
      'healthcheck: {test: [curl, x]}',
      /^services\.web\.healthcheck\.test: a list begins with NONE/,
    ],
    ['healthcheck: {test: x, disable: true}', /exclude each other$/],
    ["command: 'echo \"a'", /^services\.web\.command: .*a quote is not closed$/],
    ['secrets: [{target: x}]', /^services\.web\.secrets\[0\]\.source: it is missing$/],
    ['restart: sometimes', /^services\.web\.restart: "sometimes" is none of no, always/],
  ];
  for (const [line, message] of cases) assert.throws(() => service(line), { message }, line);
  assert.throws(() => read('version: "2.4"\nservices: {}'), { message: /^version: "2\.4" is not/ });
  assert.throws(() => read('a: 1'), {
    message: /^services: this is missing: it is no stack file$/,
  });
  assert.throws(() => read('services: {}\nsecrets: {a: {}}'), {
    message: /^secrets\.a: give one of file, environment, content, or external: true$/,
  });
  assert.throws(() => read('services: {}\nnetworks: {a: {external: true, driver: x}}'), {
    message: /^networks\.a\.driver: what is external exists already: leave this out$/,
  });
  assert.throws(() => read('services:\n  web: {image: a\n'), { message: /^f\.yml:\d+:\d+: / });
  assert.throws(() => read('services:\n a: 1\n a: 2\n'), { message: /^f\.yml:3:2: .*unique/ });
});

test('all values that are wrong are told at once, a line each', () => {
  const text = 'services: {a: {image: i, init: 7, ports: [x, y]}, b: {image: i, restart: at}}';
  assert.throws(
    () => read(text),
    (error: Error) => {
      const paths = error.message.split('\n').map((line) => line.split(': ')[0].trim());
      const of = (path: string): boolean => paths.some((each) => each.endsWith(path));
      assert.equal(paths.length, 3, error.message);
      for (const path of ['a.init', 'a.ports[0]', 'b.restart']) assert.ok(of(path));
      return true;
    },
  );
  assert.throws(() => convertServices('st', read('services: {a: {}, b: {}}')), {
    message: /^services\.a\.image: .*\nservices\.b\.image: /,
  });
});

test('a service names only what the file declares', () => {
  const convert = (text: string): unknown => convertServices('st', read(text));
  const fails = (text: string, message: RegExp): void => {
    assert.throws(() => convert(text), { message });
  };
  fails('services: {w: {image: i, networks: [a]}}', /^services\.w\.networks\.a: it is not among/);
  fails('services: {w: {image: i, volumes: ["d:/d"]}}', /^services\.w\.volumes\[0\]: "d" is not/);
  fails('services: {w: {image: i, secrets: [s]}}', /"s" is not among the secrets of the file$/);
  fails('services: {w: {image: i, configs: [c]}}', /"c" is not among the configs of the file$/);
  fails('services: {w: {}}', /^services\.w\.image: it is missing: services run images$/);
  fails('services: {w: {image: i, deploy: {mode: global, replicas: 2}}}', /one task on each host$/);
});

test('keys that docker’s stacks pass over do what they say here', () => {
  const spec = convertServices(
    'st',
    read(
      `services: {w: {image: i, tmpfs: ["/t:size=1m,mode=700"], platform: linux/arm64,
      group_add: [5], oom_score_adj: 5, dns_opt: ["ndots:1"], restart: on-failure:3,
      ports: ["127.0.0.1:81:80"], networks: {a: {ipv4_address: 10.0.0.5}},
      security_opt: [no-new-privileges]}}
networks: {a: }
`,
    ),
  ).get('w');
  const container = spec?.TaskTemplate.ContainerSpec;
  assert.deepEqual(container?.Mounts, [
    { Type: 'tmpfs', Target: '/t', TmpfsOptions: { SizeBytes: 1024 * 1024, Mode: 0o700 } },
  ]);
  assert.deepEqual(container?.Groups, ['5']);
  assert.equal(container?.OomScoreAdj, 5);
  assert.deepEqual(container?.Privileges, { NoNewPrivileges: true });
  assert.equal(spec?.EndpointSpec?.Ports?.[0].HostIP, '127.0.0.1');
  assert.deepEqual(spec?.TaskTemplate.Networks, [
    { Target: 'st_a', Aliases: ['w'], DriverOpts: { 'tsswarm.address': '10.0.0.5' } },
  ]);
  assert.deepEqual(container?.DNSConfig, { Options: ['ndots:1'] });
  assert.deepEqual(spec?.TaskTemplate.Placement?.Platforms, [
    { OS: 'linux', Architecture: 'arm64' },
  ]);
  assert.deepEqual(spec?.TaskTemplate.RestartPolicy, { Condition: 'on-failure', MaxAttempts: 3 });
});

test('a later file wins, its maps are joined and its lists appended', () => {
  const merged = mergeStackFiles([
    read(`services: {web: {image: a, command: x, cap_add: [A], environment: {K: "1", L: "2"},
      healthcheck: {test: one, retries: 2}, ports: ["80:80"], init: true,
      logging: {driver: local, options: {a: b}}}}`),
    read(`services: {web: {image: b, command: [y, z], cap_add: [A, B], environment: {K: "3"},
      healthcheck: {disable: true}, ports: ["80:80", "81:81"], init: false,
      logging: {options: {c: d}}}, db: {image: d}}`),
  ]);
  const { web } = merged.services;
  assert.deepEqual(Object.keys(merged.services), ['web', 'db']);
  assert.equal(web.image, 'b');
  assert.deepEqual(web.command, ['y', 'z']);
  assert.deepEqual(web.cap_add, ['A', 'B']);
  assert.deepEqual(web.environment, { K: '3', L: '2' });
  assert.deepEqual(web.healthcheck, { disable: true });
  assert.equal(web.ports?.length, 2);
  assert.equal(web.init, false);
  assert.deepEqual(web.logging, { driver: 'local', options: { a: 'b', c: 'd' } });
});

test('services come after what they depend on; a circle is refused', () => {
  const file = (text: string): StackFile => read(`services: {${text}}`);
  const keys = (text: string): string[] => deployOrder(file(text)).map((step) => step.key);
  assert.deepEqual(keys('a: {image: i, depends_on: [b, c]}, b: {image: i, depends_on: [c]}, c: '), [
    'c',
    'b',
    'a',
  ]);
  const [, step] = deployOrder(
    file('a: {image: i, depends_on: {b: {condition: service_healthy}}}, b: {image: i}'),
  );
  assert.deepEqual(step, { key: 'a', waitsFor: ['b'] });
  assert.throws(() => keys('a: {depends_on: [b]}, b: {depends_on: [a]}'), {
    message: /^services\.a\.depends_on: it depends on itself: a -> b -> a$/,
  });
  assert.throws(() => keys('a: {depends_on: [x]}'), { message: /there is no service "x"$/ });
});

test('.env files have quotes and comments, env files have lines as they are', () => {
  const found = parseDotEnv(
    'A=1\n# no\nexport B = two # why\nC="x y"\nD=\'$A\'\nE=$A-${B}\nF="l\\nm"\nG=\n',
    () => undefined,
  );
  assert.deepEqual(Object.fromEntries(found), {
    A: '1',
    B: 'two',
    C: 'x y',
    D: '$A',
    E: '1-two',
    F: 'l\nm',
    G: '',
  });
  assert.deepEqual(parseEnvFile('A="q"\n#x\n\nB\nC=a=b\n'), [
    ['A', '"q"'],
    ['B', null],
    ['C', 'a=b'],
  ]);
});

test('files, .env, env files and the environment come together', async () => {
  writeFileSync(join(directory, '.env'), 'TAG=from-file\nOWN=file\n');
  writeFileSync(join(directory, 'e.env'), 'E=1\nF=2\nTAKEN\n');
  const file = join(directory, 'a.yml');
  writeFileSync(
    file,
    'services: {web: {image: "i:$TAG", env_file: e.env, environment: {F: "$OWN", G: }}}\n',
  );
  const load = (environment: Record<string, string>, lax = false) =>
    loadStack({ files: [file, '-'], lax, environment, stdin: async () => more });
  let more = 'services: {web: {labels: {a: b}}}';
  const { file: stack } = await load({ OWN: 'env', TAKEN: 't' });
  assert.deepEqual(stack.services.web, {
    image: 'i:from-file',
    labels: { a: 'b' },
    environment: { E: '1', F: 'env', TAKEN: 't', G: null },
  });
  more = 'services: {web: {build: ., links: [x]}, dev: {image: i, profiles: [dev]}}';
  await assert.rejects(load({}), {
    message:
      /^standard input: services\.web\.build: [\s\S]*\n {2}standard input: services\.web\.links: /,
  });
  const lax = await load({}, true);
  assert.equal(lax.warnings.length, 2);
  assert.deepEqual(Object.keys(lax.file.services), ['web']);
  assert.deepEqual(Object.keys((await load({ COMPOSE_PROFILES: 'dev' }, true)).file.services), [
    'web',
    'dev',
  ]);
});

test('security options name a profile’s file, AppArmor and SELinux', async () => {
  const profile = '{"defaultAction":"SCMP_ACT_ALLOW"}';
  writeFileSync(join(directory, 'calls.json'), profile);
  const file = join(directory, 'safe.yml');
  const options =
    '"seccomp:calls.json", "apparmor=unconfined", "label:type:a_t", "label:level:s0:c1"';
  const load = async (text: string) => {
    writeFileSync(file, `services: {w: {image: i, security_opt: [${text}]}}\n`);
    return (await loadStack({ files: [file], lax: false, environment: {}, stdin: async () => '' }))
      .file;
  };
  const privileges = (stack: Awaited<ReturnType<typeof load>>): object | undefined =>
    convertServices('st', stack).get('w')?.TaskTemplate.ContainerSpec.Privileges;
  assert.deepEqual(privileges(await load(options)), {
    Seccomp: { Mode: 'custom', Profile: Buffer.from(profile).toString('base64') },
    AppArmor: { Mode: 'disabled' },
    SELinuxContext: { Type: 'a_t', Level: 's0:c1' },
  });
  assert.deepEqual(privileges(await load('"label:disable"')), {
    SELinuxContext: { Disable: true },
  });
  await assert.rejects(load('"seccomp:none.json"'), /security_opt\[0\]: none\.json/);
  await assert.rejects(load('"apparmor:mine"'), /"apparmor:mine" is none of/);
});

test('anchors and merge keys are written out by config', () => {
  const text = `x-base: &base {image: i, init: true, user: "a$b"}
services:
  web: {<<: *base, init: false, ulimits: {nofile: 5}, deploy: {resources: {limits: {memory: 1k}}}}
`;
  assert.equal(
    configText(read(text)),
    `services:
  web:
    image: i
    init: false
    user: a$$b
    ulimits:
      nofile: 5
    deploy:
      resources:
        limits:
          memory: "1024"
x-base:
  image: i
  init: true
  user: a$$b
`,
  );
});
