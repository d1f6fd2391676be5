/** The daemon's configuration file: Docker's keys, and what is wrong with it said by its key. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfig } from '../../cli/configFile.ts';

const never = (): boolean => false;

test('keys of daemon.json become the flags they stand for', () => {
  const text = JSON.stringify({
    'insecure-registries': ['a:5000', '10.0.0.0/8'],
    'registry-mirrors': ['https://m'],
    'max-concurrent-downloads': 6,
    'log-level': 'debug',
  });
  assert.deepEqual(parseConfig(text, 'f', never), {
    insecureRegistry: ['a:5000', '10.0.0.0/8'],
    registryMirror: ['https://m'],
    maxConcurrentDownloads: 6,
    logLevel: 'debug',
  });
  assert.deepEqual(parseConfig('', 'f', never), {});
});

test('an unknown key, a wrong value and a key given as a flag too are refused by name', () => {
  const refused = (value: unknown, reason: RegExp, isGiven = never): void => {
    assert.throws(() => parseConfig(JSON.stringify(value), '/d.json', isGiven), reason);
  };
  refused({ 'insecure-registry': [] }, /don't match any configuration option: insecure-registry /);
  refused({ 'registry-mirrors': 'https://m' }, /registry-mirrors must be a list of strings/);
  refused({ 'max-concurrent-uploads': 0 }, /max-concurrent-uploads must be a whole number above 0/);
  refused(
    { 'data-root': '/x' },
    /both as a flag and in the configuration file: data-root/,
    () => true,
  );
  refused([], /must be a JSON object/);
  assert.throws(() => parseConfig('{', '/d.json', never), /\/d\.json is not valid JSON/);
});
