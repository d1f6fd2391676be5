/**
 * Every command and flag that the docker client has is known here: done, or refused with a reason.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Command, createCommand } from '../../cli/command.ts';
import { GROUPS } from '../../cli/commands.ts';
import { skipWithoutDocker } from '../support/dockerClient.ts';
import { run } from '../support/servedNode.ts';

const skip = await skipWithoutDocker(28);

/** Groups whose commands are gone through; the others are refused as a whole. */
const GROUP_NAMES = [
  ...['swarm', 'node', 'service', 'stack', 'secret', 'config', 'volume', 'network', 'image'],
  ...['container', 'system'],
];
/** Refused as a whole: its flags do not matter. */
const REFUSED = ['image build', 'system dial-stdio', 'volume update'];

async function help(...words: string[]): Promise<string> {
  const { stdout, stderr } = await run('docker', [...words, '--help'], process.env);
  return `${stdout}\n${stderr}`;
}

function commandsIn(text: string): string[] {
  const part = /\nCommands:\n([\s\S]*?)\n\n/.exec(text)?.[1] ?? '';
  return part
    .split('\n')
    .map((line) => /^ {2}([a-z-]+)/.exec(line)?.[1])
    .filter((name) => name !== undefined);
}

function flagsIn(text: string): string[] {
  return [...text.matchAll(/^ +(?:-\w, )? *--([a-z0-9-]+)/gm)].map((match) => match[1]);
}

async function groupNamed(name: string): Promise<Command> {
  const root = createCommand('tsswarm');
  const group = GROUPS.find((item) => item.name === name);
  assert.ok(group !== undefined, `${name} is unknown`);
  (await group.load())(root, async () => {});
  return root.commands[0];
}

function lacking(command: Command, flags: readonly string[]): string[] {
  const known = new Set(command.options.map((option) => option.long?.slice(2)));
  return flags.filter((flag) => flag !== 'help' && !known.has(flag));
}

test('every flag of every command of docker’s groups is known', { skip }, async () => {
  const missing: string[] = [];
  for (const name of GROUP_NAMES) {
    const group = await groupNamed(name);
    for (const word of commandsIn(await help(name))) {
      const path = `${name} ${word}`;
      const command = group.commands.find((item) => item.name() === word);
      if (command === undefined) missing.push(path);
      else if (!REFUSED.includes(path)) {
        const flags = flagsIn(await help(name, word));
        missing.push(...lacking(command, flags).map((flag) => `${path} --${flag}`));
      }
    }
  }
  assert.deepEqual(missing, []);
});

test('every command at the top of docker’s is known', { skip }, async () => {
  const text = await help();
  const found = [...text.matchAll(/^ {2}([a-z]+)\*? {2,}\S/gm)].map((match) => match[1]);
  const known = new Set(GROUPS.map((group) => group.name));
  assert.ok(found.length > 40, text);
  assert.deepEqual(
    found.filter((name) => !known.has(name)),
    [],
  );
});
