/*
 * Makes the process that becomes a program: a container's first, or an exec's. Opens what it needs
 * from outside (streams, status socket, gate, namespaces to join), clones it, and starts its
 * attendant where there is work for one. What becomes of it afterwards is the caller's concern.
 */
#ifndef TSSWARM_LAUNCH_H
#define TSSWARM_LAUNCH_H

#include "attendant.h"
#include "cgroup.h"
#include "spec.h"

struct launch {
	const struct spec *spec;
	struct cgroups *groups;
	int target;       /* of an exec: pidfd of the process whose namespaces it joins; else -1 */
	pid_t pid;
	int pidfd, status;
	int in, out, err; /* our ends of its streams; -1 with a terminal, or the launcher's own */
	struct attendant attendant;
};

/* Fills the rest of `launch`. On failure nothing is left. */
int launch_start(struct launch *launch, struct failure *failure);

#endif
