/**
 * A stack file as what the API takes: specifications of networks, secrets, configs and services,
 * named and labelled as docker's stacks are, so that either command sees the other's. Pure: ids of
 * secrets and configs are filled in by who deploys.
 */
import type { PortJson, ServiceSpecJson, TaskSpecJson, UpdateConfigJson } from '../docker.ts';
import { ADDRESS_OPTION, parseCpus } from '../service/parse.ts';
import { convertContainer } from './convertContainer.ts';
import { byText, defined, IMAGE_LABEL, named, nanoseconds, stackLabels } from './names.ts';
import { together, wrong } from './read.ts';
import type {
  StackDeploy,
  StackFile,
  StackFileObject,
  StackService,
  StackUpdate,
} from './types.ts';

/** Networks that every host has; they have no names for services. */
const HOST_NETWORKS = new Set(['host', 'none', 'bridge', 'default']);

// ---- networks ----------------------------------------------------------------------------------

/** A body of the API that has a name. */
export type Named = Readonly<Record<string, unknown>> & { readonly Name: string };

export interface StackNetworks {
  /** Bodies of POST /networks/create. */
  readonly create: readonly Named[];
  /** Names of networks that must exist. */
  readonly external: readonly string[];
}

/** Only networks that a service is on, the default one among them. */
export function convertNetworks(stack: string, file: StackFile): StackNetworks {
  const used = new Set(
    Object.values(file.services).flatMap((service) => Object.keys(attachments(service))),
  );
  const keys = [...Object.keys(file.networks), 'default'].filter((key) => used.has(key));
  const create = [];
  const external = [];
  for (const key of new Set(keys)) {
    const network = file.networks[key] ?? {};
    if (network.external === true) {
      external.push(network.name ?? key);
      continue;
    }
    create.push({
      Name: named(stack, key, network),
      Driver: network.driver ?? 'overlay',
      Internal: network.internal ?? false,
      Attachable: network.attachable ?? false,
      Options: network.driver_opts,
      Labels: stackLabels(stack, network.labels),
      ...(network.enable_ipv6 === undefined ? {} : { EnableIPv6: network.enable_ipv6 }),
      ...(network.ipam === undefined
        ? {}
        : {
            IPAM: {
              Driver: network.ipam.driver ?? 'default',
              Options: network.ipam.options,
              Config: (network.ipam.config ?? []).map((pool) => ({
                Subnet: pool.subnet,
                Gateway: pool.gateway,
                IPRange: pool.ip_range,
                AuxiliaryAddresses: pool.aux_addresses,
              })),
            },
          }),
    });
  }
  return { create, external };
}

function attachments(service: StackService): NonNullable<StackService['networks']> {
  const { networks } = service;
  return networks === undefined || Object.keys(networks).length === 0
    ? { default: null }
    : networks;
}

// ---- secrets and configs -----------------------------------------------------------------------

/** Body of POST /secrets/create or /configs/create, without its data. */
export function convertFileObject(stack: string, key: string, object: StackFileObject): Named {
  return {
    Name: named(stack, key, object),
    Labels: stackLabels(stack, object.labels),
    ...(object.template_driver === undefined
      ? {}
      : { Templating: { Name: object.template_driver } }),
  };
}

// ---- services ----------------------------------------------------------------------------------

/** By key of the file. SwarmError invalid when a service names what the file does not declare. */
export function convertServices(stack: string, file: StackFile): Map<string, ServiceSpecJson> {
  return new Map(
    together(
      ...Object.entries(file.services).map(([key, service]) => (): [string, ServiceSpecJson] => [
        key,
        convertService(stack, file, key, service),
      ]),
    ),
  );
}

function convertService(
  stack: string,
  file: StackFile,
  key: string,
  service: StackService,
): ServiceSpecJson {
  const path = `services.${key}`;
  if (service.image === undefined || service.image === '') {
    throw wrong(`${path}.image`, 'it is missing: services run images');
  }
  const deploy = service.deploy ?? {};
  return {
    Name: `${stack}_${key}`,
    Labels: { ...stackLabels(stack, deploy.labels), [IMAGE_LABEL]: service.image },
    TaskTemplate: taskTemplate(stack, file, key, service),
    Mode: convertMode(deploy, path),
    ...(deploy.update_config === undefined
      ? {}
      : { UpdateConfig: convertUpdate(deploy.update_config) }),
    ...(deploy.rollback_config === undefined
      ? {}
      : { RollbackConfig: convertUpdate(deploy.rollback_config) }),
    EndpointSpec: {
      ...(deploy.endpoint_mode === undefined ? {} : { Mode: deploy.endpoint_mode }),
      ...(service.ports === undefined ? {} : { Ports: convertPorts(service) }),
    },
  };
}

function convertMode(deploy: StackDeploy, path: string): NonNullable<ServiceSpecJson['Mode']> {
  const { mode = 'replicated', replicas } = deploy;
  if (replicas !== undefined && (mode === 'global' || mode === 'global-job')) {
    throw wrong(`${path}.deploy.replicas`, `a ${mode} service has one task on each host`);
  }
  switch (mode) {
    case 'global':
      return { Global: {} };
    case 'global-job':
      return { GlobalJob: {} };
    case 'replicated-job':
      return { ReplicatedJob: { MaxConcurrent: replicas, TotalCompletions: replicas } };
    default:
      return { Replicated: replicas === undefined ? {} : { Replicas: replicas } };
  }
}

