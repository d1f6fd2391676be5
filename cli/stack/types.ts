/**
 * A stack file in one long form, with Compose's own names: what the readers make of it, what
 * merging joins, what `stack config` prints and what becomes the API's specifications. Holds no ids
 * and nothing of one deployment.
 */

export interface StackPort {
  readonly mode: 'ingress' | 'host';
  readonly target: number;
  /** Absent: the swarm chooses one. */
  readonly published?: number;
  readonly protocol: string;
  /** The one address it is published on. */
  readonly host_ip?: string;
  readonly name?: string;
}

export interface StackMount {
  readonly type: 'volume' | 'bind' | 'tmpfs';
  readonly source?: string;
  readonly target: string;
  readonly read_only?: boolean;
  readonly bind?: { readonly propagation?: string; readonly create_host_path?: boolean };
  readonly volume?: { readonly nocopy?: boolean; readonly subpath?: string };
  readonly tmpfs?: { readonly size?: number; readonly mode?: number };
}

export interface StackFileUse {
  readonly source: string;
  readonly target?: string;
  readonly uid?: string;
  readonly gid?: string;
  readonly mode?: number;
}

export interface StackAttachment {
  readonly aliases?: readonly string[];
  readonly driver_opts?: Readonly<Record<string, string>>;
  readonly ipv4_address?: string;
  readonly ipv6_address?: string;
}

export interface StackHealth {
  readonly test?: readonly string[];
  readonly interval?: string;
  readonly timeout?: string;
  readonly start_period?: string;
  readonly start_interval?: string;
  readonly retries?: number;
  readonly disable?: boolean;
}

export interface StackUpdate {
  readonly parallelism?: number;
  readonly delay?: string;
  readonly failure_action?: string;
  readonly monitor?: string;
  readonly max_failure_ratio?: number;
  readonly order?: string;
}

export interface StackGenericResource {
  readonly discrete_resource_spec: { readonly kind: string; readonly value: number };
}

export interface StackLimits {
  readonly cpus?: string;
  readonly memory?: number;
  readonly pids?: number;
}

export interface StackReservations {
  readonly cpus?: string;
  readonly memory?: number;
  readonly generic_resources?: readonly StackGenericResource[];
}

export type StackMode = 'replicated' | 'global' | 'replicated-job' | 'global-job';

export interface StackDeploy {
  readonly mode?: StackMode;
  readonly replicas?: number;
  readonly labels?: Readonly<Record<string, string>>;
  readonly update_config?: StackUpdate;
  readonly rollback_config?: StackUpdate;
  readonly resources?: { readonly limits?: StackLimits; readonly reservations?: StackReservations };
  readonly restart_policy?: {
    readonly condition?: string;
    readonly delay?: string;
    readonly max_attempts?: number;
    readonly window?: string;
  };
  readonly placement?: {
    readonly constraints?: readonly string[];
    readonly preferences?: readonly { readonly spread: string }[];
    readonly max_replicas_per_node?: number;
  };
  readonly endpoint_mode?: string;
}

export interface StackUlimit {
  readonly soft: number;
  readonly hard: number;
}

export type DependencyCondition =
  | 'service_started'
  | 'service_healthy'
  | 'service_completed_successfully';

export interface StackService {
  readonly image?: string;
  readonly command?: readonly string[];
  readonly entrypoint?: readonly string[];
  readonly environment?: Readonly<Record<string, string | null>>;
  readonly env_file?: readonly { readonly path: string; readonly required?: boolean }[];
  readonly labels?: Readonly<Record<string, string>>;
  readonly hostname?: string;
  readonly user?: string;
  readonly group_add?: readonly string[];
  readonly working_dir?: string;
  readonly init?: boolean;
  readonly read_only?: boolean;
  readonly tty?: boolean;
  readonly stdin_open?: boolean;
  readonly stop_signal?: string;
  readonly stop_grace_period?: string;
  readonly dns?: readonly string[];
  readonly dns_search?: readonly string[];
  readonly dns_opt?: readonly string[];
  readonly extra_hosts?: readonly string[];
  readonly cap_add?: readonly string[];
  readonly cap_drop?: readonly string[];
  readonly security_opt?: readonly string[];
  readonly sysctls?: Readonly<Record<string, string>>;
  readonly ulimits?: Readonly<Record<string, StackUlimit>>;
  readonly oom_score_adj?: number;
  readonly tmpfs?: readonly string[];
  readonly healthcheck?: StackHealth;
  readonly logging?: {
    readonly driver?: string;
    readonly options?: Readonly<Record<string, string>>;
  };
  readonly ports?: readonly StackPort[];
  readonly expose?: readonly string[];
  readonly volumes?: readonly StackMount[];
  readonly networks?: Readonly<Record<string, StackAttachment | null>>;
  readonly secrets?: readonly StackFileUse[];
  readonly configs?: readonly StackFileUse[];
  readonly depends_on?: Readonly<Record<string, { readonly condition: DependencyCondition }>>;
  readonly platform?: string;
  readonly restart?: string;
  readonly profiles?: readonly string[];
  readonly isolation?: 'default';
  readonly deploy?: StackDeploy;
}

export interface StackNetwork {
  readonly name?: string;
  readonly external?: boolean;
  readonly driver?: string;
  readonly driver_opts?: Readonly<Record<string, string>>;
  readonly attachable?: boolean;
  readonly internal?: boolean;
  readonly enable_ipv6?: boolean;
  readonly labels?: Readonly<Record<string, string>>;
  readonly ipam?: {
    readonly driver?: string;
    readonly options?: Readonly<Record<string, string>>;
    readonly config?: readonly {
      readonly subnet?: string;
      readonly gateway?: string;
      readonly ip_range?: string;
      readonly aux_addresses?: Readonly<Record<string, string>>;
    }[];
  };
}

export interface StackVolume {
  readonly name?: string;
  readonly external?: boolean;
  readonly driver?: string;
  readonly driver_opts?: Readonly<Record<string, string>>;
  readonly labels?: Readonly<Record<string, string>>;
}

/** A secret or a config: where its content comes from. */
export interface StackFileObject {
  readonly name?: string;
  readonly external?: boolean;
  readonly file?: string;
  readonly environment?: string;
  readonly content?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly template_driver?: string;
  readonly driver?: string;
  readonly driver_opts?: Readonly<Record<string, string>>;
}

export interface StackFile {
  readonly version?: string;
  readonly name?: string;
  readonly services: Readonly<Record<string, StackService>>;
  readonly networks: Readonly<Record<string, StackNetwork>>;
  readonly volumes: Readonly<Record<string, StackVolume>>;
  readonly secrets: Readonly<Record<string, StackFileObject>>;
  readonly configs: Readonly<Record<string, StackFileObject>>;
  /** x-... keys of the top, as they are. */
  readonly extensions: Readonly<Record<string, unknown>>;
}
