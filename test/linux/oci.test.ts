/** tsswarm-oci's commands against a busybox bundle, on the real kernel: each one's thin line. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { findHierarchies } from '../../runtime/sys/cgroup.ts';
import { readMounts } from '../../runtime/sys/mount.ts';
import { type Config, OciBundle } from '../support/ociBundle.ts';
import { until } from '../support/until.ts';

const bundle = new OciBundle('line');
const hierarchies = findHierarchies(readMounts());
const WAIT_MS = 60_000;

after(() => bundle.end());

/** What `args` print in a container of their own. */
function output(
  args: readonly string[],
  change: (config: never) => void = () => undefined,
): string {
  return bundle.with(
    (config) => {
      config.process.args = args;
      change(config as never);
    },
    () => bundle.must('run', 'once'),
  );
}

function groupsOf(path: string): readonly string[] {
  return hierarchies.map((hierarchy) => join(hierarchy.path, path)).filter(existsSync);
}

test('run in the foreground passes streams and exit code on, and leaves nothing', () => {
  const { code, out, error } = bundle.with(
    (config) => {
      config.process.args = ['sh', '-c', 'cat; echo wrong >&2; exit 7'];
    },
    () => bundle.runWith({ input: 'typed\n' }, 'run', 'once'),
  );
  assert.deepEqual({ code, out, error }, { code: 7, out: 'typed\n', error: 'wrong\n' });
  assert.equal(bundle.must('list', '-q'), '');
  assert.deepEqual(groupsOf(bundle.cgroup), []);
});

test('a program killed by a signal gives 128 and the signal, as shells do', () => {
  const { code } = bundle.with(
    (config) => {
      config.process.args = ['sh', '-c', 'kill -9 $$'];
      config.linux.namespaces = config.linux.namespaces.filter(
        ({ type }: { type: string }) => type !== 'pid',
      );
      config.mounts = config.mounts.filter(({ type }: { type: string }) => type !== 'proc');
      config.linux.maskedPaths = [];
      config.linux.readonlyPaths = [];
    },
    () => bundle.run('run', 'once'),
  );
  assert.equal(code, 137);
});

test('create waits at the gate until start, and delete takes a stopped one away', async () => {
  const file = join(bundle.dir, 'shared');
  mkdirSync(file, { recursive: true });
  bundle.with(
    (config) => {
      config.process.args = ['sh', '-c', 'echo ran >/shared/out'];
      config.mounts.push({ destination: '/shared', source: file, options: ['bind'] });
    },
    () => bundle.must('create', '--pid-file', join(bundle.dir, 'pid'), 'made'),
  );
  const state = JSON.parse(bundle.must('state', 'made'));
  assert.equal(state.status, 'created');
  assert.equal(state.bundle, bundle.dir);
  assert.equal(readFileSync(join(bundle.dir, 'pid'), 'utf8'), String(state.pid));
  assert.ok(!existsSync(join(file, 'out')));
  assert.match(bundle.run('create', 'made').error, /container with id exists/);
  bundle.must('start', 'made');
  await bundle.untilStatus('made', 'stopped');
  assert.equal(readFileSync(join(file, 'out'), 'utf8'), 'ran\n');
  assert.match(bundle.run('start', 'made').error, /stopped/);
  bundle.must('delete', 'made');
  assert.equal(bundle.run('state', 'made').code, 1);
});

