/**
 * One service of a stack file: which keys there are, and why others cannot be had in a swarm.
 * Adding a key is a row here, a field in types.ts and a line in convert.ts.
 */

import type { Reader, Refusals } from './read.ts';
import * as read from './read.ts';
import * as shorts from './shorts.ts';
import type {
  StackDeploy,
  StackGenericResource,
  StackHealth,
  StackService,
  StackUpdate,
} from './types.ts';

const updateTable: read.Table<StackUpdate> = {
  parallelism: read.count,
  delay: read.duration,
  failure_action: read.choice('pause', 'continue', 'rollback'),
  monitor: read.duration,
  max_failure_ratio: read.ratio,
  order: read.choice('stop-first', 'start-first'),
};
const update = read.object<StackUpdate>(updateTable);
const rollback = read.object<StackUpdate>({
  ...updateTable,
  failure_action: read.choice('pause', 'continue'),
});

const cpus: Reader<string> = (value, path, notes) => {
  const text = read.text(value, path, notes);
  if (/^\d*\.?\d+$/.test(text)) return text;
  throw read.wrong(path, `"${text}" is no number of CPUs: write it like 0.5`);
};

const genericResource = read.object<StackGenericResource>({
  discrete_resource_spec: read.object({ kind: read.text, value: read.whole }),
});

const deploy = read.object<StackDeploy>({
  mode: read.choice('replicated', 'global', 'replicated-job', 'global-job'),
  replicas: read.count,
  labels: read.labels,
  update_config: update,
  rollback_config: rollback,
  resources: read.object({
    limits: read.object({ cpus, memory: read.bytes, pids: read.whole }),
    reservations: read.object(
      { cpus, memory: read.bytes, generic_resources: read.list(genericResource) },
      {
        devices:
          'devices are not reserved: give the hosts a generic resource and name it in ' +
          'generic_resources',
      },
    ),
  }),
  restart_policy: read.object({
    condition: read.choice('none', 'on-failure', 'any'),
    delay: read.duration,
    max_attempts: read.count,
    window: read.duration,
  }),
  placement: read.object({
    constraints: read.list(read.text),
    preferences: read.list(read.object<{ spread: string }>({ spread: read.text })),
    max_replicas_per_node: read.count,
  }),
  endpoint_mode: read.choice('vip', 'dnsrr'),
});

const healthTest: Reader<string[]> = (value, path, notes) => {
  if (!Array.isArray(value)) return ['CMD-SHELL', read.text(value, path, notes)];
  const words = read.list(read.text)(value, path, notes);
  if (!['NONE', 'CMD', 'CMD-SHELL'].includes(words[0])) {
    throw read.wrong(path, 'a list begins with NONE, CMD or CMD-SHELL');
  }
  return words;
};

const health: Reader<StackHealth> = (value, path, notes) => {
  const found = read.object<StackHealth>({
    test: healthTest,
    interval: read.duration,
    timeout: read.duration,
    start_period: read.duration,
    start_interval: read.duration,
    retries: read.count,
    disable: read.flag,
  })(value, path, notes);
  if (found.disable === true && found.test !== undefined) {
    throw read.wrong(path, 'test and disable exclude each other');
  }
  return found;
};

const restart: Reader<string> = (value, path, notes) => {
  // YAML 1.1 reads an unquoted no as false.
  const text = value === false ? 'no' : read.text(value, path, notes);
  if (/^(no|always|unless-stopped|on-failure(:\d+)?)$/.test(text)) return text;
  throw read.wrong(path, `"${text}" is none of no, always, on-failure[:COUNT], unless-stopped`);
};

const securityOption: Reader<string> = (value, path, notes) => {
  const text = read.text(value, path, notes).replace('=', ':');
  if (/^no-new-privileges(:true|:false)?$|^seccomp:.|^apparmor:unconfined$/.test(text)) return text;
  if (/^label:(disable|(user|role|type|level):.+)$/.test(text)) return text;
  throw read.wrong(
    path,
    `"${text}" is none of no-new-privileges, seccomp:FILE, seccomp:unconfined, ` +
      'apparmor:unconfined, label:disable, label:type:TYPE (user, role, level)',
  );
};

/** The sections of deploy.resources that replace Compose's older keys. */
const limits = (key: string): string => `use deploy.resources.limits.${key}`;

