/* Mounts the layers; see layers.h. */
#include "layers.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/prctl.h>

#include "idmap.h"
#include "kernel.h"
#include "mounts.h"

#define OVERLAY_OPTIONS_MAX 4096
#define SECURE_NO_SETUID_FIXUP 4 /* a change of the user leaves capabilities alone */

/* Before Linux 6.8: all layers in one page of options, each by its descriptor's short path. */
static int mount_overlay_whole(const struct spec *spec, const char *upper, const char *work,
			       const char *at_path, int index_option)
{
	char options[OVERLAY_OPTIONS_MAX];
	size_t used = format_text(options, sizeof options, "lowerdir=");
	const char *separator = "";
	struct record record;
	for (size_t at = 0; spec_next(spec, &at, TAG_LOWER, &record);) {
		const char *dir = record_string(&record, 0, 0);
		/* Left open: the child's next step after all mounts is to close or exec. */
		int fd = dir == NULL ? -1 : open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			return -1;
		used += format_text(options + used, sizeof options - used,
					 "%s/proc/self/fd/%d", separator, fd);
		separator = ":";
		if (used >= sizeof options - 1) {
			errno = E2BIG;
			return -1;
		}
	}
	int upper_fd = open(upper, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int work_fd = open(work, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (upper_fd < 0 || work_fd < 0)
		return -1;
	used += format_text(options + used, sizeof options - used,
			    ",upperdir=/proc/self/fd/%d,workdir=/proc/self/fd/%d%s", upper_fd,
			    work_fd, index_option ? ",index=off" : "");
	if (used >= sizeof options - 1) {
		errno = E2BIG;
		return -1;
	}
	if (mount("overlay", at_path, "overlay", 0, options) < 0)
		return -1;
	int root = k_open_tree(AT_FDCWD, at_path, K_OPEN_TREE_CLONE | O_CLOEXEC);
	int error = errno;
	(void)umount2(at_path, MNT_DETACH); /* in a namespace that ends with the host's root */
	errno = error;
	return root;
}

/* Since Linux 6.8: one option a layer, no limit of a page. Detached; -1 when not supported. */
static int open_overlay(const struct spec *spec, const char *upper, const char *work)
{
	int fs = k_fsopen("overlay");
	if (fs < 0)
		return -1;
	int root = -1;
	struct record record;
	(void)k_fsconfig(fs, K_FSCONFIG_SET_STRING, "source", "overlay"); /* only for show */
	for (size_t at = 0; spec_next(spec, &at, TAG_LOWER, &record);) {
		const char *dir = record_string(&record, 0, 0);
		if (dir == NULL || k_fsconfig(fs, K_FSCONFIG_SET_STRING, "lowerdir+", dir) < 0)
			goto out;
	}
	if (k_fsconfig(fs, K_FSCONFIG_SET_STRING, "upperdir", upper) < 0 ||
	    k_fsconfig(fs, K_FSCONFIG_SET_STRING, "workdir", work) < 0)
		goto out;
	/* An inode index is of no use to a file system that is mounted once. */
	(void)k_fsconfig(fs, K_FSCONFIG_SET_STRING, "index", "off");
	if (k_fsconfig(fs, K_FSCONFIG_CMD_CREATE, NULL, NULL) == 0)
		root = k_fsmount(fs, 0);
out:;
	int error = errno;
	close_fd(&fs);
	errno = error;
	return root;
}

/*
 * Shows `directory` with other ids to whoever opens it in this mount namespace from now on. Not
 * the file system's root is covered but only this directory.
 */
static int cover_mapped(const char *directory, int user)
{
	int place = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int copy = place < 0 ? -1
			     : k_open_tree(place, "", K_OPEN_TREE_CLONE | K_AT_EMPTY_PATH |
							      O_CLOEXEC);
	int result = copy < 0 || mounts_map(copy, user, 0) < 0 ? -1 : k_move_mount(copy, place);
	int error = errno;
	close_fd(&copy);
	close_fd(&place);
	errno = error;
	return result;
}

/* The writable layer's two directories have to be of one mount: what holds them is shown mapped. */
static int cover_writable(const char *upper, const char *work, int user)
{
	char parent[PATH_MAX];
	const char *slash = strrchr(upper, '/');
	size_t length = slash == NULL ? 0 : (size_t)(slash - upper);
	if (length == 0 || length >= sizeof parent || strncmp(upper, work, length + 1) != 0 ||
	    strchr(work + length + 1, '/') != NULL) {
		errno = EINVAL;
		return -1;
	}
	memcpy(parent, upper, length);
	parent[length] = 0;
	return cover_mapped(parent, user);
}

static int cover_layers(const struct spec *spec, const char *upper, const char *work,
			struct failure *failure)
{
	struct idmap map = {0};
	struct record record;
	if (idmap_read(&map, spec, TAG_LAYER_MAP, failure) < 0)
		return -1;
	int user = idmap_namespace(&map, failure), result = 0;
	if (user < 0)
		return -1;
	for (size_t at = 0; result == 0 && spec_next(spec, &at, TAG_LOWER, &record);) {
		const char *dir = record_string(&record, 0, 0);
		if (dir == NULL || cover_mapped(dir, user) < 0)
			result = fail(failure, errno, "cannot map the ids of the image's layers");
	}
	if (result == 0 && cover_writable(upper, work, user) < 0)
		result = fail(failure, errno, "cannot map the ids of the writable layer");
	close_fd(&user);
	return result;
}

/* overlayfs makes its own files as whoever mounts it: with mapped layers that has to be one of the
 * map's users, with the host's rights. */
static int become_for_files(uid_t uid, gid_t gid)
{
	int bits = prctl(PR_GET_SECUREBITS);
	if (bits < 0 || prctl(PR_SET_SECUREBITS, bits | SECURE_NO_SETUID_FIXUP) < 0)
		return -1;
	setfsgid(gid);
	setfsuid(uid);
	return prctl(PR_SET_SECUREBITS, bits);
}

static int map_root(const struct spec *spec, uid_t *uid, gid_t *gid)
{
	struct record record;
	int found = 0;
	for (size_t at = 0; spec_next(spec, &at, TAG_LAYER_MAP, &record);) {
		if (record_u32(&record, 4) != 0)
			continue;
		int is_group = record_u32(&record, 0) == 1;
		*(is_group ? gid : uid) = record_u32(&record, 8);
		found |= 1 << is_group;
	}
	return found == 3;
}

const char *layers_place(const struct spec *spec)
{
	/* Any directory will do to mount layers on: the namespace is ours, the host's root goes. */
	return spec_string(spec, TAG_ROOT, spec_string(spec, TAG_EXEC_DIR, ""));
}

static int open_layers(const struct spec *spec, const char *upper, const char *work)
{
	int root = open_overlay(spec, upper, work);
	if (root >= 0 || errno != EINVAL)
		return root;
	root = mount_overlay_whole(spec, upper, work, layers_place(spec), 1);
	if (root < 0 && errno == EINVAL)
		root = mount_overlay_whole(spec, upper, work, layers_place(spec), 0);
	return root;
}

static int open_directory_root(const char *directory, struct failure *failure)
{
	struct k_mount_attr private = {.propagation = MS_PRIVATE};
	int root = k_open_tree(AT_FDCWD, directory,
			       K_OPEN_TREE_CLONE | K_AT_RECURSIVE | O_CLOEXEC);
	if (root < 0 || k_mount_change(root, 0, &private) < 0) {
		fail(failure, errno, "cannot bind the container's root %s", directory);
		close_fd(&root);
	}
	return root;
}

int layers_open(const struct spec *spec, struct failure *failure)
{
	struct record record;
	const char *upper = NULL, *work = NULL, *directory = spec_string(spec, TAG_ROOT, NULL);
	if (directory != NULL)
		return open_directory_root(directory, failure);
	for (size_t at = 0; spec_next(spec, &at, TAG_UPPER, &record);) {
		upper = record_string(&record, 0, 0);
		work = record_string(&record, 0, 1);
	}
	if (upper == NULL || work == NULL)
		return fail(failure, 0, "the specification has no writable layer");
	uid_t uid = 0;
	gid_t gid = 0;
	int is_mapped = spec_count(spec, TAG_LAYER_MAP) > 0;
	if (is_mapped && !map_root(spec, &uid, &gid))
		return fail(failure, 0, "the layers' map does not say who root is");
	if (is_mapped && cover_layers(spec, upper, work, failure) < 0)
		return -1;
	if (is_mapped && become_for_files(uid, gid) < 0)
		return fail(failure, errno, "cannot mount the image's layers with mapped ids");
	int root = open_layers(spec, upper, work), error = errno;
	if (is_mapped)
		(void)become_for_files(0, 0); /* as it was: cannot fail */
	if (root < 0)
		return fail(failure, error, "cannot mount the image's layers with overlayfs");
	return root;
}
