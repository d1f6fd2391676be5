/**
 * Run inside a namespace of its own by a test: the same table through the library's context and
 * through the nft command must list the same. Prints both listings and an error of each as JSON.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { Nftables } from '../../runtime/net/nftables.ts';
import { replaceTable } from '../../runtime/net/table.ts';
import type { OverlayState } from '../../runtime/net/types.ts';
import { overlayTables } from '../../runtime/net/vip.ts';
import { NamespaceDoor } from '../../runtime/sys/netns.ts';

const services = [
  { serviceId: 's', virtualAddress: '10.0.0.9', backends: ['10.0.0.1', '10.0.0.2'] },
];
const table = overlayTables({ services } as unknown as OverlayState)[0];
const door = new NamespaceDoor();
/** Sockets that a process started now would get. */
function inheritedSockets(): number {
  const closeOnExec = 0o2000000;
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      if (!readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:')) return false;
      const info = readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8');
      const flags = /^flags:\s+(\d+)/m.exec(info)?.[1] ?? '0';
      return (Number.parseInt(flags, 8) & closeOnExec) === 0;
    } catch {
      return false; // the descriptor of the listing itself
    }
  }).length;
}

const results = [true, false].map((useLibrary) => {
  const nftables = new Nftables(door.home(), useLibrary);
  const before = nftables.generation();
  nftables.run(replaceTable(table));
  let error = '';
  try {
    nftables.run('add rule ip nowhere nothing accept');
  } catch (thrown) {
    error = (thrown as Error).message;
  }
  const listing = nftables.run('list table ip tsswarm');
  const grew = nftables.generation() > before;
  const inherited = inheritedSockets();
  nftables.close();
  return { listing, error, grew, inherited };
});
console.log(JSON.stringify(results));
