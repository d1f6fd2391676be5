/**
 * Runs inside the guest: containers whose writable layer may hold so much, on an ext4 that is
 * mounted with project quotas, and the refusal where there are none.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { limitDirectories } from '../../../runtime/sys/projectQuota.ts';
import { report } from '../guest.ts';
import { MIB, openGuestHost } from './guestHost.ts';

const ROOT = '/var/lib/tsswarm';

async function main(): Promise<void> {
  process.chdir('/app');
  mkdirSync(ROOT, { recursive: true });
  const plain = await openGuestHost();
  const refused = await plain.table.create(plain.config(['exit', '0'], size(4))).then(
    () => '',
    (error: unknown) => String(error),
  );
  await plain.table.close();
  execFileSync('/bin/mount', ['-t', 'ext4', '-o', 'loop,prjquota', '/app/files/disk', ROOT]);
  // As another data root has on the same file system.
  const foreign = `${ROOT}/foreign`;
  mkdirSync(foreign);
  limitDirectories([foreign], 2 * MIB);
  writeFileSync(`${foreign}/file`, Buffer.alloc(2 * MIB - 64 * 1024));
  const host = await openGuestHost();
  const said = async (mebibytes: number, ...args: readonly string[]): Promise<string> =>
    (await host.run(args, size(mebibytes))).output.trim();
  report({
    refused,
    fits: await said(4, 'spend', '/tmp/file', '3'),
    tooMuch: await said(4, 'spend', '/tmp/file', '6'),
    // The other's limit is not this one's.
    larger: await said(8, 'spend', '/tmp/file', '6'),
    free: (await host.run(['spend', '/tmp/file', '12'])).output.trim(),
  });
}

function size(mebibytes: number): { readonly writableBytes: number } {
  return { writableBytes: mebibytes * MIB };
}

main().catch((error: unknown) => report({ failed: String(error) }));