const SERVICE_REFUSALS: Refusals = {
  annotations: 'there are no annotations: use labels',
  attach: 'stacks run in the background: leave it out ("tsswarm service logs -f" shows output)',
  blkio_config: 'disk weights cannot be set: leave it out',
  build: 'images are not built here: build and push one, then name it with image',
  cgroup: 'tasks have a cgroup namespace of their own: leave it out',
  cgroup_parent: 'cgroups are chosen by the daemon (--cgroup-parent): leave it out',
  cgroupns_mode: 'tasks have a cgroup namespace of their own: leave it out',
  container_name: 'tasks are named by the swarm: use hostname, or network aliases',
  cpu_count: limits('cpus'),
  cpu_percent: limits('cpus'),
  cpu_period: limits('cpus'),
  cpu_quota: limits('cpus'),
  cpu_rt_period: 'real-time scheduling cannot be set: leave it out',
  cpu_rt_runtime: 'real-time scheduling cannot be set: leave it out',
  cpu_shares: 'use deploy.resources.reservations.cpus',
  cpus: limits('cpus'),
  cpuset: limits('cpus'),
  credential_spec: 'this is for Windows only: leave it out',
  develop: 'this is for "docker compose watch" only: leave it out',
  device_cgroup_rules: 'devices cannot be given to services: leave it out',
  devices:
    'devices cannot be given to services: reserve deploy.resources.reservations.' +
    'generic_resources, and bind what the program needs with volumes',
  domainname: 'write the whole name in hostname',
  extends: 'write the service out, use a YAML anchor, or give a second file with -c',
  external_links: 'use a network that is external; its services are found by name',
  gpus: 'use deploy.resources.reservations.generic_resources',
  ipc: 'tasks have IPC of their own: leave it out',
  label_file: 'write the labels in labels',
  links: 'services of a network find each other by name: use networks and aliases',
  mac_address: 'a task has a hardware address of its own: leave it out',
  mem_limit: limits('memory'),
  mem_reservation: 'use deploy.resources.reservations.memory',
  mem_swappiness: 'swapping cannot be set: leave it out',
  memswap_limit: limits('memory'),
  models: 'models are not supported: leave it out',
  net: 'use networks',
  network_mode: 'use networks; for a host’s own, an external network named host',
  oom_kill_disable: 'a task over its memory limit is ended: leave it out',
  pid: 'tasks have processes of their own: leave it out',
  pids_limit: limits('pids'),
  post_start: 'hooks are not supported: put it into the entrypoint',
  pre_stop: 'hooks are not supported: handle stop_signal in the program',
  privileged: 'name what the program needs in cap_add',
  provider: 'providers are not supported: leave it out',
  pull_policy: 'a host pulls what it lacks (see --resolve-image): leave it out',
  runtime: 'there is one runtime: leave it out',
  scale: 'use deploy.replicas',
  shm_size: 'mount a tmpfs of that size at /dev/shm with volumes',
  storage_opt: 'sizes of root file systems cannot be set: leave it out',
  use_api_socket: 'bind the socket with volumes',
  userns_mode: 'user namespaces are not used: leave it out',
  uts: 'tasks have a host name of their own: use hostname',
  volume_driver: 'give volumes.NAME.driver at the top',
  volumes_from: 'name the volumes in volumes',
};

/** A service's reader; relative host paths are below `directory`. */
export function serviceReader(directory: string): Reader<StackService> {
  const table: read.Table<StackService> = {
    image: read.text,
    command: read.command,
    entrypoint: read.command,
    environment: read.environment,
    env_file: shorts.envFiles,
    labels: read.labels,
    hostname: read.text,
    user: read.text,
    group_add: read.list(read.text),
    working_dir: read.text,
    init: read.flag,
    read_only: read.flag,
    tty: read.flag,
    stdin_open: read.flag,
    stop_signal: read.text,
    stop_grace_period: read.duration,
    dns: read.texts,
    dns_search: read.texts,
    dns_opt: read.list(read.text),
    extra_hosts: read.hosts,
    cap_add: read.list(read.text),
    cap_drop: read.list(read.text),
    security_opt: read.list(securityOption),
    sysctls: read.labels,
    ulimits: read.map(shorts.ulimit),
    oom_score_adj: read.whole,
    tmpfs: read.texts,
    healthcheck: health,
    logging: read.object({ driver: read.text, options: read.map(read.text) }),
    ports: shorts.ports,
    expose: read.list(read.text),
    volumes: shorts.volumes(directory),
    networks: shorts.networks,
    secrets: shorts.fileUses,
    configs: shorts.fileUses,
    depends_on: shorts.dependencies,
    platform: read.text,
    restart,
    profiles: read.list(read.text),
    isolation: read.choice('default'),
    deploy,
  };
  return read.object<StackService>(table, SERVICE_REFUSALS);
}
