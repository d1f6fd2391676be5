/**
 * Run in a container's network namespace: for every service name read, says the name once it
 * answers there, all three of its tasks are listed and each of them answers.
 */
import { Resolver } from 'node:dns/promises';
import { get } from 'node:http';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';

const REPLICAS = 3;
const PAUSE_MS = 5;
const resolver = new Resolver({ timeout: 1000, tries: 1 });
resolver.setServers(['127.0.0.11']);

function answers(address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const asked = get({ host: address, port: 80, timeout: 1000, agent: false }, (answer) => {
      answer.resume();
      answer.on('end', () => resolve(answer.statusCode === 200));
    });
    asked.on('timeout', () => asked.destroy());
    asked.on('error', () => resolve(false));
  });
}

async function isReachable(name: string): Promise<boolean> {
  try {
    const tasks = await resolver.resolve4(`tasks.${name}`);
    if (tasks.length < REPLICAS) return false;
    const all = [...(await resolver.resolve4(name)), ...tasks];
    return (await Promise.all(all.map(answers))).every(Boolean);
  } catch {
    return false; // no such name yet
  }
}

async function watch(name: string): Promise<void> {
  while (!(await isReachable(name))) await pause(PAUSE_MS);
  process.stdout.write(`${name}\n`);
}

createInterface({ input: process.stdin }).on('line', (name) => void watch(name));