test('a container runs detached, is entered, paused, listed, counted, signalled and deleted', async () => {
  bundle.startIdle('idle');
  assert.equal(bundle.status('idle'), 'running');
  assert.equal(bundle.must('exec', 'idle', 'cat', '/proc/1/comm'), 'sleep\n');
  const program = ['--user', '5:6', '-g', '7', '--cwd', '/tmp', '-e', 'A=b', 'idle', 'sh', '-c'];
  assert.equal(bundle.must('exec', ...program, 'id -u; id -G; pwd; echo $A'), '5\n6 7\n/tmp\nb\n');
  assert.equal(bundle.run('exec', 'idle', 'sh', '-c', 'exit 42').code, 42);
  assert.equal(bundle.run('exec', 'idle', 'not-there').code, 255);
  assert.equal(bundle.run('exec', 'nobody', 'true').code, 255);

  const [listed] = JSON.parse(bundle.must('list', '--format', 'json'));
  assert.deepEqual([listed.id, listed.status], ['idle', 'running']);
  assert.match(bundle.must('list'), /^ID +PID +STATUS +BUNDLE +CREATED +OWNER\nidle +\d+ +running/);
  assert.deepEqual(JSON.parse(bundle.must('ps', '-f', 'json', 'idle')), [listed.pid]);
  assert.match(bundle.must('ps', 'idle'), /sleep 1000/);
  const stats = JSON.parse(bundle.must('events', '--stats', 'idle'));
  assert.deepEqual([stats.type, stats.id, stats.data.pids.current], ['stats', 'idle', 1]);

  bundle.must('pause', 'idle');
  assert.equal(bundle.status('idle'), 'paused');
  assert.match(bundle.run('exec', 'idle', 'true').error, /cannot exec in a paused container/);
  bundle.must('resume', 'idle');
  assert.equal(bundle.status('idle'), 'running');

  assert.match(bundle.run('delete', 'idle').error, /not stopped/);
  bundle.must('kill', 'idle', 'KILL');
  await bundle.untilStatus('idle', 'stopped');
  bundle.must('kill', '--all', 'idle', '0');
  bundle.must('delete', 'idle');
  assert.deepEqual(groupsOf(bundle.cgroup), []);
});

test('update changes what is named and nothing else, by flags and by a file', () => {
  bundle.with(
    (config) => {
      config.linux.resources.pids = { limit: 20 };
      config.linux.resources.memory = { limit: 32 << 20 };
    },
    () => bundle.startIdle('limited'),
  );
  const read = (v1: string, v2: string): string => {
    const file = groupsOf(bundle.cgroup)
      .flatMap((dir) => [join(dir, v1), join(dir, v2)])
      .find(existsSync);
    return file === undefined ? '' : readFileSync(file, 'utf8').trim();
  };
  assert.equal(read('pids.max', 'pids.max'), '20');
  bundle.must('update', 'limited', '--pids-limit', '30', '--memory', '50M');
  assert.equal(read('pids.max', 'pids.max'), '30');
  assert.equal(read('memory.limit_in_bytes', 'memory.max'), String(50 << 20));
  const resources = JSON.stringify({ pids: { limit: 10 } });
  assert.equal(bundle.runWith({ input: resources }, 'update', '-r', '-', 'limited').code, 0);
  assert.equal(read('pids.max', 'pids.max'), '10');
  assert.equal(read('memory.limit_in_bytes', 'memory.max'), String(50 << 20));
  bundle.must('delete', '--force', 'limited');
});

