/** An image's name with the digest it has now, so that all tasks of a service run the same one. */
import { SwarmError } from '../../base/errors.ts';
import type { Context } from '../context.ts';
import { authHeader, credentialsFor } from '../registryAuth.ts';

interface Found {
  readonly Descriptor: { readonly digest: string };
}

/** No host could do better with the name. */
const FINAL: ReadonlySet<string> = new Set(['cancelled', 'invalid']);

/** 'web' -> 'web:latest'. */
export function tagged(image: string): string {
  return /:[^/]+$/.test(image) || image.includes('@') ? image : `${image}:latest`;
}

/** As it was given where neither this host nor the registry can tell: each host resolves it. */
export async function pinned(context: Context, given: string): Promise<string> {
  if (given.includes('@')) return given;
  const image = tagged(given);
  const path = `/distribution/${encodeURIComponent(image)}/json`;
  const headers = authHeader(await credentialsFor(given));
  try {
    const found = await context.client.json<Found>('GET', path, { headers });
    return `${image}@${found.Descriptor.digest}`;
  } catch (error) {
    if (!(error instanceof SwarmError) || FINAL.has(error.code)) throw error;
    // Each host resolves the name by itself, and may have the image under it.
    context.err.write(
      `tsswarm: image ${image} could not be accessed on a registry to record its digest: ` +
        `${error.message}. Each node will access it independently\n`,
    );
    return given;
  }
}
