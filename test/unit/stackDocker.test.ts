/** What `tsswarm stack deploy` sends, compared with what the real docker client sends. */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { skipWithoutDocker } from '../support/dockerClient.ts';
import { essence, type Recorded, recordingDaemon } from '../support/recordingDaemon.ts';
import { run } from '../support/servedNode.ts';

const MAIN = fileURLToPath(new URL('../../cli/main.js', import.meta.url));
const skip = await skipWithoutDocker();
const outside = { Name: 'outside', Id: 'net', Scope: 'swarm', Driver: 'overlay' };
const daemon = await recordingDaemon({ '/networks/outside': outside });
after(() => daemon.close());

function created(all: readonly Recorded[]): Record<string, unknown> {
  const found = all
    .filter((item) => item.method === 'POST')
    .map((item) => {
      const { Name } = item.body as { Name: string };
      return [`${item.path} ${Name}`, essence(item.body)] as const;
    });
  return Object.fromEntries(found.sort(([left], [right]) => (left < right ? -1 : 1)));
}

/** Both commands' requests for the same files. */
async function both(
  files: Readonly<Record<string, string>>,
): Promise<[Record<string, unknown>, Record<string, unknown>]> {
  const flags: string[] = [];
  for (const [name, text] of Object.entries(files)) {
    const path = join(daemon.directory, name);
    writeFileSync(path, text);
    if (name.endsWith('.yml')) flags.push('-c', path);
  }
  const args = ['stack', 'deploy', '--detach', '--resolve-image', 'never', ...flags, 'st'];
  daemon.take();
  const theirs = await run('docker', args, daemon.env);
  assert.equal(theirs.code, 0, theirs.stderr);
  const sent = created(daemon.take());
  const ours = await run(process.execPath, [MAIN, ...args], daemon.env);
  assert.equal(ours.code, 0, ours.stderr);
  return [created(daemon.take()), sent];
}

const WHOLE = `
version: "3.13"
x-env: &env { A: "1", B: two }
services:
  web:
    image: nginx:1
    command: serve --port "80 80" 'a b' c\\ d
    entrypoint: ["/bin/e", "x"]
    environment: { <<: *env, C: 3, D: , E: "\${NOPE:-dflt}", F: $$x, H: 1.5 }
    env_file: [./e.env]
    hostname: h-{{.Task.Slot}}
    user: "1000:1000"
    working_dir: /w
    labels: [a=b, c]
    init: true
    read_only: true
    tty: true
    stdin_open: true
    stop_signal: SIGINT
    stop_grace_period: 1m30s
    dns: 8.8.8.8
    dns_search: [a.b]
    extra_hosts: ["db:10.0.0.1", "x:1.2.3.4"]
    cap_add: [NET_ADMIN, sys_time]
    cap_drop: [ALL]
    sysctls: { net.core.somaxconn: 1024 }
    ulimits: { nproc: 65535, nofile: { soft: 20000, hard: 40000 } }
    isolation: default
    healthcheck:
      test: curl -f http://localhost
      interval: 1m30s
      timeout: 10s
      retries: 3
      start_period: 40s
      start_interval: 2s
    logging: { driver: json-file, options: { max-size: "10m" } }
    ports:
      - "8080:80"
      - "9000-9002:90-92/udp"
      - "3000"
      - 3001
      - { target: 53, published: 5353, protocol: udp, mode: host }
    volumes:
      - data:/data
      - /etc:/hostetc:ro
      - ./rel:/rel
      - /anon
      - { type: tmpfs, target: /t, tmpfs: { size: 1048576 } }
      - { type: bind, source: ./b, target: /b, read_only: true, bind: { propagation: rshared } }
      - { type: volume, source: data2, target: /d2, volume: { nocopy: true } }
      - extvol:/ext
      - data3:/d3:nocopy
    networks: { front: { aliases: [www] }, default: , ext:  }
    secrets: [s1, { source: s2, target: /x/s2, uid: "1", gid: "2", mode: 0400 }]
    configs: [c1, { source: c2, target: /etc/c2, mode: 0440 }]
    depends_on: [db]
    deploy:
      mode: replicated
      replicas: 3
      labels: { x: y }
      endpoint_mode: vip
      update_config:
        parallelism: 2
        delay: 5s
        failure_action: rollback
        monitor: 10s
        max_failure_ratio: 0.2
        order: start-first
      rollback_config: { parallelism: 0, delay: 1s }
      resources:
        limits: { cpus: "0.5", memory: 64M, pids: 100 }
        reservations:
          cpus: "0.25"
          memory: 32M
          generic_resources: [{ discrete_resource_spec: { kind: gpu, value: 2 } }]
      restart_policy: { condition: on-failure, delay: 2s, max_attempts: 3, window: 120s }
      placement:
        constraints: [node.role==worker]
        preferences: [{ spread: node.labels.zone }]
        max_replicas_per_node: 2
  db: { image: pg, deploy: { mode: global }, healthcheck: { disable: true } }
  job: { image: j, deploy: { mode: replicated-job, replicas: 3 } }
  gjob: { image: j, deploy: { mode: global-job }, networks: [isolated] }
  round: { image: r, deploy: { endpoint_mode: dnsrr, update_config: { parallelism: 0 } } }
  checked: { image: c, healthcheck: { test: [CMD, /bin/check, now] } }
networks:
  front:
    driver: overlay
    driver_opts: { encrypted: "true" }
    attachable: true
    labels: { n: l }
    ipam: { driver: default, config: [{ subnet: 10.5.0.0/24 }] }
  isolated: { internal: true, name: iso }
  ext: { external: true, name: outside }
  unused: {}
volumes:
  data: { driver: local, driver_opts: { type: nfs }, labels: { v: l } }
  data2:
  data3: { name: "named-\${NOPE-3}" }
  extvol: { external: true, name: realvol }
secrets:
  s1: { file: ./s1.txt, labels: { q: r } }
  s2: { external: true, name: other }
configs:
  c1: { file: ./s1.txt, template_driver: golang }
  c2: { file: ./s1.txt, name: named-config }
`;

test('a whole stack file becomes the requests that docker makes of it', { skip }, async () => {
  mkdirSync(join(daemon.directory, 'rel'), { recursive: true });
  const [ours, theirs] = await both({ 'e.env': 'G=7\nA=0\n', 's1.txt': 's\n', 'a.yml': WHOLE });
  assert.deepEqual(ours, theirs);
  assert.ok(Object.keys(theirs).length >= 12);
});

test('several files are merged as docker merges them', { skip }, async () => {
  const [ours, theirs] = await both({
    'base.yml': `
version: "3.8"
services:
  web:
    image: nginx:1
    command: one two
    environment: { A: "1", B: "2" }
    labels: { a: "1" }
    dns: [1.1.1.1]
    ports: ["80:80"]
    volumes: ["data:/data", "/a:/a"]
    logging: { driver: syslog, options: { a: b } }
    networks: { front: { aliases: [one] } }
    deploy: { replicas: 2, placement: { constraints: [node.role==worker] } }
  old: { image: old }
networks: { front: {} }
volumes: { data: {} }
`,
    'over.yml': `
version: "3.8"
services:
  web:
    image: nginx:2
    command: [three]
    environment: [B=3, C=4]
    labels: [b=2]
    dns: [8.8.8.8]
    ports: ["81:81"]
    volumes: ["/b:/a"]
    logging: { driver: json-file, options: { c: d } }
    deploy: { replicas: 5, placement: { constraints: [node.labels.x==y] } }
  new: { image: new, networks: [back] }
networks: { back: { internal: true } }
`,
  });
  assert.deepEqual(ours, theirs);
});
