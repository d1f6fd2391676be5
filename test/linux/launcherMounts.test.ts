/**
 * Mounts as an OCI configuration asks for them: attributes one by one and for all below, mapped
 * ids, propagation, changes of what is there, odd targets. Looked at from inside and on the host.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { readSpec, SpecWriter, TAG } from '../../runtime/container/encode.ts';
import {
  addMaps,
  addMount,
  MOUNT,
  type MountRecord,
  NAMESPACE,
  PROPAGATION,
} from '../../runtime/container/specRecords.ts';
import { layerMapsOf } from '../../runtime/container/userNamespace.ts';
import { makePipe } from '../../runtime/sys/libc.ts';
import { parseMountInfo } from '../../runtime/sys/mount.ts';
import { DETACHED, type Extra, launcherHost, numeric } from '../support/launcher.ts';
import { buildLayer } from '../support/rootfs.ts';

const mounted: string[] = [];
// Before its host's own.
after(() => {
  for (const path of mounted.toReversed()) execFileSync('umount', ['-l', path]);
});
const { host, launcher } = launcherHost('mounts');
const ATTR = { readOnly: 1, noSuid: 2, noDev: 4, noExec: 8, noAtime: 0x10, strictAtime: 0x20 };
const ATIME_MASK = 0x70;
const NO_DIR_ATIME = 0x80;
const NO_SYMLINKS = 0x200000;
const MAPPED = 300_000;

const mount = (record: MountRecord): readonly Extra[] => {
  const writer = new SpecWriter();
  addMount(writer, record);
  return readSpec(writer.finish()).map(({ tag, payload }): Extra => [tag, payload]);
};

async function run(
  args: readonly string[],
  extra: readonly Extra[],
): Promise<{ readonly text: string; readonly error: string }> {
  const pipe = makePipe();
  const config = host.config(['/bin/probe', ...args]);
  const spec = launcher.spec(config, DETACHED, [numeric, ...extra]);
  const told = await launcher.start(spec, [0, pipe.write, pipe.write]);
  closeSync(pipe.write);
  const text = readFileSync(pipe.read, 'utf8').trimEnd();
  closeSync(pipe.read);
  if (told.failure === undefined) await launcher.end(told.pid);
  return { text, error: told.failure?.error ?? '' };
}

async function output(args: readonly string[], ...records: MountRecord[]): Promise<string> {
  const { text, error } = await run(args, records.flatMap(mount));
  assert.equal(error, '');
  return text;
}

async function refusal(...records: MountRecord[]): Promise<string> {
  const { text, error } = await run(['exit', '0'], records.flatMap(mount));
  assert.equal(text, '');
  return error;
}

/** What the kernel says of a mount: its options, propagation, type. */
async function lineOf(target: string, ...records: MountRecord[]): Promise<string> {
  const lines = (await output(['cat', '/proc/self/mountinfo'], ...records)).split('\n');
  const line = lines.findLast((one) => one.split(' ')[4] === target);
  assert(line !== undefined, lines.join('\n'));
  return line.split(' ').slice(5).join(' ');
}

/** A directory of the host's with another file system mounted in it. */
function tree(name: string): string {
  const dir = join(host.dir, name);
  mkdirSync(join(dir, 'below'), { recursive: true });
  writeFileSync(join(dir, 'file'), 'text');
  execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', join(dir, 'below')]);
  mounted.push(join(dir, 'below'));
  return dir;
}

