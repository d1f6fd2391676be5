/**
 * Hosts as network and mount namespaces for tests: an underlay (a namespace with a bridge), hosts
 * and clients plugged into it, each with a driver process that holds its HostNetwork. Nothing of
 * it is visible in the machine's own network namespace; everything goes when `close` has run.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type {
  Attachment,
  AttachRequest,
  BridgeNetwork,
  EndpointRequest,
  IngressState,
  OverlayPeer,
  OverlayState,
} from '../../runtime/net/types.ts';
import type { DriverCall } from './netDriver.ts';

const DRIVER = fileURLToPath(new URL('./netDriver.js', import.meta.url));
const PEER = fileURLToPath(new URL('./netPeer.js', import.meta.url));
const COMMAND_TIMEOUT_MS = 120_000;
const PATIENCE_MS = 90_000;
export const VXLAN_PORT = 4789;
const PING_LIMIT_S = '15';

function command(file: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(file, args, { timeout: COMMAND_TIMEOUT_MS }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`${file} ${args.join(' ')}: ${error.message}\n${stdout}${stderr}`));
    });
  });
}

/** A namespace kept by a process of its own, which ends with this one however that ends. */
async function holdNamespace(): Promise<ChildProcess> {
  const script = 'echo ready; exec cat';
  const holder = spawn('unshare', ['--net', '--mount', 'sh', '-c', script], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  await once(holder.stdout as NodeJS.ReadableStream, 'data');
  return holder;
}

export class Place {
  readonly holder: ChildProcess;
  readonly address: string;
  /** nsenter's arguments to get there. */
  readonly enter: readonly string[];
  readonly #started: ChildProcess[] = [];

  constructor(holder: ChildProcess, address: string, enter: readonly string[]) {
    this.holder = holder;
    this.address = address;
    this.enter = enter;
  }

  run(...words: string[]): Promise<string> {
    return command('nsenter', [...this.enter, ...words]);
  }

  async #peer(...words: string[]): Promise<unknown> {
    return JSON.parse(await this.run(process.execPath, PEER, ...words));
  }

  /** COUNT connections one after another: each answer, or {error}. */
  async get(host: string, port: number, count = 1): Promise<Answer[]> {
    return (await this.#peer('get', host, String(port), String(count))) as Answer[];
  }

  /** One connection from a port of one's own choice. */
  async getFrom(localPort: number, host: string, port: number): Promise<Answer> {
    const words = ['get', host, String(port), '1', String(localPort), String(PATIENCE_MS)];
    return ((await this.#peer(...words)) as Answer[])[0];
  }

  /** One connection that is waited for as long as it takes. */
  async getPatiently(host: string, port: number): Promise<Answer> {
    const words = ['get', host, String(port), '1', '', String(PATIENCE_MS)];
    return ((await this.#peer(...words)) as Answer[])[0];
  }

  /** COUNT questions by UDP, each from a port of its own. */
  async getUdp(host: string, port: number, count = 1): Promise<Answer[]> {
    return (await this.#peer('getudp', host, String(port), String(count))) as Answer[];
  }

  /** Megabytes in both directions at once: whether all of it came. */
  async exchange(host: string, port: number): Promise<boolean> {
    const { complete } = (await this.#peer('exchange', host, String(port))) as {
      complete: boolean;
    };
    return complete;
  }

  /** A connection that is open now, to a `patient` server. */
  async hold(host: string, port: number, localPort?: number): Promise<HeldConnection> {
    const words = ['hold', host, String(port)];
    if (localPort !== undefined) words.push(String(localPort));
    const child = spawn('nsenter', [...this.enter, process.execPath, PEER, ...words], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#started.push(child);
    const [name] = (await once(child.stdout as NodeJS.ReadableStream, 'data')) as [Buffer];
    return {
      name: name.toString().trim(),
      finish: async () => {
        child.stdin?.write('go');
        const [rest] = (await once(child.stdout as NodeJS.ReadableStream, 'data')) as [Buffer];
        return rest.toString().trim();
      },
    };
  }

  async resolve(name: string, type = 'A'): Promise<{ answers?: string[]; error?: string }> {
    return (await this.#peer('resolve', name, type)) as { answers?: string[]; error?: string };
  }

  /** Packets lost is an error. */
  /** Until so many are answered: what has just been made may miss the first ones. */
  async ping(address: string, count = 2): Promise<void> {
    await this.run('ping', '-c', String(count), '-i', '0.05', '-w', PING_LIMIT_S, address);
  }

  async #background(...words: string[]): Promise<void> {
    const child = spawn('nsenter', [...this.enter, process.execPath, PEER, ...words], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#started.push(child);
    await once(child.stdout as NodeJS.ReadableStream, 'data');
  }

  serve(name: string, port: number): Promise<void> {
    return this.#background('serve', name, String(port));
  }

  patient(name: string, port: number): Promise<void> {
    return this.#background('patient', name, String(port));
  }

  bulk(port: number): Promise<void> {
    return this.#background('bulk', String(port));
  }

  nameserver(address: string): Promise<void> {
    return this.#background('nameserver', address);
  }

  stop(): void {
    for (const child of this.#started) child.kill('SIGKILL');
  }
}

export interface HeldConnection {
  /** Who answered. */
  readonly name: string;
  /** Lets the server go on; what it said then. */
  readonly finish: () => Promise<string>;
}

export interface Answer {
  readonly name?: string;
  readonly client?: string;
  readonly error?: string;
}

/** A host: a place with an exec root and a driver. */
export class TestHost extends Place {
  readonly self: OverlayPeer;
  readonly execRoot: string;
  readonly containers = new Map<string, Place>();
  #driver: ChildProcess | undefined;
  #nextId = 1;
  readonly #waiting = new Map<number, [(value: unknown) => void, (error: Error) => void]>();

  constructor(holder: ChildProcess, self: OverlayPeer, execRoot: string) {
    super(holder, self.address, ['-t', String(holder.pid), '-n', '-m']);
    this.self = self;
    this.execRoot = execRoot;
  }

  get driverPid(): number | undefined {
    return this.#driver?.pid;
  }

  async start(self: OverlayPeer | undefined = this.self, watchMs = 0): Promise<void> {
    const driver = spawn('nsenter', [...this.enter, process.execPath, DRIVER], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.#driver = driver;
    driver.on('message', (message: { id: number; result?: unknown; error?: string }) => {
      const waiting = this.#waiting.get(message.id);
      this.#waiting.delete(message.id);
      if (message.error === undefined) waiting?.[0](message.result);
      else waiting?.[1](new Error(message.error));
    });
    driver.on('exit', () => {
      for (const [, reject] of this.#waiting.values()) reject(new Error('the driver ended'));
      this.#waiting.clear();
    });
    const { execRoot } = this;
    const options = { execRoot, dataRoot: execRoot, self, vxlanPort: VXLAN_PORT, watchMs };
    await this.call('open', options);
  }

  /** The daemon is gone at once; the namespaces stay. */
  async kill(): Promise<void> {
    const driver = this.#driver;
    if (driver === undefined || driver.exitCode !== null) return;
    const ended = once(driver, 'exit');
    driver.kill('SIGKILL');
    await ended;
    this.#driver = undefined;
  }

  call(method: DriverCall['method'], argument?: unknown): Promise<unknown> {
    const id = this.#nextId;
    this.#nextId += 1;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, [resolve, reject]);
      this.#driver?.send({ id, method, argument });
    });
  }

  applyOverlay(state: OverlayState): Promise<unknown> {
    return this.call('applyOverlay', state);
  }

  applyIngress(state: IngressState): Promise<unknown> {
    return this.call('applyIngress', state);
  }

  async attach(request: AttachRequest): Promise<{ attachment: Attachment; place: Place }> {
    const attachment = (await this.call('attach', request)) as Attachment;
    const place = this.placeOf(attachment);
    this.containers.set(request.containerId, place);
    return { attachment, place };
  }

  placeOf(attachment: Attachment): Place {
    const path = `/proc/${this.holder.pid}/root${attachment.namespacePath}`;
    return new Place(this.holder, '', ['-t', String(this.holder.pid), '-m', `--net=${path}`]);
  }

  async close(): Promise<void> {
    this.stop();
    for (const place of this.containers.values()) place.stop();
    await this.kill();
  }
}

export class Underlay {
  readonly hosts: TestHost[] = [];
  readonly client: Place;
  readonly #switch: ChildProcess;
  readonly #directory: string;

  private constructor(switchHolder: ChildProcess, client: Place, directory: string) {
    this.#switch = switchHolder;
    this.client = client;
    this.#directory = directory;
  }

  /** Hosts 192.168.50.11, .12, ... with indexes from `firstIndex`, and a client .100. */
  static async create(hostCount: number, firstIndex = 1): Promise<Underlay> {
    const holder = await holdNamespace();
    const ip = (...words: string[]): Promise<string> =>
      command('nsenter', ['-t', String(holder.pid), '-n', 'ip', ...words]);
    await ip('link', 'add', 'br0', 'type', 'bridge');
    await ip('link', 'set', 'br0', 'up');
    const plug = async (name: string, address: string): Promise<ChildProcess> => {
      const place = await holdNamespace();
      const far = ['peer', 'name', 'eth0', 'netns', String(place.pid)];
      await ip('link', 'add', name, 'type', 'veth', ...far);
      await ip('link', 'set', name, 'master', 'br0', 'up');
      const inside = ['-t', String(place.pid), '-n', 'ip'];
      await command('nsenter', [...inside, 'link', 'set', 'lo', 'up']);
      await command('nsenter', [...inside, 'addr', 'add', `${address}/24`, 'dev', 'eth0']);
      await command('nsenter', [...inside, 'link', 'set', 'eth0', 'up']);
      return place;
    };
    const clientHolder = await plug('c0', '192.168.50.100');
    const enter = ['-t', String(clientHolder.pid), '-n', '-m'];
    const client = new Place(clientHolder, '192.168.50.100', enter);
    const directory = mkdtempSync(join(tmpdir(), 'net-test-'));
    const underlay = new Underlay(holder, client, directory);
    for (let at = 0; at < hostCount; at += 1) {
      const address = `192.168.50.${11 + at}`;
      const hostHolder = await plug(`h${at}`, address);
      const mount = ['-t', String(hostHolder.pid), '-m', 'mount', '-t', 'tmpfs', 'none', directory];
      await command('nsenter', mount);
      const self = { hostIndex: firstIndex + at, address };
      const host = new TestHost(hostHolder, self, join(directory, 'exec'));
      underlay.hosts.push(host);
      await host.start();
    }
    return underlay;
  }

  get peers(): OverlayPeer[] {
    return this.hosts.map((host) => host.self);
  }

  async close(): Promise<void> {
    for (const host of this.hosts) await host.close();
    this.client.stop();
    for (const holder of [this.#switch, this.client.holder, ...this.hosts.map((h) => h.holder)]) {
      const ended = once(holder, 'exit');
      holder.kill('SIGKILL');
      await ended;
    }
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

let counter = 0;

/** One more interface, nothing asked for. */
export function endpointRequest(changes: Partial<EndpointRequest> = {}): EndpointRequest {
  counter += 1;
  const none = { address: '', address6: '', macAddress: '', aliases: [] };
  return { networkId: 'bridge', endpointId: `e${counter}`, ...none, ...changes };
}

/** An overlay with an endpoint on each of the underlay's hosts: 10.20.0.11 and on. */
export function overlayOf(underlay: Underlay, changes: Partial<OverlayState>): OverlayState {
  return {
    networkId: 'net1',
    name: 'appnet',
    vni: 4097,
    subnet: '10.20.0.0/24',
    gateway: '10.20.0.1',
    internal: false,
    mtu: 0,
    version: 1,
    peers: underlay.peers,
    endpoints: underlay.hosts.map(({ self: { hostIndex } }, at) => ({
      id: `ep${at}`,
      address: `10.20.0.${11 + at}`,
      hostIndex,
    })),
    services: [],
    names: [],
    ...changes,
  };
}

export function bridgeNetwork(name: string, changes: Partial<BridgeNetwork> = {}): BridgeNetwork {
  counter += 1;
  const networkId = counter.toString(16).padStart(64, 'b');
  return { networkId, name, subnets: [], internal: false, options: {}, ...changes };
}

/** A request for a container with nothing, to be spread over. */
export function attachRequest(changes: Partial<AttachRequest> = {}): AttachRequest {
  counter += 1;
  const containerId = (counter + 0x1000).toString(16).padEnd(64, 'c');
  return {
    containerId,
    hostname: `c${counter}`,
    overlays: [],
    gateway: false,
    defaultBridge: false,
    extraHosts: [],
    dns: { servers: [], search: [], options: [] },
    ...changes,
  };
}
