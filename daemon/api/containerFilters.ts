/** Which containers a list is asked for: Docker's filters of `docker ps`. */
import { SwarmError } from '../../base/errors.ts';
import { exposedPorts } from '../containers/plan.ts';
import type { ContainerView } from '../containers/types.ts';
import type { Filters } from './filters.ts';
import type { ApiParts } from './parts.ts';

export const LIST_FILTERS: readonly string[] = [
  'ancestor',
  'before',
  'since',
  'exited',
  'expose',
  'publish',
  'health',
  'id',
  'is-task',
  'label',
  'name',
  'network',
  'status',
  'volume',
];

const STATUSES = ['created', 'running', 'paused', 'restarting', 'removing', 'exited', 'dead'];

/** SwarmError invalid for a value that no container can have. */
export function fits(view: ContainerView, filters: Filters, parts: ApiParts): boolean {
  const { config } = view.container;
  for (const status of filters.values('status')) {
    if (!STATUSES.includes(status)) {
      throw new SwarmError(
        'invalid',
        `invalid filter 'status=${status}': use ${STATUSES.join(', ')}`,
      );
    }
  }
  const isTask = filters.flag('is-task');
  return (
    filters.startsWith('id', config.id) &&
    filters.some('name', (text) => nameFits(config.name, text)) &&
    filters.labels('label', config.labels) &&
    filters.is('status', view.status) &&
    filters.is('health', view.health?.status ?? 'none') &&
    filters.some('exited', (code) => exitedWith(view, code)) &&
    (isTask === undefined || isTask === (view.record === undefined)) &&
    filters.some('ancestor', (image) => isOf(view, image, parts)) &&
    filters.some('network', (key) =>
      view.networks.some((each) => each.networkName === key || each.networkId.startsWith(key)),
    ) &&
    filters.some('volume', (key) =>
      view.mounts.some((mount) => [mount.name, mount.target, mount.source].includes(key)),
    ) &&
    filters.some('publish', (port) => publishedOf(view).some((each) => portFits(each, port))) &&
    filters.some('expose', (port) =>
      [
        ...publishedOf(view),
        ...exposedPorts(view.record?.spec, parts.node.images.find(config.image.id)),
      ].some((each) => portFits(each, port)),
    ) &&
    relative(view, filters, parts)
  );
}

/** Part of the name, or a pattern, as Docker matches it. */
function nameFits(name: string, text: string): boolean {
  if (name.includes(text)) return true;
  try {
    const pattern = new RegExp(text);
    return pattern.test(name) || pattern.test(`/${name}`);
  } catch {
    return false; // not a pattern: then it is only looked for as text
  }
}

function exitedWith(view: ContainerView, code: string): boolean {
  if (!/^\d+$/.test(code)) {
    throw new SwarmError('invalid', `invalid filter 'exited=${code}': give a number`);
  }
  return view.status === 'exited' && view.exitCode === Number(code);
}

function isOf(view: ContainerView, key: string, parts: ApiParts): boolean {
  const wanted = parts.node.images.find(key);
  const { id } = view.container.config.image;
  if (wanted === undefined) return false;
  if (wanted.id === id) return true;
  // Or made from it: its layers are the lowest of the container's image.
  const own = parts.node.images.find(id)?.diffIds ?? [];
  return wanted.diffIds.length > 0 && wanted.diffIds.every((diffId, at) => own[at] === diffId);
}

/** The container's ports: Docker's filters do not look at the host's. */
function publishedOf(view: ContainerView): string[] {
  return view.ports.map(({ containerPort, protocol }) => `${containerPort}/${protocol}`);
}

/** '8080', '8080/tcp' or '8000-8100/tcp' */
function portFits(actual: string, wanted: string): boolean {
  const [number, protocol] = actual.split('/');
  const [range, wantedProtocol = 'tcp'] = wanted.split('/');
  const [first, last = first] = range.split('-').map(Number);
  return protocol === wantedProtocol && Number(number) >= first && Number(number) <= last;
}

function relative(view: ContainerView, filters: Filters, parts: ApiParts): boolean {
  const created = (key: string): number => parts.node.host.containers.find(key).view().createdAtMs;
  return (
    filters.some('before', (key) => view.createdAtMs < created(key)) &&
    filters.some('since', (key) => view.createdAtMs > created(key))
  );
}