test('attributes are set and cleared of one mount, or of all below it', async () => {
  const source = tree('attributes');
  const bind = { flags: MOUNT.bind, target: '/m', source };
  const set = ATTR.readOnly | ATTR.noSuid | ATTR.noDev | ATTR.noExec;
  assert.match(await lineOf('/m', { ...bind, set }), /^ro,nosuid,nodev,noexec,relatime /);
  assert.match(await lineOf('/m/below', { ...bind, set }), /^rw,relatime /);
  const all = { ...bind, setBelow: set };
  assert.match(await lineOf('/m/below', all), /^ro,nosuid,nodev,noexec,relatime /);
  const back = { ...all, clear: ATTR.readOnly, setBelow: 0, clearBelow: ATTR.noExec };
  assert.match(await lineOf('/m', { ...back, set: ATTR.noExec }), /^rw,relatime /);
  const odd = await lineOf('/m', { ...bind, set: NO_DIR_ATIME | NO_SYMLINKS });
  const options = odd.split(' ')[0].split(',').sort();
  assert.deepEqual(options, ['nodiratime', 'nosymfollow', 'relatime', 'rw']);
});

test('of the times of access, exactly the one asked for is kept', async () => {
  const source = tree('atime');
  const bind = { flags: MOUNT.bind, target: '/m', source };
  assert.match(await lineOf('/m', { ...bind, set: ATTR.noAtime }), /^rw,noatime /);
  const strict = await lineOf('/m', { ...bind, set: ATTR.strictAtime });
  assert.match(strict, /^rw /);
  const both = [
    { ...bind, setBelow: ATTR.noAtime },
    { flags: MOUNT.remount, target: '/m', clear: ATIME_MASK },
  ];
  assert.match(await lineOf('/m', ...both), /^rw,relatime /);
  assert.match(await lineOf('/m/below', ...both), /^rw,noatime /);
});

test('a bind has the propagation asked for, else as the root’s says', async () => {
  const source = tree('propagation');
  execFileSync('mount', ['--make-shared', join(source, 'below')]);
  const bind = { flags: MOUNT.bind, target: '/m', source: join(source, 'below') };
  assert.match(await lineOf('/m', bind), /^rw,relatime master:\d+ - tmpfs/);
  const asked = (propagation: number): Promise<string> => lineOf('/m', { ...bind, propagation });
  assert.match(await asked(PROPAGATION.private), /^rw,relatime - tmpfs/);
  assert.match(await asked(PROPAGATION.shared), /^rw,relatime shared:\d+ - tmpfs/);
  assert.match(await asked(PROPAGATION.unbindable), /^rw,relatime unbindable - tmpfs/);
  const root = (flags: number): Promise<string> =>
    run(['cat', '/proc/self/mountinfo'], [[TAG.rootPropagation, flags], ...mount(bind)]).then(
      ({ text }) => text,
    );
  const shared = await root(PROPAGATION.shared | PROPAGATION.recursive);
  assert.match(shared, / \/ rw,relatime shared:\d+ - overlay/);
  assert.match(shared, / \/m rw,relatime shared:\d+ - tmpfs/);
  assert.match(await root(PROPAGATION.private), / \/m rw,relatime - tmpfs/);
});

test('a bind shows its files with the ids it is mapped to', async () => {
  const source = join(host.dir, 'mapped');
  mkdirSync(source);
  writeFileSync(join(source, 'file'), 'text');
  const range = [{ inside: 0, outside: MAPPED, count: 10 }];
  const bind = { flags: MOUNT.bind | MOUNT.ownMap, target: '/m', source };
  const maps = { uids: range, gids: range };
  assert.equal(await output(['stat', '/m/file'], { ...bind, maps }), '644 300000:300000 /m/file');
  assert.equal(statSync(join(source, 'file')).uid, 0);
  const deep = tree('mappedBelow');
  writeFileSync(join(deep, 'below/file'), 'text');
  const files = ['stat', '/m/file', '/m/below/file'];
  assert.equal(
    await output(files, { ...bind, maps, source: deep }),
    '644 300000:300000 /m/file\n644 0:0 /m/below/file',
  );
  const flags = bind.flags | MOUNT.mapBelow;
  assert.equal(
    await output(files, { ...bind, maps, flags, source: deep }),
    '644 300000:300000 /m/file\n644 300000:300000 /m/below/file',
  );
  assert.match(
    await refusal({ ...bind, flags: MOUNT.bind | MOUNT.userMap }),
    /there is no user namespace/,
  );
});

