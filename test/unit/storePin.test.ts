/** A pin read slowly: what a snapshot does while the store moves on. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Store } from '../../manager/store/store.ts';
import type { Change } from '../../manager/store/types.ts';
import type { Task } from '../../model/types.ts';
import { makeTask } from '../support/agentParts.ts';
import { service } from '../support/objects.ts';
import { fc } from '../support/properties.ts';

test('who reads a pin and pauses sees each task of then once, whatever changes meanwhile', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.stringMatching(/^[a-z]{2,4}$/), { minLength: 1, maxLength: 40 }),
      fc.array(fc.tuple(fc.nat(50), fc.constantFrom('update', 'remove', 'create', 'again')), {
        maxLength: 60,
      }),
      (ids, moves) => {
        const store = new Store();
        const apply = (...changes: Change[]): void => {
          const at = store.version + 1;
          assert.deepEqual(store.apply(at, at, { atomic: false, changes }).rejected, []);
        };
        apply({ kind: 'create', table: 'service', object: { ...service('web'), id: 's' } });
        const add = (id: string, slot: number): Change => ({
          kind: 'create',
          table: 'task',
          object: makeTask(id, { task: { serviceId: 's', slot, version: 0 } }),
        });
        apply(...ids.map((id, at) => add(id, at + 1)));
        const then = [...store.all('task')];
        const pin = store.pin();
        const seen: Task[] = [];
        let next = 0;
        const move = (): void => {
          const [at, kind] = moves[next % Math.max(1, moves.length)] ?? [0, 'update'];
          next += 1;
          const id = ids[at % ids.length];
          const now = store.get('task', id);
          if (kind === 'create') apply(add(`new${next}`, 1000 + next));
          else if (kind === 'again' && now === undefined) apply(add(id, 2000 + next));
          else if (now === undefined) return;
          else if (kind === 'remove') apply({ kind: 'remove', table: 'task', id });
          else apply({ kind: 'update', table: 'task', object: { ...now, notBeforeMs: next } });
        };
        move();
        for (const each of pin.all('task')) {
          seen.push(each);
          move();
        }
        const byId = (left: Task, right: Task): number => (left.id < right.id ? -1 : 1);
        assert.deepEqual(seen.sort(byId), then.sort(byId));
        assert.equal(pin.count('task'), then.length);
        pin.release();
      },
    ),
    { numRuns: 200, seed: 5 },
  );
});
