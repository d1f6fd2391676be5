/**
 * Times in queries and filters: Unix seconds, RFC 3339, a date without a zone (this host's), or an
 * age in Go's words ('24h').
 */
import { parseDuration } from '../../base/duration.ts';
import { SwarmError } from '../../base/errors.ts';

/** Unix ms. SwarmError invalid, naming `name`. */
export function readTimeOrAge(text: string, name: string, nowMs: number): number {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1000;
  if (/^\d{4}-\d{2}-\d{2}/.test(text)) {
    // A date alone would be read as UTC; Docker takes the daemon's own time.
    const ms = Date.parse(text.length === 'yyyy-mm-dd'.length ? `${text}T00:00:00` : text);
    if (Number.isFinite(ms)) return ms;
  } else if (/^\d/.test(text)) {
    return nowMs - parseDuration(text);
  }
  throw new SwarmError(
    'invalid',
    `${name}: "${text}" is no time: use an age like 24h, Unix seconds or RFC 3339`,
  );
}
