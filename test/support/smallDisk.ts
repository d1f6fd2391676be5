/**
 * A small ext4 on a loop device under one lab host's data root, mounted in that host's mount
 * namespace only, so that it goes with the host; and filling it up and making room again.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { RUN_ROOT } from '../../deploy/hosts/layout.ts';
import { inside } from './lab.ts';
import { layoutOf, startDaemonOf, stopDaemonOf } from './labHosts.ts';

const SIZE = '160M';

async function must(host: string, script: string): Promise<void> {
  const result = await inside(host, 'sh', '-euc', script);
  assert.equal(result.code, 0, `${host}: ${script}: ${result.stderr}`);
}

export class SmallDisk {
  readonly host: string;
  readonly #filler: string;

  private constructor(host: string) {
    this.host = host;
    this.#filler = join(layoutOf(host).dataRoot, 'filler');
  }

  /** Moves the data of the host's daemon onto it; the daemon is started anew. */
  static async under(host: string): Promise<SmallDisk> {
    const { dataRoot } = layoutOf(host);
    await stopDaemonOf(host);
    const image = join(RUN_ROOT, `${host}.ext4`);
    const way = join(RUN_ROOT, `${host}.mount`);
    await must(
      host,
      `truncate -s ${SIZE} ${image}; mkfs.ext4 -q -m 0 ${image}; mkdir -p ${way}
       mount -o loop ${image} ${way}; cp -a ${dataRoot}/. ${way}/
       mount --move ${way} ${dataRoot}`,
    );
    await startDaemonOf(host);
    return new SmallDisk(host);
  }

  /** Until nothing more fits. */
  async fill(): Promise<void> {
    const filled = await inside(this.host, 'dd', 'if=/dev/zero', `of=${this.#filler}`, 'bs=64k');
    assert.match(filled.stderr, /No space left/);
  }

  async makeRoom(): Promise<void> {
    await must(this.host, `rm -f ${this.#filler}`);
  }
}
