/*
 * The process between shim and container where the latter's namespaces cannot come with one clone3:
 * it joins the groups, makes what needs the host's rights, enters the user, time, pid and mount
 * namespaces, clones the container's first process as the shim's child, and ends. An exec's process
 * comes by one, too: it is seen in the container from its first moment on, and must have left the
 * host by then.
 */
#ifndef TSSWARM_STAGE_H
#define TSSWARM_STAGE_H

#include "child.h"
#include "kernel.h"

/*
 * What clone3 with `args`, of a descriptor for the pid and a group, would do: the pid of the
 * program's process, or -1 with the failure; -EBUSY when an exec's group takes no process.
 */
pid_t stage_run(const struct spec *spec, struct cgroups *groups, struct child_io *io,
		const struct k_clone_args *args, struct failure *failure);

#endif
