/*
 * The way into the container's root where pivot_root is impossible, as on a root that is a ramfs:
 * its mount is moved over "/" and changed to. What of the host's lies below cannot be unmounted, so
 * its procfs and sysfs mounts go first: whoever has those may mount them anew.
 */
#ifndef TSSWARM_MOVEROOT_H
#define TSSWARM_MOVEROOT_H

#include "util.h"

/* `root` is mounted at `place`. */
int moveroot_enter(int root, const char *place, struct failure *failure);

#endif
