/**
 * What the kernel counts outside of control groups and Docker's statistics show: the time of all
 * processors, and the traffic of a process's network namespace. Reads /proc, changes nothing.
 */
import { readFileSync } from 'node:fs';
import type { DetailedStats } from './types.ts';

type Links = DetailedStats['networks'];

/** USER_HZ, on every architecture. */
const TICK_NS = 10_000_000;
/** user, nice, system, idle, iowait, irq, softirq, steal; guests are in user already. */
const STAT_FIELDS = 8;

export function readProcessors(): { readonly systemCpuNs: number; readonly onlineCpus: number } {
  const lines = readFileSync('/proc/stat', 'utf8').split('\n');
  const ticks = lines[0]
    .trim()
    .split(/\s+/)
    .slice(1, 1 + STAT_FIELDS)
    .map(Number);
  return {
    systemCpuNs: ticks.reduce((sum, value) => sum + value, 0) * TICK_NS,
    onlineCpus: lines.filter((line) => /^cpu\d/.test(line)).length,
  };
}

/** The interfaces `pid` sees, without loopback; none when it is gone. */
export function readLinks(pid: number): Links {
  const links: Record<string, Links[string]> = {};
  for (const line of textOf(`/proc/${pid}/net/dev`).split('\n').slice(2)) {
    const [name, figures] = line.split(':');
    if (figures === undefined || name.trim() === 'lo') continue;
    const values = figures.trim().split(/\s+/).map(Number);
    links[name.trim()] = {
      rxBytes: values[0],
      rxPackets: values[1],
      rxErrors: values[2],
      rxDropped: values[3],
      txBytes: values[8],
      txPackets: values[9],
      txErrors: values[10],
      txDropped: values[11],
    };
  }
  return links;
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return ''; // it is just ending
  }
}