test('layers are shown mapped, and nothing is changed on disk', async () => {
  const writer = new SpecWriter();
  const range = [{ inside: 0, outside: MAPPED, count: 65_536 }];
  addMaps(writer, TAG.layerMap, layerMapsOf({ uids: range, gids: range }));
  const extra = readSpec(writer.finish()).map(({ tag, payload }): Extra => [tag, payload]);
  const { text, error } = await run(['stat', '/bin/probe'], extra);
  assert.deepEqual([text, error], ['755 300000:300000 /bin/probe', '']);
  assert.equal(statSync(join(host.layer, 'bin/probe')).uid, 0);
});

test('a tmpfs has the mode and, if asked, the files of what it covers', async () => {
  const dir = join(host.layer, 'filled');
  mkdirSync(join(dir, 'sub'), { recursive: true });
  chmodSync(dir, 0o750);
  writeFileSync(join(dir, 'file'), 'content', { mode: 0o4711 });
  chmodSync(join(dir, 'file'), 0o4711);
  symlinkSync('file', join(dir, 'link'));
  writeFileSync(join(dir, 'sub/deep'), 'deep');
  const tmpfs = { target: '/filled', source: 'tmpfs', type: 'tmpfs' };
  assert.equal(
    await output(['stat', '/filled', '/filled/file'], tmpfs),
    '750 0:0 /filled\n/filled/file: No such file or directory',
  );
  assert.equal(
    await output(['stat', '/filled'], { ...tmpfs, options: ['mode=1777'] }),
    '1777 0:0 /filled',
  );
  const full = { ...tmpfs, flags: MOUNT.copyUp, set: ATTR.readOnly };
  assert.equal(
    await output(['stat', '/filled', '/filled/file', '/filled/link', '/filled/sub/deep'], full),
    '750 0:0 /filled\n4711 0:0 /filled/file\n777 0:0 /filled/link\n644 0:0 /filled/sub/deep',
  );
  assert.equal(await output(['cat', '/filled/link', '/filled/sub/deep'], full), 'contentdeep');
  assert.match(await output(['write', '/filled/new', 'x'], full), /Read-only file system/);
});

test('what is mounted is changed by a remount, its file system, too', async () => {
  const tmpfs = { target: '/m', source: 'tmpfs', type: 'tmpfs', options: ['size=64k'] };
  const change = { flags: MOUNT.remount, target: '/m', set: ATTR.readOnly, options: ['size=128k'] };
  assert.match(await lineOf('/m', tmpfs, change), /^ro,relatime - tmpfs tmpfs rw,size=128k/);
});

test('any file system can be mounted, with options as long as a page', async () => {
  const lower = join(host.dir, 'o'.repeat(150));
  const other = join(host.dir, 'p'.repeat(150));
  for (const dir of [lower, other]) mkdirSync(dir);
  writeFileSync(join(lower, 'a'), 'one');
  writeFileSync(join(other, 'b'), 'two');
  const overlay = { target: '/m', source: 'overlay', type: 'overlay', set: ATTR.noSuid };
  const options = [`lowerdir=${lower}:${other}`];
  assert.equal(await output(['cat', '/m/a', '/m/b'], { ...overlay, options }), 'onetwo');
  assert.match(await lineOf('/m', { ...overlay, options }), /^rw,nosuid,relatime - overlay/);
  assert.match(await refusal({ target: '/m', type: 'nosuchfs' }), /cannot mount nosuchfs on \/m/);
  const bad = { target: '/m', source: 'x', type: 'tmpfs', options: ['nosuchoption=1'] };
  assert.match(await refusal(bad), /cannot mount x on \/m: Invalid argument/);
});

