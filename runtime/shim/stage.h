/*
 * The process between shim and container where the latter's namespaces cannot come with one clone3:
 * it joins the groups, makes what needs the host's rights, enters the user, time, pid and mount
 * namespaces, clones the container's first process as the shim's child, and ends.
 */
#ifndef TSSWARM_STAGE_H
#define TSSWARM_STAGE_H

#include "child.h"
#include "kernel.h"

/*
 * What clone3 with `args`, of a descriptor for the pid and a group, would do: the pid of the
 * container's first process, or -1 with the failure.
 */
pid_t stage_run(const struct spec *spec, const struct cgroups *groups, struct child_io *io,
		const struct k_clone_args *args, struct failure *failure);

#endif
