/** The OCI command inside a guest, on one bundle whose root is the containers' layer. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { Config } from '../ociBundle.ts';
import { LAYER } from './guestHost.ts';

const BUNDLE = '/bundle';
const CONFIG = `${BUNDLE}/config.json`;

function command(...words: readonly string[]): string {
  return execFileSync('/bin/node', ['/app/dist/runtime/oci/main.js', '--root', '/oci', ...words], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, TSSWARM_OCI_FDS: '' },
  });
}

/** Once, before the first run. */
export function makeBundle(): void {
  mkdirSync(BUNDLE);
  command('spec', '-b', BUNDLE);
}

/** The probe with `args`; `change` is made to config.json and stays there for the next run. */
export function runBundle(
  args: readonly string[],
  change: (config: Config) => void,
): { code: number; output: string } {
  const config = JSON.parse(readFileSync(CONFIG, 'utf8'));
  config.root = { path: LAYER, readonly: false };
  config.process.terminal = false;
  config.process.args = ['/bin/probe', ...args];
  change(config);
  writeFileSync(CONFIG, JSON.stringify(config));
  try {
    return { code: 0, output: command('run', '-b', BUNDLE, 'box') };
  } catch (error) {
    const { status, stdout, stderr } = error as Record<'status' | 'stdout' | 'stderr', unknown>;
    return { code: Number(status), output: `${stdout}${stderr}` };
  }
}
