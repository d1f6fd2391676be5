/**
 * linux.resources.devices and the devices every container may use, as the rules of control groups.
 * Rules count in their order, a later one over an earlier one; without any, all is denied.
 */
import { SwarmError } from '../../base/errors.ts';
import { DEFAULT_DEVICE_RULES } from '../container/profile.ts';
import type { CgroupWrite } from '../sys/cgroupLimits.ts';
import { ANY, type DeviceRule, deviceAllowLine } from '../sys/deviceRules.ts';
import type { OciConfig } from './config.ts';
import type { OciDeviceRule } from './resourceTypes.ts';

const EVERYTHING: readonly DeviceRule[] = [
  { type: 'char', major: ANY, minor: ANY, access: 'rwm' },
  { type: 'block', major: ANY, minor: ANY, access: 'rwm' },
];

function coversAll(rule: OciDeviceRule): boolean {
  return rule.type === 'a' && rule.major === undefined && rule.minor === undefined;
}

function toRules(rule: OciDeviceRule): readonly DeviceRule[] {
  const { major = ANY, minor = ANY, access } = rule;
  const types = rule.type === 'a' ? (['char', 'block'] as const) : [typeOf(rule.type)];
  return types.map((type) => ({ type, major, minor, access }));
}

function typeOf(type: string): 'char' | 'block' {
  return type === 'b' ? 'block' : 'char';
}

/** v1: what is written, in order. */
export function deviceLines(config: OciConfig): readonly CgroupWrite[] {
  const line = (isAllowed: boolean, value: string): CgroupWrite => ({
    file: isAllowed ? 'devices.allow' : 'devices.deny',
    value,
    optional: false,
  });
  const lines = [line(false, 'a')];
  for (const rule of config.linux.resources.devices) {
    if (coversAll(rule)) lines.push(line(rule.allow, 'a'));
    else for (const one of toRules(rule)) lines.push(line(rule.allow, deviceAllowLine(one)));
  }
  for (const rule of DEFAULT_DEVICE_RULES) lines.push(line(true, deviceAllowLine(rule)));
  return lines;
}

/** v2: what is allowed in the end. SwarmError unsupported for an exception from "everything". */
export function allowedRules(config: OciConfig): readonly DeviceRule[] {
  let allowed: DeviceRule[] = [];
  for (const rule of config.linux.resources.devices) {
    if (coversAll(rule)) {
      allowed = rule.allow ? [...EVERYTHING] : [];
    } else if (rule.allow) {
      allowed.push(...toRules(rule));
    } else {
      const denied = toRules(rule);
      if (allowed.some((one) => denied.some((other) => overlaps(one, other)))) {
        throw new SwarmError(
          'unsupported',
          'linux.resources.devices: a rule that takes out a part of what one before it allows',
        );
      }
    }
  }
  return [...allowed, ...DEFAULT_DEVICE_RULES];
}

function overlaps(left: DeviceRule, right: DeviceRule): boolean {
  const meets = (one: number, other: number): boolean =>
    one === ANY || other === ANY || one === other;
  return (
    left.type === right.type && meets(left.major, right.major) && meets(left.minor, right.minor)
  );
}