test('update exchanges the rules of devices in a container that runs, and keeps the rest', () => {
  const rule = (minor: number, access: string): object => {
    return { allow: true, type: 'c', major: 1, minor, access };
  };
  const none = { allow: false, access: 'rwm' };
  bundle.with(
    (config) => {
      config.linux.devices = [12, 13].map((minor) => {
        return { path: `/dev/odd${minor}`, type: 'c', major: 1, minor, fileMode: 0o666 };
      });
      config.linux.resources.devices = [none, rule(12, 'rw')];
    },
    () => bundle.startIdle('devices'),
  );
  /** Numbers no driver has: what is allowed there finds nothing, instead of being refused. */
  const opened = (name: string, way: string): string => {
    const { error } = bundle.run('exec', 'devices', 'sh', '-c', `: ${way} /dev/${name}`);
    return /No such device or address/i.test(error)
      ? 'allowed'
      : (error.trim().split(': ').pop() ?? '');
  };
  const all = (): string[] => [
    ...['<', '>'].map((way) => opened('odd12', way)),
    ...['<', '>'].map((way) => opened('odd13', way)),
  ];
  const refused = 'Operation not permitted';
  const updated = (...devices: readonly object[]): string[] => {
    const input = JSON.stringify({ devices });
    const { code, error } = bundle.runWith({ input }, 'update', '-r', '-', 'devices');
    assert.equal(code, 0, error);
    return all();
  };
  assert.deepEqual(all(), ['allowed', 'allowed', refused, refused]);
  assert.deepEqual(updated(none, rule(12, 'r'), rule(13, 'w')), [
    'allowed',
    refused,
    refused,
    'allowed',
  ]);
  assert.deepEqual(updated({ allow: true, access: 'rwm' }), Array(4).fill('allowed'));
  assert.deepEqual(updated(none, rule(13, 'r')), [refused, refused, 'allowed', refused]);
  // What is not named stays; Docker's own devices are there in any case.
  bundle.must('update', 'devices', '--pids-limit', '30');
  assert.deepEqual(all(), [refused, refused, 'allowed', refused]);
  bundle.must('exec', 'devices', 'sh', '-c', 'echo x > /dev/null; head -c 1 /dev/zero');
  bundle.must('delete', '--force', 'devices');
});

test('mounts, devices, masks, identity and limits are as config.json says', () => {
  const text = output(
    [
      'sh',
      '-c',
      'grep -q "^tmpfs /mnt tmpfs ro,.*nodev.*mode=700" /proc/mounts && ' +
        'stat -c %t:%T:%u:%g:%a /dev/own && cat /etc/hidden && ! echo x 2>/dev/null >/etc/kept && ' +
        'id -u && id -G && grep -E "^(CapEff|NoNewPrivs|Umask)" /proc/self/status && ' +
        'cat /proc/sys/kernel/hostname /proc/self/oom_score_adj',
    ],
    (config: never) => {
      const wanted = config as Record<string, never>;
      Object.assign(wanted, { hostname: 'named' });
      const {
        process: program,
        linux,
        mounts,
      } = wanted as unknown as {
        process: Record<string, unknown>;
        linux: Record<string, string[]> & { devices: unknown[] };
        mounts: unknown[];
      };
      const options = ['ro', 'nodev', 'mode=700', 'size=64k'];
      mounts.push({ destination: '/mnt', type: 'tmpfs', source: 'tmpfs', options });
      linux.devices = [
        { path: '/dev/own', type: 'c', major: 1, minor: 3, uid: 5, gid: 6, fileMode: 0o600 },
      ];
      linux.maskedPaths = [...(linux.maskedPaths ?? []), '/etc/hidden'];
      linux.readonlyPaths = [...(linux.readonlyPaths ?? []), '/etc/kept'];
      Object.assign(wanted, { root: { path: 'rootfs', readonly: false } });
      for (const name of ['hidden', 'kept']) {
        writeFileSync(join(bundle.dir, 'rootfs/etc', name), 'text\n');
      }
      program.user = { uid: 0, gid: 0, additionalGids: [9], umask: 0o77 };
      program.oomScoreAdj = 500;
      program.capabilities = {
        bounding: ['CAP_KILL'],
        effective: ['CAP_KILL'],
        permitted: ['CAP_KILL'],
      };
    },
  );
  assert.equal(
    text,
    '1:3:5:6:600\n0\n0 9\nUmask:\t0077\nCapEff:\t0000000000000020\nNoNewPrivs:\t1\nnamed\n500\n',
  );
});

test('a terminal is the program’s, and what it prints comes out', () => {
  const text = output(['sh', '-c', 'tty; stty size; readlink /proc/self/fd/0'], (config: never) => {
    Object.assign((config as { process: object }).process, {
      terminal: true,
      consoleSize: { height: 11, width: 77 },
    });
  });
  assert.match(text, /^\/dev\/pts\/0\r\n11 77\r\n\/dev\/pts\/0\r\n$/);
});

