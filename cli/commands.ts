/** The top-level commands by name; the code of each is loaded only when it is the one wanted. */
import type { Command } from './command.ts';
import type { Run } from './context.ts';
import { REFUSED, registerRefused } from './refused.ts';

/** Adds the command (and its subcommands) to the program. */
type Register = (program: Command, run: Run) => void;

export interface Group {
  readonly name: string;
  readonly about: string;
  readonly hidden?: boolean;
  readonly load: () => Promise<Register>;
}

/** Short forms of container's commands. */
const CONTAINER_COMMANDS: readonly (readonly [string, string])[] = [
  ['run', 'make a container and start it'],
  ['exec', 'run a program in a container, or in a task or service on any host'],
  ['logs', 'what a container (or a task on any host) wrote'],
  ['cp', 'copy files from or to CONTAINER:PATH or TASK:PATH'],
  ['stats', 'what containers (or tasks) use, as it changes'],
  ['top', 'processes of a container or task'],
  ['attach', 'be with a container that runs'],
  ['create', 'make a container, not started'],
  ['start', 'start containers'],
  ['stop', 'end containers'],
  ['restart', 'end containers and start them again'],
  ['kill', 'send containers a signal'],
  ['pause', 'hold containers still'],
  ['unpause', 'let containers go on'],
  ['wait', 'wait until containers end'],
  ['rm', 'remove containers'],
  ['rename', 'give a container another name'],
  ['port', 'where its ports are published'],
  ['diff', 'files that changed since it was made'],
  ['export', 'a root file system as a tar'],
  ['commit', 'make an image of what a container has written'],
  ['update', 'change limits and restart policy of containers'],
];

/** Short forms of image's commands. */
const IMAGE_COMMANDS: readonly (readonly [string, string, ImageRegistrar])[] = [
  ['pull', 'get an image from a registry', 'registerPull'],
  ['push', 'send an image to a registry', 'registerPush'],
  ['images', 'list images of this host', 'registerImages'],
  ['rmi', 'remove images', 'registerRmi'],
  ['save', 'write images to a tar', 'registerSave'],
  ['load', 'load images from a tar', 'registerLoad'],
  ['import', 'make an image of a root file system tar', 'registerImport'],
  ['tag', 'give an image another name', 'registerTag'],
  ['history', 'how an image was made', 'registerHistory'],
];

type ImageRegistrar =
  | 'registerPull'
  | 'registerPush'
  | 'registerImages'
  | 'registerRmi'
  | 'registerSave'
  | 'registerLoad'
  | 'registerImport'
  | 'registerTag'
  | 'registerHistory';

export const GROUPS: readonly Group[] = [
  {
    name: 'init',
    about: 'start a swarm with this host as its first manager',
    load: async () => (await import('./swarm.ts')).registerInit,
  },
  {
    name: 'join',
    about: 'make this host part of a swarm',
    load: async () => (await import('./swarm.ts')).registerJoin,
  },
  {
    name: 'join-token',
    about: 'show or renew what other hosts join with',
    load: async () => (await import('./swarm.ts')).registerJoinToken,
  },
  {
    name: 'leave',
    about: 'take this host out of the swarm',
    load: async () => (await import('./swarm.ts')).registerLeave,
  },
  {
    name: 'swarm',
    about: 'the swarm as a whole: its settings, certificates and lock',
    load: async () => (await import('./swarmSettings.ts')).registerSwarm,
  },
  {
    name: 'node',
    about: 'the hosts of the swarm',
    load: async () => (await import('./node.ts')).registerNode,
  },
  {
    name: 'manager',
    about: 'how the managers are',
    load: async () => (await import('./manager.ts')).registerManager,
  },
  {
    name: 'service',
    about: 'what runs in the swarm',
    load: async () => (await import('./service/commands.ts')).registerService,
  },
  {
    name: 'stack',
    about: 'services deployed together, from Compose files',
    load: async () => (await import('./stack/commands.ts')).registerStack,
  },
  {
    name: 'secret',
    about: 'secrets that services get as files in memory',
    load: async () => (await import('./data.ts')).registerSecret,
  },
  {
    name: 'config',
    about: 'configurations that services get as files',
    load: async () => (await import('./data.ts')).registerConfig,
  },
  {
    name: 'volume',
    about: 'named volumes of this host',
    load: async () => (await import('./volume.ts')).registerVolume,
  },
  {
    name: 'network',
    about: 'networks that span hosts',
    load: async () => (await import('./network.ts')).registerNetwork,
  },
  {
    name: 'image',
    about: 'images on this host',
    load: async () => (await import('./image/commands.ts')).registerImage,
  },
  {
    name: 'container',
    about: 'containers of this host',
    load: async () => (await import('./container/commands.ts')).registerContainer,
  },
  {
    name: 'ps',
    about: 'list containers of this host',
    load: async () => (await import('./container/commands.ts')).registerPs,
  },
  ...CONTAINER_COMMANDS.map(([name, about]) => ({
    name,
    about,
    load: async () => (await import('./container/commands.ts')).BOTH[name],
  })),
  ...IMAGE_COMMANDS.map(([name, about, registrar]) => ({
    name,
    about,
    load: async () => (await import('./image/commands.ts'))[registrar],
  })),
  {
    name: 'login',
    about: 'log in to a registry',
    load: async () => (await import('./login.ts')).registerLogin,
  },
  {
    name: 'logout',
    about: 'forget what a registry is logged in to with',
    load: async () => (await import('./login.ts')).registerLogout,
  },
  {
    name: 'system',
    about: 'the daemon: what it holds, events, clearing up',
    load: async () => (await import('./systemGroup.ts')).registerSystem,
  },
  {
    name: 'inspect',
    about: 'details of anything, by name or id',
    load: async () => (await import('./systemGroup.ts')).registerInspect,
  },
  {
    name: 'info',
    about: 'this host and its place in the swarm',
    load: async () => (await import('./system.ts')).registerInfo,
  },
  {
    name: 'version',
    about: 'versions of the command and the daemon',
    load: async () => (await import('./system.ts')).registerVersion,
  },
  {
    name: 'events',
    about: 'what changes, one line an event',
    load: async () => (await import('./system.ts')).registerEvents,
  },
  {
    name: 'why',
    about: 'why something does not run',
    load: async () => (await import('./cluster.ts')).registerWhy,
  },
  {
    name: 'rebalance',
    about: 'spread running tasks evenly over the hosts',
    load: async () => (await import('./cluster.ts')).registerRebalance,
  },
  {
    name: 'snapshot',
    about: 'backups of the swarm: save, inspect, restore',
    load: async () => (await import('./snapshot.ts')).registerSnapshot,
  },
  {
    name: 'recover',
    about: 'what the state of a dead manager holds, and what to do',
    load: async () => (await import('./recover.ts')).registerRecover,
  },
  {
    name: 'watch',
    about: 'a live picture of the swarm',
    load: async () => (await import('./watch/command.ts')).registerWatch,
  },
  {
    name: 'daemon',
    about: 'run the daemon of this host',
    load: async () => (await import('./daemon.ts')).registerDaemon,
  },
  {
    name: 'completion',
    about: 'completion for bash, zsh or fish',
    load: async () => (await import('./completion.ts')).registerCompletion,
  },
  {
    name: '__complete',
    about: 'what may follow the words of a command line',
    hidden: true,
    load: async () => (await import('./completion.ts')).registerComplete,
  },
  ...Object.keys(REFUSED).map((name) => ({
    name,
    about: 'not supported',
    hidden: true,
    load: async () => registerRefused(name),
  })),
];
