/**
 * Signals by the names users write. Only Linux's numbers, which are the same on every architecture
 * this runs on; sends nothing.
 */
import { constants } from 'node:os';
import { SwarmError } from '../../base/errors.ts';

const REALTIME_FIRST = 34;
const REALTIME_LAST = 64;

/** 'SIGTERM', 'TERM', '15', 'RTMIN+3' -> the number. SwarmError invalid for anything else. */
export function parseSignal(text: string): number {
  const name = text.toUpperCase().replace(/^SIG/, '');
  const number = /^\d+$/.test(name) ? Number(name) : signalByName(name);
  if (number === undefined || number < 1 || number > REALTIME_LAST) {
    throw new SwarmError('invalid', `unknown signal "${text}": write it like SIGTERM or 15`);
  }
  return number;
}

function signalByName(name: string): number | undefined {
  const realtime = /^RT(MIN\+|MAX-)(\d+)$/.exec(name);
  if (realtime !== null) {
    const offset = Number(realtime[2]);
    return realtime[1] === 'MIN+' ? REALTIME_FIRST + offset : REALTIME_LAST - offset;
  }
  if (name === 'RTMIN') return REALTIME_FIRST;
  if (name === 'RTMAX') return REALTIME_LAST;
  return (constants.signals as Readonly<Record<string, number>>)[`SIG${name}`];
}