test('hooks run at their moments with the state on their input', () => {
  const log = join(bundle.dir, 'hooks.log');
  const hook = (stage: string): unknown => ({
    path: '/bin/sh',
    args: ['sh', '-c', `echo ${stage} $(cat) >>${log}`],
    env: ['PATH=/bin:/usr/bin'],
  });
  output(['true'], (config: never) => {
    const stages = ['prestart', 'createRuntime', 'poststart', 'poststop'];
    const hooks = Object.fromEntries(stages.map((stage) => [stage, [hook(stage)]]));
    Object.assign(config, { hooks });
  });
  const lines = readFileSync(log, 'utf8').trim().split('\n');
  const seen = lines.map((line) => {
    const state = JSON.parse(line.slice(line.indexOf(' ') + 1));
    assert.deepEqual([state.id, state.bundle], ['once', bundle.dir]);
    return [line.split(' ')[0], state.status, state.pid > 0];
  });
  assert.deepEqual(seen, [
    ['prestart', 'creating', true],
    ['createRuntime', 'creating', true],
    ['poststart', 'running', true],
    ['poststop', 'stopped', false],
  ]);
});

test('the caller’s groups are kept where an annotation asks for that', () => {
  const change = (config: Config): void => {
    config.process.args = ['id', '-G'];
    config.annotations = { 'run.oci.keep_original_groups': '1' };
  };
  const withGroups = 'set -- setpriv --groups=1234,5678 "$@"';
  const kept = bundle.with(change, () => bundle.runIn(withGroups, 'run', 'once'));
  assert.equal(kept.out, '0 1234 5678\n', kept.error);
});

test('interfaces are moved into the container with their addresses', () => {
  const look =
    'ip -o address show dev box0; cat /sys/class/net/box0/address /sys/class/net/box0/mtu';
  const made =
    'ip link add near type veth peer name far && ip link set far up && ' +
    'ip link set near address 02:00:00:00:00:07 mtu 1400 && ip link set near up && ' +
    'ip address add 192.0.2.7/24 dev near && ip -6 address add 2001:db8::7/64 dev near nodad';
  const change = (config: Config): void => {
    config.process.args = ['/bin/busybox', 'sh', '-c', `busybox ${look}`];
    config.linux.netDevices = { near: { name: 'box0' } };
  };
  const { out, code, error } = bundle.with(change, () => bundle.runIn(made, 'run', 'once'));
  assert.equal(code, 0, error);
  assert.match(out, /box0 +inet 192\.0\.2\.7\/24 /);
  assert.match(out, /box0 +inet6 2001:db8::7\/64 /);
  assert.match(out, /^02:00:00:00:00:07\n1400\n/m);
  const refusals = [
    [{ none: {} }, /netDevices: there is no interface .{1,2}none/],
    [{ near: { name: 'a/b' } }, /netDevices: .*a\/b.* names no interface/],
    [{ near: { name: 'x' }, far: { name: 'x' } }, /netDevices: .*x.* is there twice/],
    [{ near: { name: 'lo' } }, /has an interface .*lo.* already/],
  ] as const;
  for (const [netDevices, message] of refusals) {
    const refused = (config: Config): void => {
      config.linux.netDevices = netDevices;
    };
    const result = bundle.with(refused, () => bundle.runIn(made, 'run', 'once'));
    assert.equal(result.code, 1);
    assert.match(result.error, message);
  }
  const looked = 'set -- sh -c \'"$@"; ip -o address show dev lo up; exit 3\' sh "$@"';
  const unmoved = bundle.with(
    (config) => {
      config.linux.netDevices = { lo: { name: 'box0' } };
    },
    () => bundle.runIn(`ip link set lo up && ${looked}`, 'run', 'once'),
  );
  assert.match(unmoved.error, /move an interface to the container/);
  assert.match(unmoved.out, /lo +inet 127\.0\.0\.1\/8 /);
  assert.match(unmoved.out, /lo +inet6 ::1\/128 /);
  assert.equal(bundle.must('list', '-q'), '');
});