test('a target is found through the image’s links, also one that leads nowhere yet', async () => {
  const source = join(host.dir, 'source');
  mkdirSync(source);
  writeFileSync(join(source, 'file'), 'text');
  symlinkSync('/../../made/here', join(host.layer, 'dangling'));
  symlinkSync('../../../etc/resolved', join(host.layer, 'etc/resolv.conf'));
  symlinkSync('loop', join(host.layer, 'loop'));
  const dir = { flags: MOUNT.bind, source, target: '/dangling/deeper' };
  assert.equal(await output(['cat', '/made/here/deeper/file'], dir), 'text');
  const file = { flags: MOUNT.bind, source: join(source, 'file'), target: '/etc/resolv.conf' };
  assert.equal(await output(['cat', '/etc/resolved'], file), 'text');
  assert(!existsSync('/made'));
  assert(lstatSync(join(host.layer, 'dangling')).isSymbolicLink());
  assert.match(await refusal({ ...dir, target: '/loop/x' }), /symbolic link/i);
});

test('nothing may cover /proc but another /proc and what programs are told of the host', async () => {
  const source = join(host.dir, 'meminfo');
  writeFileSync(source, 'MemTotal: 1 kB\n');
  const bind = { flags: MOUNT.bind, source };
  const target = '/proc/meminfo';
  assert.equal(await output(['cat', target], { ...bind, target }), 'MemTotal: 1 kB');
  symlinkSync('/proc/self', join(host.layer, 'self'));
  for (const one of ['/proc/sys/kernel/core_pattern', '/proc/1/status', '/self/attr/exec']) {
    assert.match(await refusal({ ...bind, target: one }), /nothing may cover \/proc/, one);
  }
  const tmpfs = { target: '/proc', source: 'tmpfs', type: 'tmpfs' };
  assert.match(await refusal(tmpfs), /nothing may cover \/proc/);
  const again = { target: '/proc', source: 'proc', type: 'proc', set: ATTR.readOnly };
  assert.match(await lineOf('/proc', again), /^ro,relatime - proc/);
});

test('a mount that is made read-only in place is so for its programs, not while it is made', async () => {
  const inPlace: Extra[] = [
    [TAG.readOnly, 1, '/dev'],
    [TAG.device, 0o020666, 1, 3, 0, 0, '/dev/late'],
  ];
  const { text, error } = await run(['device', '/dev/late'], inPlace);
  assert.deepEqual([text, error], ['/dev/late char 1:3 666 opens', '']);
  assert.match((await run(['write', '/dev/x', 'y'], inPlace)).text, /Read-only file system/);
});

test('a bind that cannot be shown mapped is refused, and its root on the host stays as it was', async () => {
  const place = join(host.dir, 'followed');
  mkdirSync(place);
  execFileSync('mount', ['--bind', place, place]);
  mounted.push(place);
  execFileSync('mount', ['--make-shared', place]);
  const source = join(host.dir, 'unmapped');
  mkdirSync(source);
  execFileSync('mount', ['-t', 'ramfs', 'ramfs', source]);
  mounted.push(source);
  writeFileSync(join(source, 'file'), 'text');
  const root = join(place, 'root');
  mkdirSync(root);
  buildLayer(root);
  const own: Extra[] = [
    [TAG.namespace, NAMESPACE.user, ''],
    [TAG.uidMap, 0, MAPPED, 1000],
    [TAG.gidMap, 0, MAPPED, 1000],
    [TAG.root, root],
  ];
  const bind = { target: '/m', source, set: ATTR.readOnly };
  for (const flags of [MOUNT.userMap, MOUNT.userMap | MOUNT.copyable]) {
    const extra = [...own, ...mount({ ...bind, flags: MOUNT.bind | flags })];
    const { error } = await run(['exit', '0'], extra);
    assert.match(error, /^cannot map the ids of .*unmapped: its file system may not support it/);
    assert(existsSync(join(root, 'bin/probe')));
  }
});

test('nothing of it is left on the host', () => {
  const text = readFileSync('/proc/self/mountinfo', 'utf8');
  const here = parseMountInfo(text).filter(({ mountPoint }) => mountPoint.startsWith(host.dir));
  assert.deepEqual(here.map(({ mountPoint }) => mountPoint).sort(), mounted.toSorted());
});
