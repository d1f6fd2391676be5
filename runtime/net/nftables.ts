/**
 * Runs nftables commands in one network namespace. Uses libnftables through a context that stays
 * bound to the namespace it was made in (0.1-3 ms a change); where the library is absent, the `nft`
 * command through nsenter (16 ms and more). Only tables of our own are ever named.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { SwarmError } from '../../base/errors.ts';
import { define, hasLibrary } from '../sys/libc.ts';
import { NETLINK_NETFILTER, NetlinkSocket } from '../sys/netlink.ts';
import type { NetworkNamespace } from '../sys/netns.ts';

const LIBRARY = 'libnftables.so.1';
const NFT_TIMEOUT_MS = 10_000;
const NFT_OUTPUT_BYTES = 64 * 1024 * 1024;
const STATELESS = 1 << 1;
/** (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETGEN. */
const GET_GENERATION = (10 << 8) | 16;

const DESCRIPTORS = '/proc/self/fd';
const F_GETFD = 1;
const F_SETFD = 2;
const FD_CLOEXEC = 1;

const fcntl = define<(fd: number, command: number, value: number) => number>(
  '',
  'int fcntl(int fd, int command, int value)',
);

type Pointer = bigint | object | null;

interface Library {
  readonly create: (flags: number) => Pointer;
  readonly free: (context: Pointer) => void;
  readonly bufferOutput: (context: Pointer) => number;
  readonly bufferError: (context: Pointer) => number;
  readonly setFlags: (context: Pointer, flags: number) => void;
  readonly run: (context: Pointer, text: string) => number;
  readonly output: (context: Pointer) => string;
  readonly error: (context: Pointer) => string;
}

let library: Library | undefined;

function loadLibrary(): Library | undefined {
  if (library !== undefined) return library;
  if (!hasLibrary(LIBRARY)) return undefined;
  library = {
    create: define(LIBRARY, 'void *nft_ctx_new(uint32_t flags)'),
    free: define(LIBRARY, 'void nft_ctx_free(void *context)'),
    bufferOutput: define(LIBRARY, 'int nft_ctx_buffer_output(void *context)'),
    bufferError: define(LIBRARY, 'int nft_ctx_buffer_error(void *context)'),
    setFlags: define(LIBRARY, 'void nft_ctx_output_set_flags(void *context, unsigned int flags)'),
    run: define(LIBRARY, 'int nft_run_cmd_from_buffer(void *context, const char *text)'),
    output: define(LIBRARY, 'const char *nft_ctx_get_output_buffer(void *context)'),
    error: define(LIBRARY, 'const char *nft_ctx_get_error_buffer(void *context)'),
  };
  return library;
}

/** Descriptors that a process started now would get. */
function inheritable(): number[] {
  return readdirSync(DESCRIPTORS)
    .map(Number)
    .filter((fd) => fcntl(fd, F_GETFD, 0) === 0);
}

/** What nft said, in one line. */
function firstLine(text: string): string {
  return text.trim().split('\n').slice(0, 2).join(' ').trim();
}

export class Nftables {
  readonly #namespace: NetworkNamespace;
  readonly #useLibrary: boolean;
  #context: Pointer = null;
  #generationSocket: NetlinkSocket | undefined;

  /** `useLibrary` false: the nft command even where there is the library. */
  constructor(namespace: NetworkNamespace, useLibrary = true) {
    this.#namespace = namespace;
    this.#useLibrary = useLibrary;
  }

  /** Runs `text` as one transaction and returns what it prints. Throws SwarmError. */
  run(text: string): string {
    const functions = this.#useLibrary ? loadLibrary() : undefined;
    if (functions === undefined) return this.#runCommand(text);
    if (this.#context === null) this.#context = this.#createContext(functions);
    // Kernel sockets of the context belong to its namespace already; the window is for safety of
    // the library's lazily opened ones.
    const status = this.#namespace.within(() => functions.run(this.#context, text));
    const output = functions.output(this.#context);
    const error = functions.error(this.#context);
    if (status !== 0) throw this.#failure(error);
    return output;
  }

  #createContext(functions: Library): Pointer {
    const before = new Set(inheritable());
    const context = this.#namespace.within(() => functions.create(0));
    // The library's socket would otherwise pass to every process started from now on, and with it
    // its namespace. One that another thread made and closed meanwhile is harmed by nothing.
    for (const fd of inheritable()) if (!before.has(fd)) fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (context === null) throw new SwarmError('internal', 'libnftables could not be started');
    functions.bufferOutput(context);
    functions.bufferError(context);
    functions.setFlags(context, STATELESS);
    return context;
  }

  #runCommand(text: string): string {
    const args = [`--net=${this.#namespace.path}`, 'nft', '-s', '-f', '-'];
    const result = spawnSync('nsenter', args, {
      input: text,
      encoding: 'utf8',
      timeout: NFT_TIMEOUT_MS,
      maxBuffer: NFT_OUTPUT_BYTES,
    });
    if (result.error !== undefined) {
      throw new SwarmError(
        'unsupported',
        `cannot run nft: ${result.error.message}; install the package "nftables"`,
        { cause: result.error },
      );
    }
    if (result.status !== 0) throw this.#failure(result.stderr);
    return result.stdout;
  }

  #failure(error: string): SwarmError {
    return new SwarmError('internal', `nftables in ${this.#namespace.path}: ${firstLine(error)}`);
  }

  /** A number that grows with every change anyone makes to this namespace's nftables. */
  generation(): number {
    this.#generationSocket ??= this.#namespace.within(() => new NetlinkSocket(NETLINK_NETFILTER));
    const reply = this.#generationSocket.ask({
      type: GET_GENERATION,
      flags: 0,
      header: Buffer.alloc(4),
      attributes: [],
      what: 'read the nftables generation',
    });
    // nfgenmsg (4), attribute header (4), then the number, big-endian.
    return reply === undefined ? 0 : reply.payload.readUInt32BE(8);
  }

  close(): void {
    if (this.#context !== null) loadLibrary()?.free(this.#context);
    this.#context = null;
    this.#generationSocket?.close();
    this.#generationSocket = undefined;
  }
}
