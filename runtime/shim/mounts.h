/*
 * The specification's mounts: opened detached (a clone of what is on the host, or a new file
 * system), given their attributes, ids and propagation, and only then attached below the
 * container's root by descriptor. No path inside the container is given to the kernel to mount on.
 */
#ifndef TSSWARM_MOUNTS_H
#define TSSWARM_MOUNTS_H

#include "kernel.h"
#include "spec.h"

/* An empty tmpfs that is attached out of the way: a private mount namespace's. -1 and errno. */
int mounts_shelf(const struct spec *spec);
/* Takes it away again: what was cloned of it stays. */
void mounts_leave_shelf(const struct spec *spec, int *shelf);
/* Shows `mount`, detached, with the ids of a user namespace. -1 and errno. */
int mounts_map(int mount, int user, int recursive);

/*
 * Opens what has to be opened before the container's own namespaces: what follows the host's
 * mounts. With `user` >= 0, a user namespace that is about to be joined, all that needs the host's
 * rights; `created` are the kinds of namespaces that will belong to it.
 */
int mounts_open_early(const struct spec *spec, int user, struct failure *failure);
int mounts_open_as_host(const struct spec *spec, int user, uint32_t created,
			struct failure *failure);
/* Whether the record mounts a file system of `type`, to be written to. */
int mounts_is_writable(const struct record *record, const char *type);
/* Carries out the next record; *at is behind it, as spec_next left it. In the records' order. */
int mounts_make(int root, const struct spec *spec, size_t at, const struct record *record,
		struct failure *failure);

#endif
