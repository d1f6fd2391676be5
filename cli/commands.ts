/** The top-level commands by name; the code of each is loaded only when it is the one wanted. */
import type { Command } from './command.ts';
import type { Run } from './context.ts';

/** Adds the command (and its subcommands) to the program. */
export type Register = (program: Command, run: Run) => void;

export interface Group {
  readonly name: string;
  readonly about: string;
  readonly hidden?: boolean;
  readonly load: () => Promise<Register>;
}

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
    name: 'node',
    about: 'the hosts of the swarm',
    load: async () => (await import('./node.ts')).registerNode,
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
    name: 'network',
    about: 'networks that span hosts',
    load: async () => (await import('./network.ts')).registerNetwork,
  },
  {
    name: 'image',
    about: 'images on this host',
    load: async () => (await import('./image.ts')).registerImage,
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
];
