/** Image references: what is parsed says itself again, in its full and its familiar form. */
import assert from 'node:assert/strict';
import {
  familiarReference,
  formatReference,
  parseReference,
} from '../../../runtime/image/reference.ts';
import type { FuzzTarget } from '../target.ts';
import { one } from '../target.ts';

const DOMAINS = ['', 'docker.io/', 'index.docker.io/', 'localhost/', 'localhost:5000/', '[::1]:5/'];
const PARTS = ['web', 'library/web', 'a/b/c', 'a__b', 'a-b--c.d', 'A', 'x'.repeat(250)];
const TAGS = ['', ':1', ':latest', ':', `:${'t'.repeat(128)}`, ':a.b-c_d'];
const DIGESTS = ['', `@sha256:${'0'.repeat(64)}`, `@sha256:${'F'.repeat(64)}`, '@sha512:00', '@'];

export const target: FuzzTarget = {
  words: ['/', ':', '@', '[', ']', '.', '__', '-', 'sha256:', 'docker.io', 'library/', '\n'],
  generate: (random) =>
    Buffer.from([DOMAINS, PARTS, TAGS, DIGESTS].map((choices) => one(random, choices)).join('')),
  run(input) {
    const parsed = parseReference(Buffer.from(input).toString());
    const full = formatReference(parsed);
    assert.deepEqual(parseReference(full), parsed, full);
    const familiar = familiarReference(full);
    assert.deepEqual(parseReference(familiar), parsed, familiar);
  },
};
