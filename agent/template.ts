/**
 * Docker's templates in a task's env, hostname and mounts: {{.Service.ID}}, {{.Service.Name}},
 * {{.Service.Labels.x}}, {{.Node.ID}}, {{.Node.Hostname}}, {{.Node.Platform.OS}},
 * {{.Node.Platform.Architecture}}, {{.Task.ID}}, {{.Task.Name}}, {{.Task.Slot}}; a label whose name
 * is no identifier as {{index .Service.Labels "a.b"}}. In the data of secrets and configs also
 * {{env "X"}}, {{secret "target"}} and {{config "target"}}, of the same task. Anything else between
 * {{ }} is refused with what it said; nothing is evaluated.
 */
import { SwarmError } from '../base/errors.ts';
import type { Labels } from '../model/types.ts';

export interface TemplateContext {
  readonly service: { readonly id: string; readonly name: string; readonly labels: Labels };
  readonly node: {
    readonly id: string;
    readonly hostname: string;
    readonly os: string;
    readonly architecture: string;
  };
  readonly task: { readonly id: string; readonly name: string; readonly slot: number };
}

/** Of a template that is wrong: enough to find it. */
const SHOWN_CHARACTERS = 80;

const KNOWN =
  '.Service.ID .Service.Name .Service.Labels.<name> .Node.ID .Node.Hostname ' +
  '.Node.Platform.OS .Node.Platform.Architecture .Task.ID .Task.Name .Task.Slot';

/** `text` with its templates replaced. SwarmError invalid names `field` and the bad template. */
export function expand(text: string, field: string, context: TemplateContext): string {
  if (!text.includes('{{')) return text;
  return replaced(text, field, KNOWN, (path) => lookUp(path, context));
}

function replaced(
  text: string,
  field: string,
  known: string,
  find: (path: string) => string | undefined,
): string {
  return text.replace(/\{\{(.*?)(\}\}|$)/gs, (whole, inner: string, close: string) => {
    const shown = whole.slice(0, SHOWN_CHARACTERS);
    if (close === '') {
      throw new SwarmError('invalid', `${field}: template "${shown}" is not closed: add }}`);
    }
    const value = find(inner.replace(/^-\s|\s-$/g, '').trim());
    if (value !== undefined) return value;
    throw new SwarmError('invalid', `${field}: unknown template "${shown}"; known are ${known}`);
  });
}

/** What the data of a secret or config may name besides the task. */
export interface PayloadSources {
  readonly env: readonly string[];
  /** By the target that the task names it with; undefined when it does not. */
  readonly data: (table: 'secret' | 'config', target: string) => Uint8Array | undefined;
}

const CALL = /^(env|secret|config)\s+(?:"((?:[^"\\]|\\["\\])*)"|`([^`]*)`)$/;

/** Bytes that are no text stay what they are. SwarmError invalid, which shows no data. */
export function expandPayload(
  payload: Uint8Array,
  field: string,
  context: TemplateContext,
  sources: PayloadSources,
): Uint8Array {
  // One character for each byte on the way, so that nothing is lost.
  const inBytes = (text: string): string => Buffer.from(text, 'utf8').toString('latin1');
  const find = (path: string): string | undefined => {
    const call = CALL.exec(path);
    if (call === null) {
      const value = lookUp(Buffer.from(path, 'latin1').toString('utf8'), context);
      return value === undefined ? undefined : inBytes(value);
    }
    const name = Buffer.from(call[3] ?? call[2].replace(/\\(.)/g, '$1'), 'latin1').toString('utf8');
    if (call[1] === 'env') return inBytes(envValue(sources.env, name));
    const table = call[1] === 'secret' ? 'secret' : 'config';
    const data = sources.data(table, name);
    if (data !== undefined) return Buffer.from(data).toString('latin1');
    throw new SwarmError('invalid', `${field}: ${table} target ${name} not found`);
  };
  const text = Buffer.from(payload).toString('latin1');
  if (!text.includes('{{')) return payload;
  const known = `${KNOWN} env secret config`;
  return Buffer.from(replaced(text, field, known, find), 'latin1');
}

/** The last entry of that name counts. */
function envValue(env: readonly string[], name: string): string {
  const entry = env.findLast((each) => each === name || each.startsWith(`${name}=`));
  return entry === undefined ? '' : entry.slice(name.length + 1);
}

function lookUp(path: string, context: TemplateContext): string | undefined {
  const label =
    /^\.Service\.Labels\.([A-Za-z_]\w*)$/.exec(path) ??
    /^index \.Service\.Labels "([^"]*)"$/.exec(path);
  if (label !== null) {
    const { labels } = context.service;
    return Object.hasOwn(labels, label[1]) ? labels[label[1]] : '';
  }
  switch (path) {
    case '.Service.ID':
      return context.service.id;
    case '.Service.Name':
      return context.service.name;
    case '.Node.ID':
      return context.node.id;
    case '.Node.Hostname':
      return context.node.hostname;
    case '.Node.Platform.OS':
      return context.node.os;
    case '.Node.Platform.Architecture':
      return context.node.architecture;
    case '.Task.ID':
      return context.task.id;
    case '.Task.Name':
      return context.task.name;
    case '.Task.Slot':
      return String(context.task.slot);
    default:
      return undefined;
  }
}
