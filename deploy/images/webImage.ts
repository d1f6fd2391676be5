/**
 * Packs the compiled web program (deploy/images/web) into dist/images/web.tar, a docker-archive of
 * `tsswarm/web:latest` that any Docker can load. The same program gives the same bytes, so that
 * every host that loads the archive has the same digests. Run by deploy/images/build; writes
 * nothing but the file it is told to.
 */
import { createHash } from 'node:crypto';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { type TarInput, writeTar } from '../../runtime/image/tar.ts';

const NAME = 'tsswarm/web:latest';
/** Stands in the archive as every file's time: a fixed one, for equal bytes. */
const CREATED = '2025-01-01T00:00:00Z';
const CREATED_MS = Date.parse(CREATED);
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' };

async function collect(inputs: readonly TarInput[]): Promise<Buffer> {
  const stamped = inputs.map((input) => ({ mtimeMs: CREATED_MS, ...input }));
  const chunks: Uint8Array[] = [];
  for await (const chunk of writeTar(stamped)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function digestOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function layerOf(program: Uint8Array): Promise<Buffer> {
  return collect([
    { name: 'bin', type: 'directory' },
    { name: 'bin/web', type: 'symlink', linkName: '../web', mode: 0o777 },
    { name: 'dev', type: 'directory' },
    { name: 'etc', type: 'directory' },
    { name: 'etc/group', body: Buffer.from('root:x:0:\nnogroup:x:65534:\n') },
    {
      name: 'etc/passwd',
      body: Buffer.from('root:x:0:0:root:/:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n'),
    },
    { name: 'proc', type: 'directory' },
    { name: 'sys', type: 'directory' },
    { name: 'tmp', type: 'directory', mode: 0o1777 },
    { name: 'web', mode: 0o755, body: program },
  ]);
}

async function build(programPath: string, archivePath: string): Promise<void> {
  const layer = await layerOf(await readFile(programPath));
  const diffId = digestOf(layer);
  const config = Buffer.from(
    JSON.stringify({
      architecture: ARCHITECTURES[process.arch] ?? process.arch,
      config: {
        Cmd: ['serve'],
        Entrypoint: ['/web'],
        Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
        ExposedPorts: { '80/tcp': {} },
        Labels: { 'org.opencontainers.image.title': 'tsswarm web' },
        WorkingDir: '/',
      },
      created: CREATED,
      history: [{ created: CREATED, created_by: 'deploy/images/build' }],
      os: 'linux',
      rootfs: { diff_ids: [`sha256:${diffId}`], type: 'layers' },
    }),
  );
  const configName = `${digestOf(config)}.json`;
  const manifest = [{ Config: configName, Layers: [`${diffId}/layer.tar`], RepoTags: [NAME] }];
  const archive = await collect([
    { name: configName, body: config },
    { name: `${diffId}/layer.tar`, body: layer },
    { name: 'manifest.json', body: Buffer.from(JSON.stringify(manifest)) },
  ]);
  await writeFile(`${archivePath}.new`, archive);
  await rename(`${archivePath}.new`, archivePath);
  process.stdout.write(`${NAME}: ${archivePath} (${archive.length} bytes)\n`);
}

const [programPath, archivePath] = process.argv.slice(2);
if (programPath === undefined || archivePath === undefined) {
  process.stderr.write('usage: webImage PROGRAM ARCHIVE\n');
  process.exitCode = 2;
} else {
  await build(programPath, archivePath);
}
