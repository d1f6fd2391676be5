/*
 * The running container that a further program enters: named by its first process's pid and the
 * moment that one started, so that a number used again names nobody.
 */
#ifndef TSSWARM_TARGET_H
#define TSSWARM_TARGET_H

#include "spec.h"

/* *pidfd of the process in TAG_EXEC_TARGET. */
int target_open(const struct spec *spec, int *pidfd, struct failure *failure);
/* Who the target's root is out here; false when that is root, or nobody. */
int target_root(int pidfd, uid_t *uid, gid_t *gid);
/*
 * By the program's process: joins all namespaces of the target that it is not in, but for the pid
 * namespace, which it was cloned into. In a user namespace it becomes its root.
 */
int target_enter(int pidfd, struct failure *failure);

#endif
