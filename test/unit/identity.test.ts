/**
 * What a node keeps of its membership: damage is named by file, and a crash leaves one whole pair.
 */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { hasCode } from '../../base/errors.ts';
import { SystemRandom } from '../../base/random.ts';
import { checkOwnAddress } from '../../daemon/addresses.ts';
import { Identity } from '../../daemon/identity.ts';
import { parseUnlockKey, unlockKeyText } from '../../daemon/keyFile.ts';
import { checkSkew, MAX_CLOCK_SKEW_MS } from '../../manager/ca/client.ts';
import { TestAuthority } from '../support/certificates.ts';

const NOW_MS = 1_700_000_000_000;
const authority = await TestAuthority.make(NOW_MS);
const first = await authority.node('n1', 'worker', NOW_MS);
const second = await authority.node('n1', 'manager', NOW_MS);

function scene(t: { after(done: () => void): void }) {
  const root = mkdtempSync(join(tmpdir(), 'tsswarm-identity-'));
  t.after(() => rmSync(root, { recursive: true }));
  const again = (): Identity => new Identity(root, new SystemRandom());
  return { identity: again(), again, file: (name: string) => join(root, 'swarm', name) };
}

function refusedBy(name: string): (error: unknown) => boolean {
  return (error) => {
    assert.ok(hasCode(error, 'corrupt'), String(error));
    assert.match(error.message, new RegExp(`swarm/${name} cannot be used .*restore it, or move`));
    return true;
  };
}

test('credentials come back as they were saved', (t) => {
  const { identity } = scene(t);
  identity.saveCredentials(first);
  assert.deepEqual(identity.credentials(), first);
  identity.saveCredentials(second);
  assert.deepEqual(identity.credentials(), second);
});

test('a crash between the new key and the new certificate leaves the new pair', (t) => {
  const { identity, file } = scene(t);
  identity.saveCredentials(first);
  const old = readFileSync(file('node.crt'));
  identity.saveCredentials(second);
  // As it was just before the last rename.
  renameSync(file('node.crt'), file('node.crt.new'));
  writeFileSync(file('node.crt'), old);
  assert.deepEqual(identity.credentials(), second);
  assert.deepEqual(identity.credentials(), second);
});

test('a crash before the new key took its place leaves the old pair', (t) => {
  const { identity, file } = scene(t);
  identity.saveCredentials(first);
  writeFileSync(file('node.crt.new'), second.certificate);
  assert.deepEqual(identity.credentials(), first);
});