test('a failing hook, a program that is not there and a wrong field leave nothing', () => {
  const failing = [
    [{ hooks: { createRuntime: [{ path: '/bin/false' }] } }, /false/],
    [{ process: { args: ['not-there'] } }, /not-there/],
    [{ process: { args: 'sh' } }, /process\.args: expected a list/],
    [{ linux: { intelRdt: {} } }, /linux\.intelRdt is not supported/],
    ...(existsSync('/sys/fs/selinux/enforce')
      ? []
      : ([[{ linux: { mountLabel: 'u:r:x' } }, /linux\.mountLabel: .*has no SELinux/]] as const)),
    [{ linux: { sysctl: { 'kernel.hostname': 'x' } } }, /kernel\.hostname/],
  ] as const;
  for (const [change, message] of failing) {
    const { code, error } = bundle.with(
      (config) => {
        for (const [key, value] of Object.entries(change)) {
          config[key] = { ...config[key], ...(value as object) };
        }
      },
      () => bundle.run('run', 'bad'),
    );
    assert.equal(code, 1);
    assert.match(error, message);
    assert.equal(bundle.run('state', 'bad').code, 1);
    assert.deepEqual(groupsOf(bundle.cgroup), []);
  }
});

test('a command that is killed in the middle leaves what delete --force takes away', async () => {
  const file = join(bundle.dir, 'hook-runs');
  const hook = { path: '/bin/sh', args: ['sh', '-c', `echo >${file}; exec sleep 1000`] };
  const command = bundle.with(
    (config) => {
      config.hooks = { createRuntime: [hook] };
    },
    () => {
      const started = bundle.startInto('/dev/null', 'create', 'half');
      const pause = new Int32Array(new SharedArrayBuffer(4));
      // The configuration is put back after this, so it must have been read.
      for (let tries = 0; tries < 6000 && !existsSync(file); tries += 1)
        Atomics.wait(pause, 0, 0, 10);
      return started;
    },
  );
  assert.ok(existsSync(file));
  const closed = new Promise((resolve) => command.on('close', resolve));
  command.kill('SIGKILL');
  await closed;
  assert.equal(bundle.status('half'), 'creating');
  assert.match(bundle.run('start', 'half').error, /start failed/);
  bundle.must('delete', '--force', 'half');
  assert.equal(bundle.run('state', 'half').code, 1);
  assert.deepEqual(groupsOf(bundle.cgroup), []);
});

test('events tells the container’s figures until it ends', async () => {
  bundle.startIdle('watched');
  const log = join(bundle.dir, 'events.log');
  writeFileSync(log, '');
  const done = new Promise((resolve) => {
    bundle.startInto(log, 'events', '--interval', '100ms', 'watched').on('close', resolve);
  });
  await until(
    'two lines of figures',
    WAIT_MS,
    () => readFileSync(log, 'utf8').split('\n').length > 2,
  );
  bundle.must('delete', '--force', 'watched');
  await done;
  assert.match(readFileSync(log, 'utf8'), /^\{"type":"stats","id":"watched","data":\{/);
});

test('spec does not overwrite, features is JSON, what is refused says so', () => {
  assert.match(bundle.run('spec').error, /config\.json exists/);
  const found = JSON.parse(bundle.must('features'));
  assert.ok(found.mountOptions.includes('rro') && found.linux.namespaces.includes('time'));
  for (const name of ['checkpoint', 'restore']) {
    assert.match(bundle.run(name, 'x').error, new RegExp(`${name} is not supported`));
  }
  assert.match(bundle.run('--systemd-cgroup', 'list').error, /systemd/);
  assert.equal(bundle.run('nonsense').code, 3);
});

test('errors go to --log as engines read them', () => {
  const log = join(bundle.dir, 'log.json');
  bundle.run('--log', log, '--log-format', 'json', 'start', 'nobody');
  const { level, msg } = JSON.parse(readFileSync(log, 'utf8'));
  assert.deepEqual([level, msg], ['error', 'tsswarm-oci start failed: container does not exist']);
});
