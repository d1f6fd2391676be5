/**
 * Flags that hold lists: `--env` on create, `--env-add` and `--env-rm` on update. One table says
 * for each where its items live in the specification, how a text becomes items, and what makes two
 * items the same, so that adding replaces and removing finds.
 */
import { type Command, collect, optionKey } from '../command.ts';
import { readLines } from '../container/envFile.ts';
import type { GenericResourceJson, LabelMap, ServiceSpecJson } from '../docker.ts';
import { addCapabilities, applyCapabilities } from './capabilities.ts';
import { parseMount } from './mount.ts';
import * as parse from './parse.ts';

interface ListFlag<T = unknown> {
  /** Long name on create. */
  readonly name: string;
  readonly short?: string;
  readonly value: string;
  readonly about: string;
  /** What --<name>-rm takes. */
  readonly removes: string;
  get(spec: ServiceSpecJson): readonly T[];
  set(spec: ServiceSpecJson, items: T[]): void;
  parse(text: string): readonly T[];
  /** Items with the same key replace each other. */
  key(item: T): string;
  /** Whether --<name>-rm <text> means this item; default: text equals key. */
  removed?(item: T, text: string): boolean;
}

/** Hides T: the table holds flags of many kinds of item. */
function list<T>(flag: ListFlag<T>): ListFlag {
  return flag as unknown as ListFlag;
}

type ContainerKey = 'Env' | 'Groups' | 'Hosts';

/** A list of texts in the container's specification. */
function texts(
  field: ContainerKey,
  flag: Pick<ListFlag<string>, 'name' | 'short' | 'value' | 'about' | 'removes'> &
    Partial<Pick<ListFlag<string>, 'parse' | 'key' | 'removed'>>,
): ListFlag {
  return list<string>({
    get: (spec) => spec.TaskTemplate.ContainerSpec[field] ?? [],
    set: (spec, items) => {
      spec.TaskTemplate.ContainerSpec[field] = items;
    },
    parse: (text) => [text],
    key: (item) => item,
    ...flag,
  });
}

type DnsKey = 'Nameservers' | 'Search' | 'Options';

function dns(field: DnsKey, name: string, about: string): ListFlag {
  return list<string>({
    name,
    value: 'value',
    about,
    removes: 'value',
    get: (spec) => spec.TaskTemplate.ContainerSpec.DNSConfig?.[field] ?? [],
    set: (spec, items) => {
      const container = spec.TaskTemplate.ContainerSpec;
      container.DNSConfig = { ...container.DNSConfig, [field]: items };
    },
    parse: (text) => [text],
    key: (item) => item,
  });
}

type Pair = readonly [string, string];

/** 'key=value' items kept as an object. */
function labels(
  name: string,
  short: string | undefined,
  about: string,
  get: (spec: ServiceSpecJson) => LabelMap | undefined,
  set: (spec: ServiceSpecJson, labels: LabelMap) => void,
): ListFlag {
  return list<Pair>({
    name,
    short,
    value: 'key=value',
    about,
    removes: 'key',
    get: (spec) => Object.entries(get(spec) ?? {}),
    set: (spec, items) => set(spec, Object.fromEntries(items)),
    parse: (text) => {
      const equals = text.indexOf('=');
      return [equals < 0 ? [text, ''] : [text.slice(0, equals), text.slice(equals + 1)]];
    },
    key: ([key]) => key,
  });
}

function nameOf(variable: string): string {
  return variable.split('=', 1)[0];
}

function kindOf(item: GenericResourceJson): string {
  return item.DiscreteResourceSpec?.Kind ?? item.NamedResourceSpec?.Kind ?? '';
}

