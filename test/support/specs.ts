/** Specifications that tests start from. */
import { serviceSpecFromDocker } from '../../daemon/api/docker/serviceSpec.ts';
import { Fields } from '../../daemon/api/fields.ts';
import type { ServiceSpec } from '../../model/types.ts';

/** A replicated service of the image 'web', with Docker's defaults. */
export function webService(name: string, replicas: number): ServiceSpec {
  const body = {
    Name: name,
    TaskTemplate: { ContainerSpec: { Image: 'web' } },
    Mode: { Replicated: { Replicas: replicas } },
  };
  return serviceSpecFromDocker(new Fields(body));
}
