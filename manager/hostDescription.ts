/**
 * What a host says of itself, before it is believed: it is replicated, and shown on terminals, so
 * it is short and plain. Decides nothing else.
 */
import { SwarmError } from '../base/errors.ts';
import type { NodeDescription } from '../model/types.ts';

const MAX_TEXT = 255;
const MAX_LABELS = 64;
const MAX_RESOURCES = 256;
/** Control characters, which a terminal would obey. */
const CONTROL = /\p{Cc}/u;

function checkText(text: string, what: string): void {
  if (text.length <= MAX_TEXT && !CONTROL.test(text)) return;
  throw new SwarmError(
    'invalid',
    `the host's ${what} is not plain text of at most ${MAX_TEXT} characters: set another`,
  );
}

/** The same description; SwarmError invalid naming what is wrong with it. */
export function checkDescription(description: NodeDescription): NodeDescription {
  const { hostname, os, architecture, kernel, engineVersion, machineId } = description;
  const texts = { hostname, os, architecture, kernel, engineVersion, machineId };
  for (const [what, text] of Object.entries(texts)) checkText(text, what);
  const labels = Object.entries(description.engineLabels);
  if (labels.length > MAX_LABELS) {
    throw new SwarmError('invalid', `the host has more than ${MAX_LABELS} labels: give it fewer`);
  }
  for (const [name, value] of labels) {
    checkText(name, 'label');
    checkText(value, `label ${name}`);
  }
  const { genericResources } = description;
  if (genericResources.length > MAX_RESOURCES) {
    throw new SwarmError(
      'invalid',
      `the host offers more than ${MAX_RESOURCES} resources: name fewer`,
    );
  }
  for (const { kind, name } of genericResources) checkText(`${kind}=${name}`, 'generic resource');
  return description;
}