const LIST_FLAGS: readonly ListFlag[] = [
  texts('Env', {
    name: 'env',
    short: '-e',
    value: 'NAME=value',
    about: 'environment variable',
    removes: 'NAME',
    parse: (text) => {
      const variable = parse.parseEnv(text);
      return variable === undefined ? [] : [variable];
    },
    key: nameOf,
  }),
  labels(
    'label',
    '-l',
    'label of the service',
    (spec) => spec.Labels,
    (spec, value) => {
      spec.Labels = value;
    },
  ),
  labels(
    'container-label',
    undefined,
    'label of its containers',
    (spec) => spec.TaskTemplate.ContainerSpec.Labels,
    (spec, value) => {
      spec.TaskTemplate.ContainerSpec.Labels = value;
    },
  ),
  labels(
    'sysctl',
    undefined,
    'kernel setting of its containers',
    (spec) => spec.TaskTemplate.ContainerSpec.Sysctls,
    (spec, value) => {
      spec.TaskTemplate.ContainerSpec.Sysctls = value;
    },
  ),
  list<string>({
    name: 'constraint',
    value: 'expression',
    about: 'where tasks may run, e.g. node.role==worker',
    removes: 'expression',
    get: (spec) => spec.TaskTemplate.Placement?.Constraints ?? [],
    set: (spec, items) => {
      spec.TaskTemplate.Placement = { ...spec.TaskTemplate.Placement, Constraints: items };
    },
    parse: (text) => [text],
    key: (item) => item.replaceAll(' ', ''),
    removed: (item, text) => item.replaceAll(' ', '') === text.replaceAll(' ', ''),
  }),
  list<{ Spread: { SpreadDescriptor: string } }>({
    name: 'placement-pref',
    value: 'spread=label',
    about: 'spread tasks over the values of a label',
    removes: 'spread=label',
    get: (spec) => spec.TaskTemplate.Placement?.Preferences ?? [],
    set: (spec, items) => {
      spec.TaskTemplate.Placement = { ...spec.TaskTemplate.Placement, Preferences: items };
    },
    parse: (text) => [{ Spread: { SpreadDescriptor: parse.parsePreference(text) } }],
    key: (item) => `spread=${item.Spread.SpreadDescriptor}`,
  }),
  list({
    name: 'network',
    value: 'network',
    about: 'network: its name, or name=NETWORK,alias=NAME,ip=ADDRESS',
    removes: 'network',
    get: (spec) => spec.TaskTemplate.Networks ?? [],
    set: (spec, items) => {
      spec.TaskTemplate.Networks = items;
    },
    parse: (text) => [parse.parseNetwork(text)],
    key: (item) => item.Target,
  }),
  list({
    name: 'publish',
    short: '-p',
    value: 'port',
    about:
      'publish a port: [ADDRESS:]PUBLISHED:TARGET[/PROTOCOL], or ' +
      'published=,target=,protocol=,mode=,ip=',
    removes: 'target-port',
    get: (spec) => spec.EndpointSpec?.Ports ?? [],
    set: (spec, items) => {
      spec.EndpointSpec = { ...spec.EndpointSpec, Ports: items };
    },
    parse: parse.parsePublish,
    key: (item) =>
      `${item.HostIP ?? ''}/${item.TargetPort}/${item.Protocol}/${item.PublishedPort ?? 0}`,
    removed: (item, text) => {
      const [target, protocol = 'tcp'] = (text.split(':').pop() ?? '').split('/');
      return String(item.TargetPort) === target && item.Protocol === protocol;
    },
  }),
  list({
    name: 'mount',
    value: 'mount',
    about: 'mount: type=volume|bind|tmpfs,source=,target=,readonly, and options of the type',
    removes: 'target',
    get: (spec) => spec.TaskTemplate.ContainerSpec.Mounts ?? [],
    set: (spec, items) => {
      spec.TaskTemplate.ContainerSpec.Mounts = items;
    },
    parse: (text) => [parseMount(text)],
    key: (item) => item.Target,
  }),
  texts('Groups', { name: 'group', value: 'group', about: 'further group', removes: 'group' }),
  texts('Hosts', {
    name: 'host',
    value: 'name:address',
    about: 'line of /etc/hosts',
    removes: 'name[:address]',
    parse: (text) => [parse.parseHost(text)],
    removed: (item, text) => {
      const [address, name] = item.split(' ');
      return text === name || text === `${name}:${address}`;
    },
  }),
  list({
    name: 'secret',
    value: 'secret',
    about: 'secret as a file: its name, or source=,target=,uid=,gid=,mode=',
    removes: 'secret',
    get: (spec) => spec.TaskTemplate.ContainerSpec.Secrets ?? [],
    set: (spec, items) => {
      spec.TaskTemplate.ContainerSpec.Secrets = items;
    },
    parse: (text) => [parse.parseSecretUse(text)],
    key: (item) => `${item.SecretName} ${item.File.Name}`,
    removed: (item, text) => item.SecretName === text,
  }),
  list({
    name: 'config',
    value: 'config',
    about: 'config as a file: its name, or source=,target=,uid=,gid=,mode=',
    removes: 'config',
    get: (spec) => spec.TaskTemplate.ContainerSpec.Configs ?? [],
    set: (spec, items) => {
      spec.TaskTemplate.ContainerSpec.Configs = items;
    },
    parse: (text) => [parse.parseConfigUse(text)],
    key: (item) => `${item.ConfigName} ${item.File.Name}`,
    removed: (item, text) => item.ConfigName === text,
  }),
  list({
    name: 'ulimit',
    value: 'name=soft[:hard]',
    about: 'limit of its processes',
    removes: 'name',
    get: (spec) => spec.TaskTemplate.ContainerSpec.Ulimits ?? [],
    set: (spec, items) => {
      spec.TaskTemplate.ContainerSpec.Ulimits = items;
    },
    parse: (text) => [parse.parseUlimit(text)],
    key: (item) => item.Name,
  }),
  list({
    name: 'generic-resource',
    value: 'kind=value',
    about: 'what a host must have, e.g. gpu=2',
    removes: 'kind',
    get: (spec) => spec.TaskTemplate.Resources?.Reservations?.GenericResources ?? [],
    set: (spec, items) => {
      const { Resources } = spec.TaskTemplate;
      const Reservations = { ...Resources?.Reservations, GenericResources: items };
      spec.TaskTemplate.Resources = { ...Resources, Reservations };
    },
    parse: parse.parseGenericResource,
    key: (item) => kindOf(item),
    removed: (item, text) => kindOf(item) === text.split('=')[0],
  }),
  dns('Nameservers', 'dns', 'DNS server'),
  dns('Search', 'dns-search', 'DNS search domain'),
  dns('Options', 'dns-option', 'DNS option'),
];

