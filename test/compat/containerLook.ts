/** docker container: what can be seen of one, held against what the kernel says. */
import assert from 'node:assert/strict';
import { hostLayout } from '../../deploy/hosts/layout.ts';
import { until } from '../support/lab.ts';
import { serve } from './containerNetwork.ts';
import type { Suite } from './suite.ts';
import {
  BOX,
  begun,
  boxed,
  cgroupValue,
  commandOf,
  docker,
  fetched,
  field,
  pidOf,
  procFile,
  refused,
  SLEEP,
  SOON_MS,
  tried,
  within,
} from './world.ts';

const MIB = 1024 * 1024;
const lines = (text: string): string[] => text.split('\n').filter((line) => line !== '');

export function containerLook(suite: Suite): void {
  list(suite);
  inspection(suite);
  logs(suite);
  processes(suite);
  files(suite);
}

function list(suite: Suite): void {
  suite.works(
    'container ls',
    ['all', 'filter', 'format', 'last', 'latest', 'no-trunc', 'quiet', 'size'],
    'those that the host has are listed, with what they wrote, by every filter',
    async () => {
      const ls = (...flags: string[]): Promise<string> => docker('h1', 'container', 'ls', ...flags);
      const flags = ['--label', 'row=1', '-v', 'rowdata:/d', '-p', '8087:80', '--expose', '99'];
      await boxed('shown', flags, serve('shown'), async (pid) => {
        const id = await field('h1', 'shown', '{{.Id}}');
        assert.ok(procFile(pid, 'cgroup').includes(id), 'the id is its group’s');
        await docker('h1', 'container', 'create', '--name', 'later', BOX);
        const dead = await docker('h1', 'run', '-d', '--name', 'ended', BOX, 'sh', '-c', 'exit 4');
        await docker('h1', 'container', 'wait', 'ended');
        assert.equal(await ls('--quiet', '--no-trunc'), id);
        assert.equal(await ls('--quiet'), id.slice(0, 12));
        assert.equal(lines(await ls('--all', '--quiet')).length, 3);
        assert.equal(await ls('--latest', '--quiet', '--no-trunc'), dead);
        assert.equal(await ls('--last', '2', '--format', '{{.Names}}'), 'ended\nlater');
        await within(pid, 'dd', 'if=/dev/zero', 'of=/big', 'bs=1M', 'count=3');
        assert.match(await ls('--size', '--format', '{{.Names}} {{.Size}}'), /^shown 3\.15MB /);
        const address = `http://${hostLayout(1).address}:8087/`;
        assert.equal(await fetched('client', address), 'shown\n');
        assert.match(await ls('--format', '{{.Ports}}'), /0\.0\.0\.0:8087->80\/tcp/);
        const fit: readonly (readonly [string, string])[] = [
          ['name=show', 'shown'],
          [`id=${id.slice(0, 9)}`, 'shown'],
          ['label=row=1', 'shown'],
          ['volume=rowdata', 'shown'],
          ['publish=80', 'shown'],
          ['publish=8087', ''],
          ['expose=99', 'shown'],
          ['status=running', 'shown'],
          ['status=created', 'later'],
          ['exited=4', 'ended'],
          ['before=later', 'shown'],
          ['since=later', 'ended'],
          ['since=shown', 'ended\nlater'],
          [`ancestor=${BOX}`, 'ended\nlater\nshown'],
          ['network=bridge', 'ended\nlater\nshown'],
          ['health=none', 'ended\nlater\nshown'],
          ['is-task=true', ''],
          ['label=row=2', ''],
        ];
        for (const [filter, names] of fit) {
          const found = await ls('--all', '--filter', filter, '--format', '{{.Names}}');
          assert.equal(found, names, filter);
        }
        await refused('h1', ['container', 'ls', '--filter', 'nosuch=1'], /invalid filter/);
      }).finally(() => tried('h1', 'container', 'rm', 'later', 'ended'));
      await docker('h1', 'volume', 'rm', 'rowdata');
    },
  );
  suite.works('container port', [], 'the port that it tells answers outside', () =>
    boxed('ported', ['-p', '8088:80', '-p', '8089:81/udp'], serve('ported'), async () => {
      const all = lines(await docker('h1', 'container', 'port', 'ported'));
      const wanted = ['80/tcp -> 0.0.0.0:8088', '80/tcp -> [::]:8088'];
      assert.deepEqual(all.slice(0, 2), wanted);
      assert.match(all[2], /^81\/udp -> 0\.0\.0\.0:8089$/);
      const [first] = lines(await docker('h1', 'container', 'port', 'ported', '80'));
      assert.equal(first, '0.0.0.0:8088');
      const url = `http://${hostLayout(1).address}:${first.split(':')[1]}/`;
      assert.equal(await fetched('client', url), 'ported\n');
    }),
  );
}

