/* Builds and enters the container's file system; rules in rootfs.h. */
#include "rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "beneath.h"
#include "devices.h"
#include "kernel.h"
#include "layers.h"
#include "moveroot.h"
#include "mounts.h"
#include "newfs.h"

#define DETACHED_TRIES 2
#define NET_SYSCTLS "sys/net/"

/* Opened before the container's user namespace was entered; -1: it is opened here. */
static int early_root = -1;

static int is_in_place(const struct record *record)
{
	return (record_u32(record, 0) & READONLY_IN_PLACE) != 0;
}

static int make_readonly(int root, const struct record *record, struct failure *failure)
{
	const char *path = record_string(record, 4, 0);
	if (path == NULL)
		return fail(failure, 0, "a read-only path is malformed");
	int target = k_openat2(root, path, O_PATH | O_CLOEXEC, 0, IN_ROOT);
	if (target < 0)
		return errno == ENOENT ? 0 : fail(failure, errno, "cannot open %s", path);
	int result = 0;
	if (is_in_place(record)) {
		if (k_mount_setattr(target, "", K_AT_EMPTY_PATH, K_MOUNT_ATTR_RDONLY, 0) < 0)
			result = fail(failure, errno, "cannot make %s read-only", path);
	} else {
		int copy = k_open_tree(target, "", K_OPEN_TREE_CLONE | K_AT_RECURSIVE |
							   K_AT_EMPTY_PATH | O_CLOEXEC);
		if (copy < 0 ||
		    k_mount_setattr(copy, "", K_AT_EMPTY_PATH | K_AT_RECURSIVE,
				    K_MOUNT_ATTR_RDONLY, 0) < 0 ||
		    k_move_mount(copy, target) < 0)
			result = fail(failure, errno, "cannot make %s read-only", path);
		close_fd(&copy);
	}
	close_fd(&target);
	return result;
}

/* Covers a file with /dev/null, a directory with one empty read-only file system, shared by all. */
static int make_mask(int root, int null, int *empty, const char *path, struct failure *failure)
{
	int target = k_openat2(root, path, O_PATH | O_CLOEXEC, 0, IN_ROOT);
	if (target < 0)
		return errno == ENOENT ? 0 : fail(failure, errno, "cannot open %s", path);
	struct stat status;
	int copy = -1, result = -1;
	if (fstat(target, &status) < 0)
		goto out;
	if (S_ISDIR(status.st_mode) && *empty < 0) {
		for (int i = 0; i < DETACHED_TRIES && *empty < 0; i++)
			*empty = newfs_tmpfs("nr_inodes", "1", K_MOUNT_ATTR_RDONLY);
		/* The first is moved, later ones are its clones: before Linux 6.15 a mount that is
		 * not attached anywhere cannot be cloned. */
		if (*empty >= 0)
			result = k_move_mount(*empty, target);
		goto out;
	}
	if (S_ISDIR(status.st_mode)) {
		copy = k_open_tree(*empty, "", K_OPEN_TREE_CLONE | K_AT_EMPTY_PATH | O_CLOEXEC);
	} else {
		copy = k_open_tree(null, "", K_OPEN_TREE_CLONE | K_AT_EMPTY_PATH | O_CLOEXEC);
	}
	if (copy >= 0)
		result = k_move_mount(copy, target);
out:
	if (result < 0)
		fail(failure, errno, "cannot mask %s", path);
	close_fd(&copy);
	close_fd(&target);
	return result;
}

static int make_one(int root, int null, int *empty, const struct spec *spec, size_t at,
		    const struct record *record, struct failure *failure)
{
	const char *path;
	switch (record->tag) {
	case TAG_MOUNT:
		return mounts_make(root, spec, at, record, failure);
	case TAG_DEVICE:
		return devices_make(root, record, failure);
	case TAG_SYMLINK:
		return devices_link(root, record, failure);
	case TAG_READONLY: /* in place: later, see rootfs_seal */
		return is_in_place(record) ? 0 : make_readonly(root, record, failure);
	case TAG_MASK:
		path = record_string(record, 0, 0);
		return path == NULL ? fail(failure, 0, "a masked path is malformed")
				    : make_mask(root, null, empty, path, failure);
	default:
		return 0;
	}
}

/* The host's /dev/null, and nothing that only goes by its name. */
static int open_null(struct failure *failure)
{
	struct stat status;
	int null = open("/dev/null", O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (null >= 0 && fstat(null, &status) == 0 && S_ISCHR(status.st_mode) &&
	    status.st_rdev == makedev(1, 3))
		return null;
	close_fd(&null);
	return fail(failure, 0, "the host's /dev/null is not the null device");
}

/* Nothing mounted here may show on the host, and nothing of the host's may arrive later. */
static int leave_host_mounts(struct failure *failure)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return fail(failure, errno, "cannot make the mount namespace private");
	return 0;
}

