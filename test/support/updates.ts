/** A service 'web' on a control plane, its updates to other images, and what is seen meanwhile. */
import { DEFAULT_UPDATE_CONFIG } from '../../model/defaults.ts';
import type { ServiceSpec, UpdateConfig } from '../../model/types.ts';
import { ControlPlane } from './controlPlane.ts';
import type { ServiceSpecFields } from './objects.ts';

export function started(replicas: number, update: Partial<UpdateConfig>, more?: ServiceSpecFields) {
  const plane = new ControlPlane();
  const config = { ...DEFAULT_UPDATE_CONFIG, ...update };
  plane.create('web', { replicas, update: config, ...more });
  plane.settle();
  return plane;
}

export function withImage(image: string): (service: { spec: ServiceSpec }) => Partial<ServiceSpec> {
  return ({ spec: { task } }) => ({
    task: { ...task, container: { ...task.container, image } },
  });
}

export function images(plane: ControlPlane): string[] {
  return plane.running('web').map((task) => task.spec.container.image);
}

/** The most slots that were without a running task at once. */
export function watchMissing(
  plane: ControlPlane,
  replicas: number,
): { most: number; check: () => void } {
  const seen = { most: 0, check: () => {} };
  seen.check = () => {
    const slots = new Set(plane.running('web').map(({ slot }) => slot));
    seen.most = Math.max(seen.most, replicas - slots.size);
  };
  return seen;
}
