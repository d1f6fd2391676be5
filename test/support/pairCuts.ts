/**
 * Frames that do not get from one host of the lab to another, by nftables at the lab's bridge, in a
 * table of its own beside the lab's: one way or both, for any pairs. The hosts' links stay up.
 */
import { UNDERLAY_NAMESPACE } from '../../deploy/hosts/layout.ts';
import { run } from '../../deploy/hosts/system.ts';
import { layoutOf } from './labProbe.ts';

const TABLE = 'bridge pairs';
/** Before the lab's own chain. */
const RULES = `table ${TABLE} {
  chain forward {
    type filter hook forward priority -1;
  }
}`;

export type Pair = readonly [from: string, to: string];

function nft(text: string): void {
  run('ip', 'netns', 'exec', UNDERLAY_NAMESPACE, 'nft', text);
}

/** In place of what was cut this way before. */
export function cutPairs(pairs: readonly Pair[]): void {
  healPairs();
  const rules = pairs.map(([from, to]) => {
    const ports = `iifname "${layoutOf(from).port}" oifname "${layoutOf(to).port}"`;
    return `add rule ${TABLE} forward ${ports} drop`;
  });
  nft([RULES, ...rules].join('\n'));
}

export function healPairs(): void {
  nft(`table ${TABLE} {}\ndelete table ${TABLE}`);
}

/** What `host` sends to the others. */
export function outOf(host: string, hosts: readonly string[]): Pair[] {
  return hosts.filter((other) => other !== host).map((other) => [host, other]);
}

/** What the others send to `host`. */
export function into(host: string, hosts: readonly string[]): Pair[] {
  return outOf(host, hosts).map(([own, other]) => [other, own]);
}
