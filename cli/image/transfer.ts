/**
 * Images on their way: pull, push and load, with the daemon's progress: redrawn in place on a
 * terminal, else one line a change of a layer.
 */
import { formatSize } from '../../base/bytes.ts';
import { SwarmError } from '../../base/errors.ts';
import { jsonLines } from '../client.ts';
import type { Context, Terminal } from '../context.ts';
import { authHeader, credentialsFor } from '../registryAuth.ts';
import { tagged } from '../service/pinned.ts';

interface ProgressJson {
  readonly stream?: string;
  readonly status?: string;
  readonly id?: string;
  readonly error?: string;
  readonly aux?: { readonly Tag?: string; readonly Digest?: string };
  readonly progressDetail?: { readonly current?: number; readonly total?: number };
}

const BAR_WIDTH = 30;

function howFar({ progressDetail }: ProgressJson): string {
  const { current, total } = progressDetail ?? {};
  if (current === undefined) return '';
  if (total === undefined || total <= 0) return ` ${formatSize(current)}`;
  const filled = Math.min(BAR_WIDTH, Math.floor((BAR_WIDTH * current) / total));
  const bar = `${'='.repeat(filled)}>`.slice(0, BAR_WIDTH).padEnd(BAR_WIDTH);
  return ` [${bar}] ${formatSize(current)}/${formatSize(total)}`;
}

/** Shows the steps of a stream; SwarmError invalid with the one that tells an error. */
export async function showProgress(
  stream: AsyncIterable<Uint8Array>,
  out: Terminal,
  quiet: boolean,
): Promise<void> {
  const rows: string[] = [];
  const last = new Map<string, string>();
  for await (const step of jsonLines<ProgressJson>(stream)) {
    if (step.error !== undefined) throw new SwarmError('invalid', step.error);
    if (quiet || step.aux !== undefined) continue;
    const { id, status = '' } = step;
    if (id === undefined || !/^[0-9a-f]{12}$/.test(id)) {
      out.write(step.stream ?? (id === undefined ? `${status}\n` : `${id}: ${status}\n`));
      // What was drawn before stays above.
      rows.length = 0;
      continue;
    }
    if (!out.isTty) {
      // Each change of a layer's status is a line; how far it is would be thousands.
      if (last.get(id) !== status) out.write(`${id}: ${status}\n`);
      last.set(id, status);
      continue;
    }
    const text = `${id}: ${status}${howFar(step)}`.slice(0, out.columns - 1);
    const at = rows.indexOf(id);
    if (at < 0) {
      rows.push(id);
      out.write(`${text}\n`);
    } else {
      const up = rows.length - at;
      out.write(`\x1b[${up}A\r\x1b[2K${text}\x1b[${up}B\r`);
    }
  }
}

export interface PullOptions {
  readonly quiet: boolean;
  readonly platform?: string;
  readonly allTags?: boolean;
  /** For commands whose own output is something else. */
  readonly toStderr?: boolean;
}

export async function pullImage(
  context: Context,
  reference: string,
  options: PullOptions,
): Promise<void> {
  const { allTags = false, quiet, platform } = options;
  if (allTags && (reference.includes('@') || /:[^/]+$/.test(reference))) {
    throw new SwarmError('invalid', '--all-tags goes with a name without a tag');
  }
  const name = allTags ? reference : tagged(reference);
  const stream = await context.client.stream('POST', '/images/create', {
    query: { fromImage: name, platform },
    headers: authHeader(await credentialsFor(reference)),
    signal: context.signal,
  });
  const out = options.toStderr === true ? context.err : context.out;
  await showProgress(stream, out, quiet);
  if (options.toStderr !== true) context.out.write(`${name}\n`);
}

interface PushOptions {
  readonly quiet: boolean;
  readonly platform?: string;
  readonly allTags: boolean;
}

export async function pushImage(
  context: Context,
  reference: string,
  options: PushOptions,
): Promise<void> {
  if (reference.includes('@')) {
    throw new SwarmError('invalid', `${reference}: a digest cannot be pushed to, name a tag`);
  }
  const name = options.allTags ? reference : tagged(reference);
  const colon = /:[^/]+$/.exec(name);
  const repository = colon === null ? name : name.slice(0, colon.index);
  const auth = authHeader(await credentialsFor(reference));
  const stream = await context.client.stream(
    'POST',
    `/images/${encodeURIComponent(repository)}/push`,
    {
      query: { tag: colon === null ? undefined : colon[0].slice(1), platform: options.platform },
      // The daemon wants the header even when there is nothing to say.
      headers: Object.keys(auth).length === 0 ? { 'X-Registry-Auth': 'e30=' } : auth,
      signal: context.signal,
    },
  );
  await showProgress(stream, context.out, options.quiet);
  if (options.quiet) context.out.write(`${name}\n`);
}
