/** Commands that docker has and that cannot be had here: each says what to do instead. */
import { SwarmError } from '../base/errors.ts';
import { type Command, createCommand } from './command.ts';
import type { Run } from './context.ts';

const BUILD =
  'images are not built here: build with docker buildx or podman elsewhere, then push to a ' +
  'registry, or save there and "tsswarm image load" here';
const PLUGINS = 'drivers are built in, there are no plugins';

export const REFUSED: Readonly<Record<string, string>> = {
  build: BUILD,
  builder: BUILD,
  buildx: BUILD,
  bake: BUILD,
  checkpoint: 'containers cannot be frozen to disk: "tsswarm pause" holds one still',
  compose: 'deploy Compose files to the swarm: tsswarm stack deploy -c FILE STACK',
  context: 'name the daemon with -H, or in TSSWARM_HOST',
  manifest: 'lists of images are made where images are built: use docker buildx imagetools',
  plugin: PLUGINS,
  search: 'look on the registry’s web page, e.g. https://hub.docker.com/search',
  trust: 'signatures are not checked: name images by digest (NAME@sha256:...)',
};

/** A command that says why it is not there, whatever follows it. */
export function refuseCommand(parent: Command, run: Run, name: string, why: string): void {
  const command = createCommand(name).description('not supported');
  command.argument('[words...]').allowUnknownOption().helpOption(false);
  command.action(() =>
    run(async () => {
      throw new SwarmError('unsupported', `${name} is not supported: ${why}`);
    }),
  );
  parent.addCommand(command, { hidden: true });
}

export function registerRefused(name: string): (program: Command, run: Run) => void {
  return (program, run) => refuseCommand(program, run, name, REFUSED[name]);
}
