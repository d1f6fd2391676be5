/** docker service: all its commands and flags, by theme. */
import { serviceData } from './serviceData.ts';
import { serviceHealth } from './serviceHealth.ts';
import { serviceImages } from './serviceImages.ts';
import { serviceJobs } from './serviceJobs.ts';
import { serviceLook } from './serviceLook.ts';
import { serviceNetwork } from './serviceNetwork.ts';
import { servicePlaces } from './servicePlaces.ts';
import { serviceProgram } from './serviceProgram.ts';
import { serviceUpdates } from './serviceUpdates.ts';
import type { Suite } from './suite.ts';

export function services(suite: Suite): void {
  serviceProgram(suite);
  servicePlaces(suite);
  serviceNetwork(suite);
  serviceData(suite);
  serviceJobs(suite);
  serviceHealth(suite);
  serviceUpdates(suite);
  serviceImages(suite);
  serviceLook(suite);
}