int rootfs_open_as_host(const struct spec *spec, int user, uint32_t created,
			struct failure *failure)
{
	if (unshare(CLONE_NEWNS) < 0)
		return fail(failure, errno, "cannot make a mount namespace");
	if (mounts_open_early(spec, user, failure) < 0 || leave_host_mounts(failure) < 0)
		return -1;
	early_root = layers_open(spec, failure);
	if (early_root < 0 || mounts_open_as_host(spec, user, created, failure) < 0)
		return -1;
	return user < 0 ? 0 : devices_open_as_host(spec, failure);
}

/* The root of a user namespace may not get as far as the place on the host: then it is "/". */
static int attach_root(int root, const char *path, struct failure *failure)
{
	int place = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (place < 0 && (errno == EACCES || errno == ENOENT))
		place = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int result = 0;
	if (place < 0 || k_move_mount(root, place) < 0)
		result = fail(failure, errno, "cannot attach the container's root");
	close_fd(&place);
	return result;
}

static int open_root(const struct spec *spec, struct failure *failure)
{
	if (early_root >= 0)
		return early_root;
	if (mounts_open_early(spec, -1, failure) < 0 || leave_host_mounts(failure) < 0)
		return -1;
	return layers_open(spec, failure);
}

int rootfs_build(const struct spec *spec, struct failure *failure)
{
	int null = open_null(failure), empty = -1, result = -1;
	int root = null < 0 ? -1 : open_root(spec, failure);
	struct record record;
	if (root >= 0)
		result = attach_root(root, layers_place(spec), failure);
	for (size_t at = 0; result == 0 && spec_next(spec, &at, 0, &record);)
		result = make_one(root, null, &empty, spec, at, &record, failure);
	beneath_forget();
	close_fd(&empty);
	close_fd(&null);
	if (result < 0)
		close_fd(&root);
	return root;
}

static int write_sysctl(int proc, const struct record *record, struct failure *failure)
{
	const char *file = record_string(record, 4, 0), *value = record_string(record, 4, 1);
	if (file == NULL || value == NULL)
		return fail(failure, 0, "a sysctl is malformed");
	int fd = k_openat2(proc, file, O_WRONLY | O_CLOEXEC, 0, PROC_PLAIN), result = 0;
	if ((fd < 0 || write_all(fd, value, strlen(value)) < 0) && record_u32(record, 0) == 0)
		result = fail(failure, errno, "cannot set the sysctl %s to %s", file, value);
	close_fd(&fd);
	return result;
}

int rootfs_sysctls(const struct spec *spec, enum sysctls which, struct failure *failure)
{
	int proc = -1, result = 0;
	struct record record;
	for (size_t at = 0; result == 0 && spec_next(spec, &at, TAG_SYSCTL, &record);) {
		const char *file = record_string(&record, 4, 0);
		int is_net = file != NULL && strncmp(file, NET_SYSCTLS, strlen(NET_SYSCTLS)) == 0;
		if (which != SYSCTLS_ALL && is_net != (which == SYSCTLS_NET))
			continue;
		if (proc < 0 && (proc = newfs_proc(failure)) < 0)
			return -1;
		result = write_sysctl(proc, &record, failure);
	}
	close_fd(&proc);
	return result;
}

int rootfs_seal(const struct spec *spec, int root, struct failure *failure)
{
	struct record record;
	for (size_t at = 0; spec_next(spec, &at, TAG_READONLY, &record);)
		if (is_in_place(&record) && make_readonly(root, &record, failure) < 0)
			return -1;
	return 0;
}

int rootfs_protect(int root, struct failure *failure)
{
	if (k_mount_setattr(root, "", K_AT_EMPTY_PATH, K_MOUNT_ATTR_RDONLY, 0) < 0)
		return fail(failure, errno, "cannot make the container's root read-only");
	return 0;
}

/* What is mounted in the container later reaches others, or not. Private until asked for. */
static int set_propagation(const struct spec *spec, struct failure *failure)
{
	uint32_t flags = spec_u32(spec, TAG_ROOT_PROPAGATION, 0);
	if (flags != 0 && mount(NULL, "/", NULL, flags, NULL) < 0)
		return fail(failure, errno, "cannot set the propagation of the container's root");
	return 0;
}

int rootfs_enter(const struct spec *spec, int root, struct failure *failure)
{
	if (spec_u32(spec, TAG_FLAGS, 0) & SPEC_NO_PIVOT)
		return moveroot_enter(root, layers_place(spec), failure) < 0
			       ? -1
			       : set_propagation(spec, failure);
	return newfs_enter(root, failure) < 0 ? -1 : set_propagation(spec, failure);
}

int rootfs_directory(const char *path, int make)
{
	int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return -1;
	int fd = make ? beneath_directory(root, path, IN_ROOT)
		      : k_openat2(root, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, IN_ROOT);
	int error = errno;
	close_fd(&root);
	errno = error;
	return fd;
}
