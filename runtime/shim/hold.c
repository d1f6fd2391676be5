/* Holds a container's file system mounted; see hold.h. */
#include "hold.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "rootfs.h"

static int mount_all(const struct spec *spec, struct failure *failure)
{
	if (unshare(CLONE_NEWNS) < 0)
		return fail(failure, errno, "cannot make a mount namespace");
	int root = rootfs_build(spec, failure);
	if (root < 0 || rootfs_enter(spec, root, failure) < 0)
		return -1;
	int is_readonly = (spec_u32(spec, TAG_FLAGS, 0) & SPEC_READONLY_ROOT) != 0;
	return is_readonly ? rootfs_protect(root, failure) : 0;
}

int hold_run(const struct spec *spec, int socket)
{
	struct failure failure = {0};
	int flags = fcntl(socket, F_GETFL);
	(void)fcntl(socket, F_SETFL, flags & ~O_NONBLOCK); /* cannot fail on an open one */
	if (mount_all(spec, &failure) < 0) {
		(void)write_all(socket, failure.text, strlen(failure.text));
		return 1; /* whether or not anyone heard */
	}
	char byte = '\n';
	if (write_all(socket, &byte, 1) == 0)
		while (read(socket, &byte, 1) < 0 && errno == EINTR)
			continue;
	return 0;
}