export function addCreateLists(command: Command): void {
  for (const flag of LIST_FLAGS) {
    const short = flag.short === undefined ? '' : `${flag.short}, `;
    command.option(`${short}--${flag.name} <${flag.value}>`, `${flag.about} (repeatable)`, collect);
  }
  addCapabilities(command);
  command.option('--env-file <file>', 'read environment variables from a file', collect);
}

export function addUpdateLists(command: Command): void {
  for (const flag of LIST_FLAGS) {
    command.option(`--${flag.name}-add <${flag.value}>`, `add or change: ${flag.about}`, collect);
    command.option(`--${flag.name}-rm <${flag.removes}>`, `remove: ${flag.about}`, collect);
  }
  addCapabilities(command);
}

type Options = Readonly<Record<string, unknown>>;

function given(options: Options, name: string): readonly string[] {
  return (options[optionKey(`--${name}`)] as readonly string[] | undefined) ?? [];
}

function add(flag: ListFlag, spec: ServiceSpecJson, values: readonly string[]): void {
  const items = new Map(flag.get(spec).map((item) => [flag.key(item), item]));
  for (const item of values.flatMap((text) => flag.parse(text))) items.set(flag.key(item), item);
  flag.set(spec, [...items.values()]);
}

/** Puts the lists of create's flags into a specification. */
export function applyCreateLists(spec: ServiceSpecJson, options: Options): void {
  for (const file of given(options, 'env-file'))
    add(LIST_FLAGS[0], spec, readLines(file, '--env-file'));
  for (const flag of LIST_FLAGS) {
    const values = given(options, flag.name);
    if (values.length > 0) add(flag, spec, values);
  }
  applyCapabilities(spec, given(options, 'cap-add'), given(options, 'cap-drop'));
}

/** Applies update's -add and -rm flags; what is to be removed and is not there is gone already. */
export function applyUpdateLists(spec: ServiceSpecJson, options: Options): void {
  for (const flag of LIST_FLAGS) {
    for (const text of given(options, `${flag.name}-rm`)) remove(flag, spec, text);
    const values = given(options, `${flag.name}-add`);
    if (values.length > 0) add(flag, spec, values);
  }
  applyCapabilities(spec, given(options, 'cap-add'), given(options, 'cap-drop'));
}

function remove(flag: ListFlag, spec: ServiceSpecJson, text: string): void {
  const items = flag.get(spec);
  const isRemoved = flag.removed ?? ((item: unknown) => flag.key(item) === text);
  const kept = items.filter((item) => !isRemoved(item, text));
  if (kept.length < items.length) flag.set(spec, kept);
}
