/**
 * What the docker client on this machine can be told: its commands of the groups that
 * docs/compat.md is about, with their flags, read from its own help. Nothing is listed by hand.
 */
import { outcome } from '../support/lab.ts';

export const GROUPS = [
  ...['swarm', 'node', 'service', 'stack', 'secret', 'config', 'network', 'volume'],
  ...['image', 'container', 'system'],
] as const;

async function help(...words: string[]): Promise<string> {
  return (await outcome('docker', [...words, '--help'])).stdout;
}

/** 'service create' -> its flags' long names, sorted. */
export async function readCommands(): Promise<Map<string, string[]>> {
  const found = new Map<string, string[]>();
  for (const group of GROUPS) {
    const [, listed = ''] = (await help(group)).split(/^Commands:$/m);
    const [commands] = listed.split(/\n\s*\n/, 1);
    for (const match of commands.matchAll(/^ {2}([a-z-]+)/gm)) {
      const command = `${group} ${match[1]}`;
      found.set(command, flagsOf(await help(group, match[1])));
    }
  }
  return found;
}

function flagsOf(text: string): string[] {
  const flags = [...text.matchAll(/^ +(?:-[a-zA-Z], )?--([a-z][a-z0-9-]*)/gm)];
  // Every command has --help; two list it.
  const names = flags.map((match) => match[1]).filter((name) => name !== 'help');
  return [...new Set(names)].sort();
}
