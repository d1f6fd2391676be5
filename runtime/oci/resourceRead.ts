/** Reads linux.resources strictly, of a config.json and of `update --resources`. */
import { SwarmError } from '../../base/errors.ts';
import {
  type BlockResources,
  type DeviceAccess,
  type DeviceThrottle,
  type Resources,
  THROTTLES,
} from '../sys/resources.ts';
import type { Fields } from './fields.ts';

/** SwarmError invalid names the field. */
export function readResources(fields: Fields): Resources {
  const [memory, cpu] = [fields.object('memory'), fields.object('cpu')];
  const [pids, block, network] = [
    fields.object('pids'),
    fields.object('blockIO'),
    fields.object('network'),
  ];
  return {
    devices: fields.objects('devices', readRule) ?? [],
    ...(memory !== undefined && {
      memory: {
        limit: memory.number('limit', -1),
        reservation: memory.number('reservation', -1),
        swap: memory.number('swap', -1),
        kernel: memory.number('kernel', -1),
        kernelTCP: memory.number('kernelTCP', -1),
        swappiness: memory.number('swappiness', 0),
        disableOOMKiller: memory.boolean('disableOOMKiller'),
        useHierarchy: memory.boolean('useHierarchy'),
        checkBeforeUpdate: memory.boolean('checkBeforeUpdate'),
      },
    }),
    ...(cpu !== undefined && {
      cpu: {
        shares: cpu.number('shares', 0),
        quota: cpu.number('quota'),
        burst: cpu.number('burst', 0),
        period: cpu.number('period', 0),
        realtimeRuntime: cpu.number('realtimeRuntime'),
        realtimePeriod: cpu.number('realtimePeriod', 0),
        cpus: cpu.text('cpus'),
        mems: cpu.text('mems'),
        idle: cpu.number('idle'),
      },
    }),
    ...(pids !== undefined && { pids: { limit: pids.number('limit') ?? 0 } }),
    ...(block !== undefined && { blockIO: readBlockIo(block) }),
    hugepageLimits:
      fields.objects('hugepageLimits', (limit) => ({
        pageSize: limit.needText('pageSize'),
        limit: limit.needNumber('limit', 0),
      })) ?? [],
    ...(network !== undefined && {
      network: {
        classID: network.number('classID', 0),
        priorities:
          network.objects('priorities', (entry) => ({
            name: entry.needText('name'),
            priority: entry.needNumber('priority', 0),
          })) ?? [],
      },
    }),
    rdma:
      fields.mapOf('rdma', (entry) => ({
        hcaHandles: entry.number('hcaHandles', 0),
        hcaObjects: entry.number('hcaObjects', 0),
      })) ?? new Map(),
    unified: fields.map('unified') ?? {},
  };
}

function readRule(fields: Fields): DeviceAccess {
  const type = fields.text('type') ?? 'a';
  const access = fields.text('access') ?? '';
  if (!/^[abc]?$/.test(type)) {
    throw new SwarmError('invalid', `${fields.at('type')}: "${type}" is not one of a, b, c`);
  }
  return {
    allow: fields.boolean('allow') ?? false,
    type: type === 'b' || type === 'c' ? type : 'a',
    // Letters that say nothing are left out, as other runtimes do.
    access: [...(access === '' ? 'rwm' : access)].filter((one) => 'rwm'.includes(one)).join(''),
    ...number(fields, 'major'),
    ...number(fields, 'minor'),
  };
}

/** -1 stands for every number, as nothing does. */
function number(fields: Fields, name: 'major' | 'minor'): { readonly [K in typeof name]?: number } {
  const value = fields.number(name, -1);
  return value === undefined || value < 0 ? {} : { [name]: value };
}

function readBlockIo(fields: Fields): BlockResources {
  const readThrottle = (entry: Fields): DeviceThrottle => ({
    major: entry.needNumber('major', 0),
    minor: entry.needNumber('minor', 0),
    rate: entry.needNumber('rate', 0),
  });
  const throttles = THROTTLES.map((name) => [name, fields.objects(name, readThrottle) ?? []]);
  return {
    weight: fields.number('weight', 0),
    leafWeight: fields.number('leafWeight', 0),
    weightDevice:
      fields.objects('weightDevice', (entry) => ({
        major: entry.needNumber('major', 0),
        minor: entry.needNumber('minor', 0),
        weight: entry.number('weight', 0),
        leafWeight: entry.number('leafWeight', 0),
      })) ?? [],
    throttles: Object.fromEntries(throttles) as BlockResources['throttles'],
  };
}
