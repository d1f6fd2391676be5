/**
 * An image of what a container has written, on top of the image it was made of. The container may
 * run: it is held still meanwhile, unless it is not to be. Holds no state.
 */
import type { CommitOptions, Image } from '../../runtime/image/types.ts';
import type { HostContext } from './context.ts';
import type { Managed } from './managed.ts';

export interface CommitRequest extends CommitOptions {
  /** '' = the image gets no name. */
  readonly reference: string;
  /** Without it, what is written meanwhile may be in the image by half. */
  readonly pause: boolean;
}

/** SwarmError as ImageStore.commit. */
export async function commitContainer(
  { images, events }: Pick<HostContext, 'images' | 'events'>,
  managed: Managed,
  request: CommitRequest,
): Promise<Image> {
  const { container } = managed;
  const { image, labels } = container.config;
  const isHeld = request.pause && container.state === 'running' && !container.paused;
  if (isHeld) await managed.pause();
  let made: Image;
  try {
    made = await images.commit(image.id, container.layer(), request.reference, request);
  } finally {
    if (isHeld && container.paused) await managed.unpause();
  }
  events.emit('container', 'commit', container.config.id, {
    ...labels,
    comment: request.comment,
    image: image.reference,
    imageID: made.id,
    imageRef: request.reference,
    name: managed.name,
  });
  return made;
}
