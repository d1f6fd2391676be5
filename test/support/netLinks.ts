/**
 * Run inside a network namespace of its own by a test: sends netlink messages and prints as JSON
 * what the kernel said and holds.
 */
import { messageOf, SwarmError } from '../../base/errors.ts';
import { NETLINK_ROUTE, NetlinkSocket } from '../../runtime/sys/netlink.ts';
import { listNeighbours, putNeighbour } from '../../runtime/sys/rtneighbour.ts';
import {
  addAddress,
  addVeth,
  deleteLink,
  deleteLinkGroup,
  deleteRoute,
  listAddresses,
  listLinks,
  listRoutes,
  MAIN_TABLE,
  putRoute,
  setLink,
} from '../../runtime/sys/rtnetlink.ts';

const MANY = 1000;
const socket = new NetlinkSocket(NETLINK_ROUTE);
socket.request([
  addVeth({ name: 'a', mtu: 1400, group: 7 }, { name: 'b', mtu: 1400, mac: '02:00:00:00:00:01' }),
  setLink('b', { alias: 'ours' }),
]);
const indexOf = (name: string): number =>
  listLinks(socket).find((link) => link.name === name)?.index ?? 0;
const index = indexOf('b');
socket.request([addAddress(index, '10.0.0.1', 24)]);
const route = { prefixLength: 32, linkIndex: index, gateway: '10.9.9.9', source: '10.0.0.1' };
const many = Array.from({ length: MANY }, (_, at) => `10.1.${at >> 8}.${at & 255}`);
socket.request(
  many.map((address) => putRoute({ ...route, destination: address, table: MAIN_TABLE })),
);
socket.request(many.map((address) => putNeighbour(index, address, '02:00:00:00:00:02')));
socket.request([putRoute({ ...route, destination: '10.2.0.1', table: 100_001 })]);

let failure = {};
try {
  socket.request([
    setLink('nowhere', {}),
    addAddress(index, '10.0.0.2', 24),
    deleteLink('nowhere'),
    deleteRoute({ ...route, destination: '10.3.0.1', table: MAIN_TABLE }),
  ]);
} catch (error) {
  const errno = error instanceof SwarmError ? error.detail['errno'] : '';
  failure = { message: messageOf(error), errno };
}
const b = listLinks(socket).find((link) => link.name === 'b');
const routes = listRoutes(socket);
const found = {
  link: { mtu: b?.mtu, mac: b?.mac, alias: b?.alias, up: b?.up },
  addresses: listAddresses(socket).map((entry) => `${entry.address}/${entry.prefixLength}`),
  routes: routes.filter((entry) => entry.table === MAIN_TABLE).length,
  tabled: routes.filter((entry) => entry.table === 100_001),
  neighbours: listNeighbours(socket, 'ip').length,
  failure,
  index,
};
socket.request([deleteLinkGroup(7)]);
const left = listLinks(socket).map((link) => link.name);
socket.close();
console.log(JSON.stringify({ ...found, left: left.filter((name) => /^[ab]$/.test(name)) }));