function inspection(suite: Suite): void {
  suite.works(
    'container inspect',
    ['format', 'size'],
    'its process, address and what it wrote are those of the kernel',
    () =>
      boxed('seen', [], SLEEP, async (pid) => {
        const inspect = (...flags: string[]): Promise<string> =>
          docker('h1', 'container', 'inspect', ...flags, 'seen');
        assert.equal(commandOf(pid), 'sleep 600');
        const address = await inspect('--format', '{{.NetworkSettings.IPAddress}}');
        assert.match(await within(pid, 'ip', 'address'), new RegExp(`inet ${address}/`));
        await within(pid, 'dd', 'if=/dev/zero', 'of=/big', 'bs=1M', 'count=2');
        const [own, all] = (await inspect('--size', '-f', '{{.SizeRw}} {{.SizeRootFs}}')).split(
          ' ',
        );
        assert.ok(Number(own) >= 2 * MIB && Number(own) < 3 * MIB, own);
        assert.ok(Number(all) > Number(own));
        const [whole] = JSON.parse(await inspect()) as { Path: string; Args: string[] }[];
        assert.deepEqual([whole.Path, ...whole.Args], SLEEP);
      }),
  );
}

function logs(suite: Suite): void {
  const says = ['sh', '-c', 'echo one; echo two >&2; sleep 3; echo three; read x; echo $x; cat'];
  suite.works(
    'container logs',
    ['details', 'follow', 'since', 'tail', 'timestamps', 'until'],
    'lines come as the program wrote them: the last, of a span, with their times, as they come',
    () =>
      boxed('talks', ['-i'], says, async (pid) => {
        const read = (...flags: string[]): Promise<string> =>
          docker('h1', 'container', 'logs', ...flags, 'talks');
        await until('it said all', SOON_MS, async () => {
          return (await read()) === 'one\nthree' || undefined;
        });
        assert.equal(await read('--tail', '1'), 'three');
        const stamped = lines(await read('--timestamps'));
        const [[first], [third]] = stamped.map((line) => line.split(' '));
        assert.match(first, /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
        assert.ok(Date.parse(third) - Date.parse(first) >= 1500, stamped.join());
        assert.equal(await read('--since', third), 'three');
        assert.equal(await read('--until', first), 'one');
        assert.equal((await read('--details', '--tail', '1')).trim(), 'three');
        // Since the last line, so that it does not matter which of the two begins first.
        const follower = begun('h1', 'container', 'logs', '--follow', '--since', third, 'talks');
        const typist = begun('h1', 'container', 'attach', 'talks');
        typist.type('four\n');
        await until('it came', SOON_MS, () => follower.said() === 'three\nfour\n' || undefined);
        process.kill(pid, 'SIGKILL');
        assert.equal((await follower.ended).code, 0);
        assert.equal((await typist.ended).code, 137);
      }),
  );
}

function processes(suite: Suite): void {
  suite.works('container top', [], 'its processes are told by the host’s pids', () =>
    boxed('family', [], ['sh', '-c', 'sleep 601 & sleep 602; true'], async (pid) => {
      await until('it has children', SOON_MS, () => {
        const children = procFile(pid, `task/${pid}/children`).trim().split(' ');
        return children.length === 2 || undefined;
      });
      const told = await docker('h1', 'container', 'top', 'family', '-o', 'pid,args');
      const rows = lines(told).slice(1);
      assert.equal(rows.length, 3);
      const [first] = rows.map((row) => Number(row.trim().split(/\s+/)[0]));
      assert.equal(Number(await field('h1', 'family', '{{.State.Pid}}')), first);
      assert.match(told, /sleep 601\n.*sleep 602/s);
    }),
  );
  suite.works(
    'container stats',
    ['all', 'format', 'no-stream', 'no-trunc'],
    'figures are those of its control group',
    () =>
      boxed('counted', ['--memory', '64m'], SLEEP, async (pid) => {
        const format = ['--no-stream', '--format', '{{.ID}} {{.PIDs}} {{.MemUsage}}'];
        const told = await docker('h1', 'container', 'stats', '--no-trunc', ...format, 'counted');
        const [id, pids] = told.split(' ');
        assert.equal(id, await field('h1', 'counted', '{{.Id}}'));
        assert.equal(pids, cgroupValue(pid, 'pids', 'pids.current', 'pids.current'));
        assert.match(told, / \/ 64MiB$/);
        await docker('h1', 'container', 'create', '--name', 'still', BOX);
        const names = ['--no-stream', '--format', '{{.Name}}'];
        assert.equal(await docker('h1', 'container', 'stats', ...names), 'counted');
        const all = lines(await docker('h1', 'container', 'stats', '--all', ...names));
        assert.deepEqual(all.sort(), ['counted', 'still']);
        await docker('h1', 'container', 'rm', 'still');
        const stream = begun('h1', 'container', 'stats', '--format', '{{.CPUPerc}}', 'counted');
        await until('it goes on', SOON_MS, () => stream.said().split('%').length > 2 || undefined);
        stream.signal('SIGKILL');
        await stream.ended;
      }),
  );
}

function files(suite: Suite): void {
  suite.works('container diff', [], 'what the program changed is told', () =>
    boxed('edited', [], SLEEP, async (pid) => {
      await within(pid, 'sh', '-c', 'echo x > /tmp/new; rm /bin/wget; echo y > /etc/motd');
      const told = lines(await docker('h1', 'container', 'diff', 'edited')).sort();
      assert.deepEqual(told, [
        'A /etc/motd',
        'A /tmp/new',
        'C /bin',
        'C /etc',
        'C /tmp',
        'D /bin/wget',
      ]);
      assert.ok((await pidOf('h1', 'edited')) === pid);
    }),
  );
}
