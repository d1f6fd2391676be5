/**
 * Docker's links: a container that is told of another one by an alias. On the default bridge, whose
 * containers do not find each other by name, with variables that say where the other's ports are;
 * on any network as lines of /etc/hosts. The other has to run when the one that is linked to it
 * starts; when it starts again elsewhere, those lines follow it, the variables do not.
 */
import { messageOf, SwarmError } from '../../base/errors.ts';
import type { Container } from '../../runtime/container/types.ts';
import type { HostContext } from './context.ts';
import { portOrder } from './plan.ts';
import type { ContainerRecord, Link, StandaloneSpec } from './types.ts';

export type LinkContext = Pick<
  HostContext,
  'containers' | 'network' | 'networks' | 'exposedOf' | 'linkedTo' | 'log'
>;

interface Linked {
  readonly env: readonly string[];
  readonly hosts: readonly { readonly name: string; readonly address: string }[];
}

/** 'name:alias', or a name that is its own alias. SwarmError invalid. */
export function parseLink(text: string): Link {
  const [container = '', alias = container.replace(/^\//, ''), ...rest] = text.split(':');
  const name = alias.slice(alias.lastIndexOf('/') + 1);
  if (container !== '' && /^[\w.-]+$/.test(name) && rest.length === 0) {
    const asked = container.replace(/^\//, '');
    return { container: asked, name: asked, alias: name };
  }
  throw new SwarmError('invalid', `bad format for links: ${text}`);
}

/** SwarmError invalid: a container with that network cannot be told of others. */
export function checkLinks({ links = [], networkMode }: StandaloneSpec): void {
  const kind = networkMode.startsWith('container:') ? 'container' : networkMode;
  if (links.length === 0 || !['host', 'none', 'container'].includes(kind)) return;
  throw new SwarmError(
    'invalid',
    `conflicting options: ${kind} type networking can't be used with links`,
  );
}

/** What the container `record` is told at its start. SwarmError conflict unless all others run. */
export function linkedFor(context: LinkContext, record: ContainerRecord): Linked {
  const env: string[] = [];
  const hosts: Linked['hosts'][number][] = [];
  for (const { container: id, alias } of record.spec.links ?? []) {
    const other = context.containers.get(id);
    if (other === undefined || other.state !== 'running') {
      const name = other?.config.name ?? id;
      throw new SwarmError(
        'conflict',
        `cannot link to a non running container: /${name} AS /${record.name}/${alias}`,
      );
    }
    const { address, isDefault } = reached(context, record, other);
    for (const name of namesOf(other, alias)) hosts.push({ name, address });
    if (isDefault) env.push(...variables(context, record.name, alias, other, address));
  }
  return { env, hosts };
}

function namesOf({ config }: Container, alias: string): readonly string[] {
  return [...new Set([alias, config.hostname, config.name])];
}

/** Containers with a link to this one, which was just attached, find it where it is now. */
export async function tellLinked(context: LinkContext, record: ContainerRecord): Promise<void> {
  const own = context.containers.get(record.id);
  if (own === undefined) return;
  for (const linking of context.linkedTo(record.id)) {
    if (context.containers.get(linking.id)?.state !== 'running') continue;
    const aliases = (linking.spec.links ?? []).filter(({ container }) => container === record.id);
    try {
      const { address } = reached(context, linking, own);
      const names = aliases.flatMap(({ alias }) => namesOf(own, alias));
      await context.network.follow(
        linking.id,
        names.map((name) => ({ name, address })),
      );
    } catch (error) {
      // It has left their network, or the other is ending: nothing that this start depends on.
      const failure = { container: linking.id, error: messageOf(error) };
      context.log.warn('a link does not lead to its container any more', failure);
    }
  }
}

/** Where the other is on a network of both. */
function reached(
  { network, networks }: LinkContext,
  record: ContainerRecord,
  other: Container,
): { readonly address: string; readonly isDefault: boolean } {
  const endpoints = network.endpoints(other.config.id);
  for (const id of Object.keys(record.networks)) {
    const local = networks.find(id);
    const runtimeId = local === undefined ? id : networks.runtimeId(local);
    const found = endpoints.find(({ networkId }) => networkId === runtimeId);
    if (found !== undefined && found.address !== '') {
      return { address: found.address, isDefault: local?.builtin === true };
    }
  }
  throw new SwarmError(
    'conflict',
    `cannot link to /${other.config.name}: it is on no network of /${record.name}`,
  );
}

/** Of what an image says, not of the program that is linked to. */
const OWN_VARIABLES = /^(HOME|PATH)=/;

function variables(
  { exposedOf }: LinkContext,
  name: string,
  alias: string,
  other: Container,
  address: string,
): readonly string[] {
  const prefix = alias.toUpperCase().replaceAll('-', '_');
  const ports = portOrder(exposedOf(other.config.id)).map((port) => port.split('/'));
  const [first] = ports;
  return [
    ...(first === undefined ? [] : [`${prefix}_PORT=${first[1]}://${address}:${first[0]}`]),
    ...ports.flatMap(([number = '', protocol = '']) => {
      const key = `${prefix}_PORT_${number}_${protocol.toUpperCase()}`;
      return [
        `${key}=${protocol}://${address}:${number}`,
        `${key}_ADDR=${address}`,
        `${key}_PORT=${number}`,
        `${key}_PROTO=${protocol}`,
      ];
    }),
    `${prefix}_NAME=/${name}/${alias}`,
    ...other.config.env
      .filter((variable) => variable.includes('=') && !OWN_VARIABLES.test(variable))
      .map((variable) => `${prefix}_ENV_${variable}`),
  ];
}
