/*
 * The container's file system as a whole, built inside its own mount namespace of layers, mounts,
 * devices and covered paths. Every target is opened below the new root with
 * openat2(RESOLVE_IN_ROOT) and used by descriptor; no path inside the container is ever given to
 * the kernel as a string to mount on.
 */
#ifndef TSSWARM_ROOTFS_H
#define TSSWARM_ROOTFS_H

#include "spec.h"

enum sysctls { SYSCTLS_ALL, SYSCTLS_NET, SYSCTLS_BUT_NET };

/*
 * Opens all that needs the host's rights, for rootfs_build to find, in a mount namespace made for
 * it: the calling process is about to enter the user namespace `user` (-1: none), or to join a
 * mount or pid namespace. `created`: the kinds of namespaces that are to belong to it.
 */
int rootfs_open_as_host(const struct spec *spec, int user, uint32_t created,
			struct failure *failure);
/*
 * Mounts the layers and all that the specification puts on them. Returns the new root, a
 * descriptor.
 */
int rootfs_build(const struct spec *spec, struct failure *failure);
/* Makes mounts read-only in which something was still to be made: a console, what hooks do. */
int rootfs_seal(const struct spec *spec, int root, struct failure *failure);
/* Makes `root` the root and lets go of the host's. */
int rootfs_enter(const struct spec *spec, int root, struct failure *failure);
/* Makes the root file system read-only; what is mounted on it stays as it is. */
int rootfs_protect(int root, struct failure *failure);
/* Writes the sysctls through a procfs of our own, which nothing in the image can cover. */
int rootfs_sysctls(const struct spec *spec, enum sysctls which, struct failure *failure);
/*
 * Opens a directory inside the container, after rootfs_enter; `make`: and what is missing of it is
 * made. A link of /proc is not followed: it may lead to a descriptor of the host's. -1 and errno.
 */
int rootfs_directory(const char *path, int make);

#endif
