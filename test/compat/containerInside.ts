/** docker container: commands, typing and files inside of one. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { until } from '../support/lab.ts';
import type { Suite } from './suite.ts';
import * as world from './world.ts';
import {
  begun,
  boxed,
  docker,
  field,
  fileOf,
  onTerminal,
  procFile,
  refused,
  SLEEP,
  SOON_MS,
  tried,
} from './world.ts';

export function containerInside(suite: Suite): void {
  exec(suite);
  attach(suite);
  copies(suite);
  commits(suite);
}

function exec(suite: Suite): void {
  suite.works(
    'container exec',
    ['detach', 'env', 'env-file', 'interactive', 'privileged', 'user', 'workdir'],
    'a program runs beside, in the same namespaces and group, as whom and where it is told',
    () =>
      boxed('host', [], SLEEP, async (pid) => {
        const vars = join(world.work, 'exec-vars');
        writeFileSync(vars, 'FILED=2\n');
        const flags = ['--env', 'GIVEN=1', '--env-file', vars, '--user', '12:34'];
        const told = ['--workdir', '/tmp', 'host', 'sh', '-c'];
        const say = 'echo $GIVEN$FILED $(id -u):$(id -g) $PWD; exit 6';
        const { code, stdout } = await exec1(...flags, ...told, say);
        assert.deepEqual([code, stdout], [6, '12 12:34 /tmp\n']);
        const typed = begun('h1', 'container', 'exec', '--interactive', 'host', 'cat');
        typed.type('typed\n');
        typed.endInput();
        assert.equal((await typed.ended).stdout, 'typed\n');
        const mark = 'echo $$ > /pid; grep CapEff /proc/self/status > /caps; exec sleep 603';
        await docker('h1', 'container', 'exec', '--detach', 'host', 'sh', '-c', mark);
        await until('it runs', SOON_MS, () => fileOf(pid, '/caps').includes('CapEff') || undefined);
        const beside = Number(fileOf(pid, '/pid'));
        await until('it is the last', SOON_MS, () => {
          return fileOf(pid, `/proc/${beside}/cmdline`).startsWith('sleep\u0000') || undefined;
        });
        assert.equal(fileOf(pid, `/proc/${beside}/cgroup`), fileOf(pid, '/proc/1/cgroup'));
        const own = /^CapEff:\s*(\S+)/m.exec(procFile(pid, 'status'))?.[1];
        assert.equal(/^CapEff:\s*(\S+)/m.exec(fileOf(pid, '/caps'))?.[1], own);
        const mighty = ['--privileged', 'host', 'grep', 'CapEff', '/proc/self/status'];
        const all = BigInt(
          `0x${(await docker('h1', 'container', 'exec', ...mighty)).split(/\s+/)[1]}`,
        );
        assert.ok(all > BigInt(`0x${own}`), 'more than the container’s own');
      }),
  );
  suite.works(
    'container exec',
    ['tty', 'detach-keys'],
    'a terminal has its size; keys let go and the program runs on',
    () =>
      boxed('host', [], SLEEP, async (pid) => {
        const keys = ['-it', '--detach-keys', 'ctrl-a,x', 'host', 'sh'];
        const terminal = onTerminal(31, 97, 'h1', 'container', 'exec', ...keys);
        await until('it prompts', SOON_MS, () => terminal.said().includes('#') || undefined);
        terminal.type('echo $$ > /pid; tty > /tty; stty size > /size\n');
        await until('it has said', SOON_MS, () => fileOf(pid, '/size') === '31 97\n' || undefined);
        assert.match(fileOf(pid, '/tty'), /^\/dev\/pts\/\d/);
        terminal.type('\u0001x');
        await terminal.ended;
        assert.equal(fileOf(pid, `/proc/${Number(fileOf(pid, '/pid'))}/cmdline`), 'sh\0');
      }),
  );
}

const exec1 = (...args: string[]) => tried('h1', 'container', 'exec', ...args);

function attach(suite: Suite): void {
  const answers = ['sh', '-c', 'trap "exit 8" TERM; echo up; while read x; do echo got $x; done'];
  suite.works(
    'container attach',
    ['no-stdin', 'sig-proxy', 'detach-keys'],
    'what is typed and signalled reaches the program, or does not',
    async () => {
      await boxed('near', ['-i'], answers, async (pid) => {
        const typed = begun('h1', 'container', 'attach', 'near');
        typed.type('this\n');
        await until('it answers', SOON_MS, () => typed.said() === 'got this\n' || undefined);
        const deaf = begun('h1', 'container', 'attach', '--no-stdin', '--sig-proxy=false', 'near');
        deaf.type('that\n');
        typed.type('more\n');
        await until('both hear', SOON_MS, () => typed.said().endsWith('more\n') || undefined);
        assert.equal(typed.said(), 'got this\ngot more\n');
        deaf.signal('SIGTERM');
        await docker('h1', 'container', 'exec', 'near', 'true');
        assert.ok(existsSync(`/proc/${pid}`), 'the program runs on');
        deaf.signal('SIGKILL');
        await deaf.ended;
        typed.signal('SIGTERM');
        typed.type('end\n');
        assert.equal((await typed.ended).code, 8);
      });
      await boxed('seat', ['-it'], ['sh'], async (pid) => {
        const keys = ['--detach-keys', 'ctrl-a,x', 'seat'];
        const terminal = onTerminal(24, 80, 'h1', 'container', 'attach', ...keys);
        terminal.type('echo here > /mark\n');
        await until('it is typed', SOON_MS, () => fileOf(pid, '/mark') === 'here\n' || undefined);
        terminal.type('\u0001x');
        await terminal.ended;
        assert.equal(procFile(pid, 'cmdline'), 'sh\0');
      });
    },
  );
}

function copies(suite: Suite): void {
  suite.works(
    'container cp',
    ['archive', 'follow-link', 'quiet'],
    'files go in and out, with their owners or not, links followed or not',
    () =>
      boxed('copied', ['--user', '12:34'], SLEEP, async (pid) => {
        const cp = (...args: string[]): Promise<string> => docker('h1', 'container', 'cp', ...args);
        const from = join(world.work, 'from');
        mkdirSync(from);
        writeFileSync(join(from, 'file'), 'carried\n');
        lchownSync(join(from, 'file'), 77, 88);
        symlinkSync('file', join(from, 'link'));
        await cp('--quiet', '--archive', join(from, 'file'), 'copied:/tmp/owned');
        await cp(join(from, 'file'), 'copied:/tmp/plain');
        const owner = (path: string): string => {
          const { uid, gid } = lstatSync(`/proc/${pid}/root${path}`);
          return `${uid}:${gid}`;
        };
        assert.equal(owner('/tmp/owned'), '12:34', 'the user of the container');
        assert.equal(owner('/tmp/plain'), '77:88', 'as in the archive');
        assert.equal(fileOf(pid, '/tmp/owned'), 'carried\n');
        await cp('--follow-link', join(from, 'link'), 'copied:/tmp/followed');
        assert.ok(lstatSync(`/proc/${pid}/root/tmp/followed`).isFile());
        await cp(join(from, 'link'), 'copied:/tmp/link');
        assert.ok(lstatSync(`/proc/${pid}/root/tmp/link`).isSymbolicLink());
        const out = join(world.work, 'out');
        await cp('copied:/tmp', out);
        assert.equal(readFileSync(join(out, 'plain'), 'utf8'), 'carried\n');
        await cp('--archive', 'copied:/tmp/owned', join(out, 'owned'));
        assert.equal(readFileSync(join(out, 'owned'), 'utf8'), 'carried\n');
        const missing = ['container', 'cp', 'copied:/nosuch', out];
        await refused('h1', missing, /Could not find the file \/nosuch/);
      }),
  );
  suite.works('container export', ['output'], 'its files are in the archive', () =>
    boxed('packed', [], ['sh', '-c', 'echo mine > /tmp/mine; exec sleep 600'], async (pid) => {
      await until('it has written', SOON_MS, () => fileOf(pid, '/tmp/mine') !== '' || undefined);
      const archive = join(world.work, 'packed.tar');
      await docker('h1', 'container', 'export', '--output', archive, 'packed');
      const read = ['-xOf', archive, 'tmp/mine'];
      assert.equal(execFileSync('tar', read, { encoding: 'utf8' }), 'mine\n');
    }),
  );
}

function commits(suite: Suite): void {
  suite.works(
    'container commit',
    ['author', 'change', 'message', 'pause'],
    'what it wrote, and what it removed, is a layer of the image; others are its image’s',
    () =>
      boxed('kept', ['--env', 'GIVEN=1', '-v', '/vol'], SLEEP, async (pid) => {
        const write = 'echo new > /tmp/new; echo x > /vol/x; rm -r /root; mkdir /etc/sub';
        await docker('h1', 'container', 'exec', 'kept', 'sh', '-c', write);
        const commit = (...flags: string[]): Promise<string> =>
          docker('h1', 'container', 'commit', ...flags);
        const said = ['--author', 'A. Writer', '--message', 'as it was'];
        const change = ['--change', 'CMD ["cat", "/tmp/new"]', '--change', 'LABEL made=by-hand'];
        const id = await commit(...said, ...change, 'kept', 'kept:1');
        assert.equal(await docker('h1', 'run', '--rm', 'kept:1'), 'new');
        const look = 'ls -d /root || echo $GIVEN; ls /vol /etc';
        const seen = await docker('h1', 'run', '--rm', 'kept:1', 'sh', '-c', look);
        assert.deepEqual(seen.split('\n'), ['1', '/etc:', ...(await etcOf(pid)), '', '/vol:']);
        const told = '{{.Author}}|{{.Comment}}|{{json .Config.Labels}}|{{len .RootFS.Layers}}';
        const inspected = await docker('h1', 'image', 'inspect', '--format', told, id);
        assert.equal(inspected, 'A. Writer|as it was|{"made":"by-hand"}|2');
        const history = ['image', 'history', '--format', '{{.CreatedBy}}|{{.Comment}}', id];
        assert.equal((await docker('h1', ...history)).split('\n')[0], 'sleep 600|as it was');
        // A container that is held still is not let go by it, and one that need not be is not.
        await docker('h1', 'container', 'pause', 'kept');
        await commit('kept', 'kept:2');
        assert.equal(await field('h1', 'kept', '{{.State.Paused}}'), 'true');
        await docker('h1', 'container', 'unpause', 'kept');
        const since = await docker('h1', 'info', '--format', '{{.SystemTime}}');
        await commit('--pause=false', 'kept');
        await commit('kept');
        const until = await docker('h1', 'info', '--format', '{{.SystemTime}}');
        const events = ['events', '--since', since, '--until', until, '--filter', 'container=kept'];
        const actions = (await docker('h1', ...events, '--format', '{{.Action}}')).split('\n');
        assert.deepEqual(actions, ['commit', 'pause', 'unpause', 'commit']);
        await docker('h1', 'container', 'stop', '-t', '0', 'kept');
        const twin = await commit('kept', 'kept:3');
        const layers = (name: string): Promise<string> =>
          docker('h1', 'image', 'inspect', '--format', '{{json .RootFS.Layers}}', name);
        assert.equal(await layers(twin), await layers('kept:2'));
        const wrong = ['container', 'commit', '--change', 'RUN ls', 'kept'];
        await refused('h1', wrong, /only CMD, ENTRYPOINT/);
      }).finally(() => tried('h1', 'image', 'rm', 'kept:1', 'kept:2', 'kept:3')),
  );
}

/** Names in the root's directory of settings, as the kernel gives them. */
async function etcOf(pid: number): Promise<string[]> {
  return readdirSync(`/proc/${pid}/root/etc`).sort();
}
