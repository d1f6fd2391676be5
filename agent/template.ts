/**
 * Docker's templates in a task's env, hostname and mounts: {{.Service.ID}}, {{.Service.Name}},
 * {{.Service.Labels.x}}, {{.Node.ID}}, {{.Node.Hostname}}, {{.Node.Platform.OS}},
 * {{.Node.Platform.Architecture}}, {{.Task.ID}}, {{.Task.Name}}, {{.Task.Slot}}; a label whose name
 * is no identifier as {{index .Service.Labels "a.b"}}. Anything else between {{ }} is refused with
 * what it said; nothing is evaluated.
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

const KNOWN =
  '.Service.ID .Service.Name .Service.Labels.<name> .Node.ID .Node.Hostname ' +
  '.Node.Platform.OS .Node.Platform.Architecture .Task.ID .Task.Name .Task.Slot';

/** `text` with its templates replaced. SwarmError invalid names `field` and the bad template. */
export function expand(text: string, field: string, context: TemplateContext): string {
  if (!text.includes('{{')) return text;
  return text.replace(/\{\{(.*?)(\}\}|$)/gs, (whole, inner: string, close: string) => {
    if (close === '') {
      throw new SwarmError('invalid', `${field}: template "${whole}" is not closed: add }}`);
    }
    const value = lookUp(inner.replace(/^-\s|\s-$/g, '').trim(), context);
    if (value !== undefined) return value;
    throw new SwarmError('invalid', `${field}: unknown template "${whole}"; known are ${KNOWN}`);
  });
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
