/*
 * The container's control groups as the specification lists them: one directory per hierarchy. All
 * values were worked out by runtime/sys/cgroup.ts; here they are only written. A v1 group is
 * joined by the child itself through `tasks` (moving a process from outside waits for an RCU grace
 * period), the v2 group by clone3.
 */
#ifndef TSSWARM_CGROUP_H
#define TSSWARM_CGROUP_H

#include "spec.h"

#define CGROUPS_MAX 24

struct cgroups {
	size_t count;
	const char *dirs[CGROUPS_MAX];
	int is_v2[CGROUPS_MAX];
	int is_made[CGROUPS_MAX]; /* by this launch, not found */
	int v2, memory, freezer;  /* directories; -1 where the host has none */
	int memory_is_v2;
	const char *v2_dir;
	int entrance; /* for execs: the v2 directory without a way out of it or to write; -1: not yet */
	size_t join_count;
	int joins[CGROUPS_MAX];   /* v1 `tasks` files */
};

/* The nursery leaves the daemon's groups. v2 groups are joined by forking into them. */
int cgroup_leave_daemon(const struct spec *spec, struct failure *failure);
/* Makes the directories and writes the limits. */
int cgroups_create(struct cgroups *groups, const struct spec *spec, struct failure *failure);
/* Those of the specification as they are, to be joined: makes and writes nothing. */
int cgroups_open(struct cgroups *groups, const struct spec *spec, struct failure *failure);
/* Copies what is needed of the specification; false when there is no memory for it. */
int cgroups_keep_paths(struct cgroups *groups);
/* In the child: joins the v1 groups. */
int cgroups_join(const struct cgroups *groups, struct failure *failure);
/* Opens them again by path, for a process that comes later to join. */
int cgroups_open_joins(struct cgroups *groups, struct failure *failure);
/*
 * The v2 directory as a process may have it that the container sees before it is done: read-only,
 * and what is above it cannot be reached. -1 where there is none.
 */
int cgroups_entrance(struct cgroups *groups);
/* SIGKILL to every process in the container, frozen or not. */
void cgroups_kill(const struct cgroups *groups);
/* A process that was sent SIGKILL dies even where frozen ones do not: on a v1 host they go on. */
void cgroups_let_die(const struct cgroups *groups);
/* 0, or errno. */
int cgroups_freeze(const struct cgroups *groups, int frozen);
/* Whether the kernel killed a process of the container for want of memory. */
int cgroups_oom_killed(const struct cgroups *groups);
/*
 * Removes the directories; waits a bounded time for the last process to be gone. False when
 * something is left.
 */
int cgroups_remove(struct cgroups *groups);
/* Leaves alone what was there before; else all that runs in them is killed. */
void cgroups_remove_made(struct cgroups *groups);

#endif
