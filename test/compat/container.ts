/** docker container: the cases of all its commands. */
import { containerFiles } from './containerFiles.ts';
import { containerInside } from './containerInside.ts';
import { containerLife } from './containerLife.ts';
import { containerLook } from './containerLook.ts';
import { containerNetwork } from './containerNetwork.ts';
import { containerProcess } from './containerProcess.ts';
import { containerResources } from './containerResources.ts';
import { containerSecurity } from './containerSecurity.ts';
import type { Suite } from './suite.ts';

export function containers(suite: Suite): void {
  containerResources(suite);
  containerNetwork(suite);
  containerSecurity(suite);
  containerFiles(suite);
  containerProcess(suite);
  containerLife(suite);
  containerLook(suite);
  containerInside(suite);
}
