/** POST /commit: an image of what a container has written. */
import { SwarmError } from '../../../base/errors.ts';
import { committedConfig } from '../docker/commit.ts';
import { type ApiRequest, json, type Reply, type Router } from '../http.ts';
import type { ApiParts } from '../parts.ts';
import { withTag } from './imageTransfer.ts';

export function addCommitRoutes(router: Router, parts: ApiParts): void {
  router.post('/commit', (request) => commit(request, parts));
}

async function commit(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const { images, host } = parts.node;
  const key = request.text('container');
  if (key === '') throw new SwarmError('invalid', 'container is missing: name the container');
  const container = host.containers.find(key);
  const body = await request.body();
  const view = container.view();
  const imageId = view.container.config.image.id;
  const image = images.find(imageId);
  if (image === undefined) {
    throw new SwarmError(
      'conflict',
      `the image of container ${container.name} is gone: docker export and docker import make a ` +
        'new one of its files',
    );
  }
  const config = committedConfig(view, image, await images.configuration(imageId), body);
  const command = config['Cmd'];
  const made = await host.containers.commit(container, {
    reference: withTag(request.text('repo'), request.text('tag')),
    author: request.text('author'),
    comment: request.text('comment'),
    createdBy: Array.isArray(command) ? command.join(' ') : '',
    changes: request.query
      .getAll('changes')
      .flatMap((lines) => lines.split('\n'))
      .filter((line) => line.trim() !== ''),
    config,
    pause: !request.query.has('pause') || request.flag('pause'),
  });
  return json({ Id: made.id }, 201);
}
