/*
 * The process between shim and container where the latter's namespaces cannot come with one clone3:
 * it joins the groups, makes what needs the host's rights, enters the user, time, pid and mount
 * namespaces, clones the container's first process as the shim's child, and ends. An exec's process
 * comes by one, too: it is seen in the container from its first moment on, and must have left the
 * host by then. So must the first process of a container in somebody else's pid namespace: there
 * this process does all that the first one does elsewhere, and gives birth to it at the end
 * (birth.h).
 */
#ifndef TSSWARM_STAGE_H
#define TSSWARM_STAGE_H

#include "attendant.h"
#include "child.h"
#include "kernel.h"

/* Who is to work beside the container's process, and its end of their socket; -1: nobody is. */
struct beside {
	struct attendant *attendant;
	int socket;
};

/*
 * What clone3 with `args`, of a descriptor for the pid and a group, would do: the pid of the
 * program's process, or -1 with the failure; -EBUSY when an exec's group takes no process. Starts
 * who works `beside` this process where that is what hooks are run for.
 */
pid_t stage_run(const struct spec *spec, struct cgroups *groups, struct child_io *io,
		const struct k_clone_args *args, const struct beside *beside,
		struct failure *failure);

#endif
