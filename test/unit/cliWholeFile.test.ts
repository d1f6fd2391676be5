/** What `snapshot save` writes: a whole file that is the owner's alone, or nothing. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { checkFileName, writeWhole } from '../../cli/wholeFile.ts';

async function inDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = fs.mkdtempSync(join(tmpdir(), 'tsswarm-whole-'));
  try {
    await work(directory);
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
}

const write = (file: string, text = 'secret') =>
  writeWhole(file, Readable.from([text]), async (path) => fs.readFileSync(path, 'utf8'));

test('whatever lies where it is written first, nobody else can read it', () =>
  inDirectory(async (directory) => {
    const file = join(directory, 'backup');
    const elsewhere = join(directory, 'elsewhere');
    fs.writeFileSync(elsewhere, 'untouched');
    fs.symlinkSync(elsewhere, `${file}.part`);
    assert.equal(await write(file), 'secret');
    assert.equal(fs.statSync(file).mode & 0o777, 0o600);
    assert.equal(fs.readFileSync(elsewhere, 'utf8'), 'untouched');
    fs.chmodSync(file, 0o666);
    await write(file, 'again');
    assert.equal(fs.statSync(file).mode & 0o777, 0o600);
    assert.deepEqual(fs.readdirSync(directory), ['backup', 'backup.part', 'elsewhere']);
  }));

test('two at once leave one whole file, and what fails leaves the old one', () =>
  inDirectory(async (directory) => {
    const file = join(directory, 'backup');
    await Promise.all([write(file, 'one'.repeat(50_000)), write(file, 'two'.repeat(50_000))]);
    const before = fs.readFileSync(file, 'utf8');
    assert.ok(/^(one)+$|^(two)+$/.test(before));
    assert.equal(before.length, 150_000);
    const broken = async function* () {
      yield 'half';
      throw new Error('cut');
    };
    await assert.rejects(
      writeWhole(file, Readable.from(broken()), async () => ''),
      /cut/,
    );
    const damaged = async () => {
      throw new Error('damaged');
    };
    await assert.rejects(writeWhole(file, Readable.from(['x']), damaged), /damaged/);
    assert.equal(fs.readFileSync(file, 'utf8'), before);
    assert.deepEqual(fs.readdirSync(directory), ['backup']);
  }));

test('a device or a directory is not replaced', () => {
  assert.throws(() => checkFileName('/dev/null'), /not a regular file/);
  assert.throws(() => checkFileName('/tmp'), /a directory/);
});