test('each damaged file is named', async (t) => {
  const { identity, file } = scene(t);
  identity.saveCredentials(first);
  const kept = file('../kept');
  cpSync(file('.'), kept, { recursive: true });
  const foreign = await (await TestAuthority.make(NOW_MS)).node('n1', 'worker', NOW_MS);
  const damages: readonly (readonly [string, string])[] = [
    ['node.crt', 'nothing'],
    ['node.crt', foreign.certificate],
    ['node.key', 'nothing'],
    ['node.key', second.privateKey],
    ['root.crt', 'nothing'],
  ];
  for (const [name, text] of damages) {
    writeFileSync(file(name), text);
    assert.throws(() => identity.credentials(), refusedBy(name));
    rmSync(file('.'), { recursive: true });
    cpSync(kept, file('.'), { recursive: true });
  }
  writeFileSync(file('node.crt'), 'nothing');
  assert.throws(() => identity.credentials(), /node\.crt cannot be used \(not a certificate/);
  cpSync(kept, file('.'), { recursive: true });
  rmSync(file('node.key'));
  assert.throws(() => identity.credentials(), refusedBy('node.key'));
});

test('while it is locked, no key stands on disk and only the unlock key opens them', (t) => {
  const { identity, file, again } = scene(t);
  identity.saveCredentials(first);
  const raftKey = identity.raftKey();
  const lockKey = new SystemRandom().bytes(32);
  identity.setLock(lockKey);
  const text = readFileSync(file('node.key'), 'utf8');
  assert.doesNotMatch(text, /PRIVATE KEY/);
  assert.ok(!text.includes(Buffer.from(raftKey).toString('base64')));
  identity.saveCredentials(second);
  const next = again();
  assert.equal(next.isLocked, true);
  assert.throws(() => next.unlock(new SystemRandom().bytes(32)), /invalid key provided/);
  assert.equal(next.isLocked, true);
  next.unlock(lockKey);
  assert.equal(next.isLocked, false);
  assert.deepEqual(next.credentials(), second);
  assert.deepEqual(next.olderRaftKeys().map(Buffer.from), [Buffer.from(raftKey)]);
  next.setLock(undefined);
  assert.equal(again().isLocked, false);
  assert.deepEqual(again().credentials(), second);
});

test('a new lock brings a new key for Raft, and older ones stay until they are forgotten', (t) => {
  const { identity, file, again } = scene(t);
  identity.saveCredentials(first);
  const random = new SystemRandom();
  const [lockKey, nextLock] = [random.bytes(32), random.bytes(32)];
  const clear = Buffer.from(identity.raftKey());
  const hex = (keys: readonly Uint8Array[]): string[] =>
    keys.map((key) => Buffer.from(key).toString('hex'));
  const locked = identity.setLock(lockKey);
  assert.ok(locked !== undefined);
  assert.equal(identity.setLock(lockKey), undefined);
  const rotated = identity.setLock(nextLock);
  assert.ok(rotated !== undefined);
  assert.deepEqual(hex([identity.raftKey()]), hex([rotated]));
  const next = again();
  next.unlock(nextLock);
  assert.deepEqual(hex(next.olderRaftKeys()), hex([locked, clear]));
  next.saveCredentials(second);
  assert.equal(next.olderRaftKeys().length, 2);
  next.forgetOlderRaftKeys();
  assert.deepEqual(hex(next.olderRaftKeys()), []);
  assert.deepEqual(hex([next.raftKey()]), hex([rotated]));
  // In the clear there is nothing to gain from one.
  assert.equal(next.setLock(undefined), undefined);
  assert.deepEqual(hex([next.raftKey()]), hex([rotated]));
  assert.doesNotMatch(readFileSync(file('node.key'), 'utf8'), /SEALED/);
});

test('an unlock key is shown and read as Docker does', () => {
  const hex = Buffer.from(new SystemRandom().bytes(32)).toString('hex');
  const text = unlockKeyText(hex);
  assert.match(text, /^SWMKEY-1-[A-Za-z0-9+/]{43}$/);
  assert.equal(Buffer.from(parseUnlockKey(` ${text}\n`)).toString('hex'), hex);
  assert.equal(unlockKeyText(''), '');
  for (const bad of ['', 'SWMKEY-1-', text.slice(1), text.slice(0, -4)]) {
    assert.throws(() => parseUnlockKey(bad), /not an unlock key/);
  }
});

test('an address that is not this host’s is refused with both ways out', () => {
  checkOwnAddress('127.0.0.1');
  assert.throws(() => checkOwnAddress('192.0.2.7'), /has no address 192\.0\.2\.7.*give it.*leave/);
});

test('clocks may lie half a minute apart, and the one ahead is named', () => {
  const there = '10.0.0.1:2377';
  checkSkew(NOW_MS, NOW_MS + MAX_CLOCK_SKEW_MS, there);
  checkSkew(NOW_MS + MAX_CLOCK_SKEW_MS, NOW_MS, there);
  const ahead = () => checkSkew(NOW_MS + 90_000, NOW_MS, there);
  assert.throws(
    ahead,
    /clock of this host is 1m30s ahead of that of 10\.0\.0\.1:2377: set both by/,
  );
  const behind = () => checkSkew(NOW_MS, NOW_MS + 3_600_000, there);
  assert.throws(behind, /clock of 10\.0\.0\.1:2377 is 1h.* ahead of that of this host/);
});
