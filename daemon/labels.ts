/** Labels as flags give them. Reads text; knows nothing of what they are for. */
import { SwarmError } from '../base/errors.ts';

/** 'key=value' -> { key: 'value' }; SwarmError invalid otherwise. */
export function parseLabels(labels: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    labels.map((label) => {
      const at = label.indexOf('=');
      if (at < 1) throw new SwarmError('invalid', `invalid label "${label}": write key=value`);
      return [label.slice(0, at), label.slice(at + 1)];
    }),
  );
}
