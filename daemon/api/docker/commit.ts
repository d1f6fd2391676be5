/**
 * POST /commit in Docker's words: what containers of the new image are to be, from what the
 * container was made with and what the request says instead.
 */
import type { Image } from '../../../runtime/image/types.ts';
import type { ContainerView } from '../../containers/types.ts';
import { type Fields, isRecord } from '../fields.ts';
import { healthFromDocker, keysOf } from './containerCreate.ts';
import { configOf } from './containerInspect.ts';

/** Of all that a container is told to be, what an image's configuration can say. */
const KEPT = [
  'User',
  'ExposedPorts',
  'Env',
  'Cmd',
  'Healthcheck',
  'Volumes',
  'WorkingDir',
  'Entrypoint',
  'Labels',
  'StopSignal',
] as const;

/** As image configurations have it, without what is empty. */
export function committedConfig(
  view: ContainerView,
  image: Image | undefined,
  below: Readonly<Record<string, unknown>>,
  body: Fields,
): Readonly<Record<string, unknown>> {
  const { env, workingDir } = view.container.config;
  const own: Readonly<Record<string, unknown>> = {
    ...configOf(view, image),
    Env: env,
    // A container that was told none runs in '/'.
    WorkingDir: workingDir === '/' ? (image?.config.workingDir ?? '') : workingDir,
    OnBuild: isRecord(below['config']) ? below['config']['OnBuild'] : undefined,
  };
  const given = givenConfig(body);
  const merged = KEPT.map((name) => [name, together(name, own[name], given[name])] as const);
  return Object.fromEntries(
    [...merged, ['OnBuild', own['OnBuild']] as const].filter(([, value]) => isSaid(value)),
  );
}

/** Read by type, so that no image is made that cannot be used. */
function givenConfig(body: Fields): Readonly<Record<string, unknown>> {
  const keys = (name: string): object =>
    Object.fromEntries(keysOf(body, name).map((key) => [key, {}]));
  healthFromDocker(body.object('Healthcheck')); // refuses what is none
  return {
    User: body.text('User'),
    ExposedPorts: keys('ExposedPorts'),
    Env: body.texts('Env'),
    Cmd: body.texts('Cmd'),
    Healthcheck: body.raw('Healthcheck'),
    Volumes: keys('Volumes'),
    WorkingDir: body.text('WorkingDir'),
    Entrypoint: body.texts('Entrypoint'),
    Labels: body.labels('Labels'),
    StopSignal: body.text('StopSignal'),
  };
}

function isSaid(value: unknown): boolean {
  if (value === undefined || value === null || value === '') return false;
  if (Array.isArray(value)) return value.length > 0;
  return !isRecord(value) || Object.keys(value).length > 0;
}

/** What is given counts; tables and variables are joined by name. */
function together(name: string, own: unknown, given: unknown): unknown {
  if (!isSaid(given)) return own;
  if (['ExposedPorts', 'Volumes', 'Labels'].includes(name)) {
    return { ...(own as object | null), ...(given as object) };
  }
  if (name !== 'Env') return given;
  const nameOf = (entry: string): string => entry.split('=', 1)[0];
  const names = new Set((given as string[]).map(nameOf));
  return [
    ...(own as string[]).filter((entry) => !names.has(nameOf(entry))),
    ...(given as string[]),
  ];
}