function taskTemplate(
  stack: string,
  file: StackFile,
  key: string,
  service: StackService,
): TaskSpecJson {
  const { deploy = {}, logging } = service;
  const { limits, reservations } = deploy.resources ?? {};
  const restart = restartPolicy(service);
  return {
    ContainerSpec: convertContainer(stack, file, key, service),
    Resources: {
      ...(limits === undefined
        ? {}
        : { Limits: { ...cpuAndMemory(limits), ...defined({ Pids: limits.pids }) } }),
      ...(reservations === undefined
        ? {}
        : {
            Reservations: {
              ...cpuAndMemory(reservations),
              ...defined({
                GenericResources: reservations.generic_resources?.map((item) => ({
                  DiscreteResourceSpec: {
                    Kind: item.discrete_resource_spec.kind,
                    Value: item.discrete_resource_spec.value,
                  },
                })),
              }),
            },
          }),
    },
    ...defined({ RestartPolicy: restart }),
    Placement: convertPlacement(service),
    Networks: convertAttachments(stack, file, key, service),
    ...(logging === undefined
      ? {}
      : { LogDriver: { Name: logging.driver ?? '', ...defined({ Options: logging.options }) } }),
    ForceUpdate: 0,
  };
}

function cpuAndMemory(from: { readonly cpus?: string; readonly memory?: number }): object {
  return defined({
    NanoCPUs: from.cpus === undefined ? undefined : parseCpus(from.cpus),
    MemoryBytes: from.memory,
  });
}

function restartPolicy({ restart, deploy }: StackService): TaskSpecJson['RestartPolicy'] {
  const policy = deploy?.restart_policy;
  if (policy !== undefined) {
    return defined({
      Condition: policy.condition,
      Delay: nanoseconds(policy.delay),
      MaxAttempts: policy.max_attempts,
      Window: nanoseconds(policy.window),
    });
  }
  // Compose's older key, as docker's stacks take it.
  if (restart === undefined || restart === 'no') return undefined;
  const [word, attempts] = restart.split(':');
  if (word !== 'on-failure') return { Condition: 'any' };
  return {
    Condition: 'on-failure',
    ...(attempts === undefined ? {} : { MaxAttempts: Number(attempts) }),
  };
}

function convertPlacement({ deploy, platform }: StackService): TaskSpecJson['Placement'] {
  const placement = deploy?.placement;
  const [OS = '', Architecture = ''] = platform?.split('/') ?? [];
  return defined({
    Constraints: placement?.constraints === undefined ? undefined : [...placement.constraints],
    Preferences: placement?.preferences?.map((item) => ({
      Spread: { SpreadDescriptor: item.spread },
    })),
    MaxReplicas: placement?.max_replicas_per_node,
    Platforms: platform === undefined ? undefined : [{ Architecture, OS }],
  });
}

function convertAttachments(
  stack: string,
  file: StackFile,
  key: string,
  service: StackService,
): NonNullable<TaskSpecJson['Networks']> {
  return Object.entries(attachments(service))
    .map(([network, attachment]) => {
      if (network !== 'default' && !Object.hasOwn(file.networks, network)) {
        const path = `services.${key}.networks.${network}`;
        throw wrong(path, 'it is not among the networks of the file');
      }
      const Target = named(stack, network, file.networks[network] ?? {});
      const own = HOST_NETWORKS.has(Target) ? [] : [key];
      const addresses = [attachment?.ipv4_address, attachment?.ipv6_address].filter(
        (address) => address !== undefined,
      );
      const options = {
        ...attachment?.driver_opts,
        ...(addresses.length === 0 ? {} : { [ADDRESS_OPTION]: addresses.join(',') }),
      };
      const Aliases = [...(attachment?.aliases ?? []), ...own];
      return {
        Target,
        ...(Aliases.length === 0 ? {} : { Aliases }),
        ...(Object.keys(options).length === 0 ? {} : { DriverOpts: options }),
      };
    })
    .sort((left, right) => byText(left.Target, right.Target));
}

function convertUpdate(update: StackUpdate): UpdateConfigJson {
  return {
    Parallelism: update.parallelism ?? 1,
    ...defined({
      Delay: nanoseconds(update.delay),
      FailureAction: update.failure_action,
      Monitor: nanoseconds(update.monitor),
    }),
    MaxFailureRatio: update.max_failure_ratio ?? 0,
    Order: update.order ?? '',
  };
}

function convertPorts(service: StackService): PortJson[] {
  return (service.ports ?? [])
    .map((port) => ({
      ...defined({ Name: port.name }),
      Protocol: port.protocol,
      TargetPort: port.target,
      ...defined({ PublishedPort: port.published }),
      PublishMode: port.mode,
      ...defined({ HostIP: port.host_ip }),
    }))
    .sort((left, right) => (left.PublishedPort ?? 0) - (right.PublishedPort ?? 0));
}
