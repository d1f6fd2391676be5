/*
 * The running container that a further program enters: named by its first process's pid and the
 * moment that one started, so that a number used again names nobody. And what else /proc tells of a
 * program's process.
 */
#ifndef TSSWARM_TARGET_H
#define TSSWARM_TARGET_H

#include "spec.h"

/* When the process started: field 22 of /proc/<pid>/stat. -1 when there is none. */
int target_start_ticks(pid_t pid, uint64_t *ticks);
/*
 * Whether a child, whose status socket has ended, executed its program: that socket ends, too, when
 * it is killed before. It is not waited for yet. `spec_flags`: its specification's.
 */
int target_was_executed(pid_t pid, uint32_t spec_flags);
/* *pidfd of the process in TAG_EXEC_TARGET. */
int target_open(const struct spec *spec, int *pidfd, struct failure *failure);
/* Who the target's root is out here; false when that is root, or nobody. */
int target_root(int pidfd, uid_t *uid, gid_t *gid);
/* The kinds (CLONE_NEW*) of the target's namespaces, but for pid, that this process is not in. */
int target_differing(int pidfd, struct failure *failure);
/* Joins these kinds; in a user namespace the process becomes its root. */
int target_enter(int pidfd, int kinds, struct failure *failure);
/*
 * The v2 group that the target is in where it lies below `group`, whose path is `own`: a descriptor,
 * or -1.
 */
int target_group(int pidfd, int group, const char *own);

#endif
