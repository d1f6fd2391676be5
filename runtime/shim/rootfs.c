/* Builds and enters the container's file system; rules in rootfs.h. */
#include "rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "kernel.h"

#define PROC_MAGIC 0x9fa0
#define OVERLAY_OPTIONS_MAX 4096
#define DETACHED_TRIES 2
#define FOLLOWING_MAX 64

static const uint64_t IN_ROOT = K_RESOLVE_IN_ROOT | K_RESOLVE_NO_MAGICLINKS;
static const uint64_t IN_ROOT_PLAIN = K_RESOLVE_IN_ROOT | K_RESOLVE_NO_SYMLINKS;

/* Opens `path` below `root` as a directory, making what is missing. -1 and errno on failure. */
static int open_directory(int root, const char *path, uint64_t resolve)
{
	int fd = k_openat2(root, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, resolve);
	if (fd >= 0 || errno != ENOENT || strcmp(path, ".") == 0)
		return fd;
	char parent_path[PATH_MAX];
	const char *slash = strrchr(path, '/');
	size_t length = slash == NULL ? 0 : (size_t)(slash - path);
	const char *name = slash == NULL ? path : slash + 1;
	if (length >= sizeof parent_path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(parent_path, path, length);
	parent_path[length] = 0;
	if (*name == 0) /* a trailing slash */
		return length == 0 ? -1 : open_directory(root, parent_path, resolve);
	int parent = open_directory(root, length == 0 ? "." : parent_path, resolve);
	if (parent < 0)
		return -1;
	int made = mkdirat(parent, name, 0755);
	int error = errno;
	close_fd(&parent);
	if (made < 0 && error != EEXIST) {
		errno = error;
		return -1;
	}
	return k_openat2(root, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, resolve);
}

/* Opens the directory that holds `path`, making it if missing; *name is the last component. */
static int open_parent(int root, const char *path, uint64_t resolve, const char **name)
{
	char parent[PATH_MAX];
	const char *slash = strrchr(path, '/');
	*name = slash == NULL ? path : slash + 1;
	size_t length = slash == NULL ? 0 : (size_t)(slash - path);
	if (length >= sizeof parent) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(parent, path, length);
	parent[length] = 0;
	return open_directory(root, length == 0 ? "." : parent, resolve);
}

/* Opens what is to be mounted on, a directory or (as_file) a file, making it if missing. */
static int open_target(int root, const char *path, int as_file, uint64_t resolve)
{
	if (!as_file)
		return open_directory(root, path, resolve);
	int fd = k_openat2(root, path, O_PATH | O_CLOEXEC, 0, resolve);
	if (fd >= 0 || errno != ENOENT)
		return fd;
	const char *name;
	int parent = open_parent(root, path, resolve, &name);
	if (parent < 0)
		return -1;
	fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	int error = errno;
	close_fd(&fd);
	close_fd(&parent);
	fd = k_openat2(root, path, O_PATH | O_CLOEXEC, 0, resolve);
	if (fd < 0 && errno == ENOENT)
		errno = error;
	return fd;
}

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
	return open(at_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
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

static int mount_root(const struct spec *spec, struct failure *failure)
{
	struct record record;
	size_t at = 0;
	const char *upper = NULL, *work = NULL;
	/* Any directory will do to mount on: the namespace is ours and the host's root goes. */
	const char *at_path = spec_string(spec, TAG_EXEC_DIR, "");
	if (spec_next(spec, &at, TAG_UPPER, &record)) {
		upper = record_string(&record, 0, 0);
		work = record_string(&record, 0, 1);
	}
	if (upper == NULL || work == NULL)
		return fail(failure, 0, "the specification has no writable layer");
	int root = open_overlay(spec, upper, work);
	if (root >= 0) {
		int place = open(at_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (place < 0 || k_move_mount(root, place) < 0) {
			fail(failure, errno, "cannot attach the container's root");
			close_fd(&root);
		}
		close_fd(&place);
		return root;
	}
	int error = errno;
	if (error == EINVAL) {
		root = mount_overlay_whole(spec, upper, work, at_path, 1);
		if (root < 0 && errno == EINVAL)
			root = mount_overlay_whole(spec, upper, work, at_path, 0);
		error = errno;
	}
	if (root < 0)
		return fail(failure, error, "cannot mount the image's layers with overlayfs");
	return root;
}

/* A new file system of `type` with the record's options, detached. */
static int open_new(const char *type, const struct record *record, uint32_t attributes)
{
	int fs = k_fsopen(type);
	if (fs < 0)
		return -1;
	int mounted = -1;
	const char *option;
	/* Strings 0 and 1 are target and source. */
	for (unsigned i = 2; (option = record_string(record, 8, i)) != NULL; i++) {
		char key[64];
		const char *value = strchr(option, '=');
		size_t length = value == NULL ? strlen(option) : (size_t)(value - option);
		if (length >= sizeof key) {
			errno = EINVAL;
			goto out;
		}
		memcpy(key, option, length);
		key[length] = 0;
		int result = value == NULL
				     ? k_fsconfig(fs, K_FSCONFIG_SET_FLAG, key, NULL)
				     : k_fsconfig(fs, K_FSCONFIG_SET_STRING, key, value + 1);
		if (result < 0)
			goto out;
	}
	if (k_fsconfig(fs, K_FSCONFIG_CMD_CREATE, NULL, NULL) == 0)
		mounted = k_fsmount(fs, attributes);
out:;
	int error = errno;
	close_fd(&fs);
	errno = error;
	return mounted;
}

/* The mounts that go on following the host's, in the specification's order; see open_following. */
static int following[FOLLOWING_MAX];
static size_t following_count, following_used;

static int open_bind(const struct record *record)
{
	uint32_t flags = record_u32(record, 0);
	const char *source = record_string(record, 8, 1);
	if (source == NULL) {
		errno = EINVAL;
		return -1;
	}
	return k_open_tree(AT_FDCWD, source,
			   K_OPEN_TREE_CLONE | O_CLOEXEC |
				   (flags & MOUNT_PLAIN ? 0 : K_AT_RECURSIVE));
}

/*
 * Binds that are to see what is mounted below them on the host later (slave), or to show there what
 * is mounted in the container (shared), are cloned while this namespace still follows the host's.
 */
static int open_following(const struct spec *spec, struct failure *failure)
{
	struct record record;
	for (size_t at = 0; spec_next(spec, &at, TAG_MOUNT, &record);) {
		uint32_t flags = record_u32(&record, 0);
		if (!(flags & (MOUNT_SLAVE | MOUNT_SHARED)))
			continue;
		if (following_count == FOLLOWING_MAX)
			return fail(failure, 0, "too many mounts with propagation");
		int fd = open_bind(&record);
		unsigned recursive = flags & MOUNT_PLAIN ? 0 : K_AT_RECURSIVE;
		uint64_t how = flags & MOUNT_SHARED ? MS_SHARED : MS_SLAVE;
		if (fd < 0 || k_mount_setattr(fd, "", K_AT_EMPTY_PATH | recursive, 0, how) < 0) {
			fail(failure, errno, "cannot mount %s on %s",
			     record_string(&record, 8, 1), record_string(&record, 8, 0));
			close_fd(&fd);
			return -1;
		}
		following[following_count++] = fd;
	}
	return 0;
}

static int make_mount(int root, const struct record *record, struct failure *failure)
{
	uint32_t flags = record_u32(record, 0), attributes = record_u32(record, 4);
	const char *target = record_string(record, 8, 0), *source = record_string(record, 8, 1);
	if (target == NULL || source == NULL)
		return fail(failure, 0, "a mount is malformed");
	int from;
	if (flags & MOUNT_BIND) {
		from = flags & (MOUNT_SLAVE | MOUNT_SHARED) ? following[following_used++]
							    : open_bind(record);
		unsigned recursive = flags & MOUNT_PLAIN ? 0 : K_AT_RECURSIVE;
		if (from >= 0 && attributes != 0 &&
		    k_mount_setattr(from, "", K_AT_EMPTY_PATH | recursive, attributes, 0) < 0)
			close_fd(&from);
	} else {
		from = open_new(source, record, attributes);
		if (from < 0 && (flags & MOUNT_OPTIONAL))
			return 0;
	}
	if (from < 0)
		return fail(failure, errno, "cannot mount %s on %s", source, target);
	struct stat status;
	int as_file = (flags & MOUNT_FILE) != 0;
	if ((flags & MOUNT_BIND) && fstat(from, &status) == 0)
		as_file = !S_ISDIR(status.st_mode);
	int to = open_target(root, target, as_file,
			     flags & MOUNT_TRUSTED ? IN_ROOT_PLAIN : IN_ROOT);
	struct statfs where;
	int result = 0;
	if (to < 0)
		result = fail(failure, errno, "cannot open the mount point %s", target);
	else if (!(flags & MOUNT_TRUSTED) && fstatfs(to, &where) == 0 &&
		 where.f_type == PROC_MAGIC)
		result = fail(failure, 0, "cannot mount on %s: nothing may cover /proc", target);
	else if (k_move_mount(from, to) < 0)
		result = fail(failure, errno, "cannot mount on %s", target);
	close_fd(&to);
	close_fd(&from);
	return result;
}

static int make_node(int root, const struct record *record, struct failure *failure)
{
	const char *path = record_string(record, 20, 0), *name;
	if (path == NULL)
		return fail(failure, 0, "a device is malformed");
	int parent = open_parent(root, path, IN_ROOT_PLAIN, &name);
	if (parent < 0)
		return fail(failure, errno, "cannot make the device %s", path);
	int result = 0;
	/* One outside of /dev is still there from an earlier run. */
	(void)unlinkat(parent, name, 0);
	if (mknodat(parent, name, (mode_t)record_u32(record, 0),
		    makedev(record_u32(record, 4), record_u32(record, 8))) < 0 ||
	    fchownat(parent, name, record_u32(record, 12), record_u32(record, 16),
		     AT_SYMLINK_NOFOLLOW) < 0)
		result = fail(failure, errno, "cannot make the device %s", path);
	close_fd(&parent);
	return result;
}

static int make_link(int root, const struct record *record, struct failure *failure)
{
	const char *target = record_string(record, 0, 0), *path = record_string(record, 0, 1);
	const char *name;
	if (target == NULL || path == NULL)
		return fail(failure, 0, "a link is malformed");
	int parent = open_parent(root, path, IN_ROOT_PLAIN, &name);
	if (parent < 0)
		return fail(failure, errno, "cannot make the link %s", path);
	int result = 0;
	if (symlinkat(target, parent, name) < 0 && errno != EEXIST)
		result = fail(failure, errno, "cannot make the link %s", path);
	close_fd(&parent);
	return result;
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
	if (record_u32(record, 0) & READONLY_IN_PLACE) {
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
		static const uint8_t options[] = "\0\0\0\0\0\0\0\0t\0s\0nr_inodes=1";
		struct record record = {TAG_MOUNT, options, sizeof options};
		for (int i = 0; i < DETACHED_TRIES && *empty < 0; i++)
			*empty = open_new("tmpfs", &record, K_MOUNT_ATTR_RDONLY);
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

static int make_one(int root, int null, int *empty, const struct record *record,
		    struct failure *failure)
{
	const char *path;
	switch (record->tag) {
	case TAG_MOUNT:
		return make_mount(root, record, failure);
	case TAG_DEVICE:
		return make_node(root, record, failure);
	case TAG_SYMLINK:
		return make_link(root, record, failure);
	case TAG_READONLY:
		return make_readonly(root, record, failure);
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

int rootfs_build(const struct spec *spec, struct failure *failure)
{
	if (open_following(spec, failure) < 0)
		return -1;
	/* Nothing mounted here may show on the host, and nothing of the host's may arrive later. */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return fail(failure, errno, "cannot make the mount namespace private");
	int null = open_null(failure);
	int root = null < 0 ? -1 : mount_root(spec, failure);
	int empty = -1, result = root < 0 ? -1 : 0;
	struct record record;
	for (size_t at = 0; result == 0 && spec_next(spec, &at, 0, &record);)
		result = make_one(root, null, &empty, &record, failure);
	close_fd(&empty);
	close_fd(&null);
	if (result < 0)
		close_fd(&root);
	return root;
}

int rootfs_sysctls(const struct spec *spec, struct failure *failure)
{
	if (spec_count(spec, TAG_SYSCTL) == 0)
		return 0;
	static const uint8_t no_options[] = "\0\0\0\0\0\0\0\0t\0s";
	struct record record = {TAG_MOUNT, no_options, sizeof no_options};
	int proc = open_new("proc", &record, 0);
	if (proc < 0)
		return fail(failure, errno, "cannot open a private /proc");
	int result = 0;
	for (size_t at = 0; result == 0 && spec_next(spec, &at, TAG_SYSCTL, &record);) {
		const char *file = record_string(&record, 4, 0);
		const char *value = record_string(&record, 4, 1);
		if (file == NULL || value == NULL) {
			result = fail(failure, 0, "a sysctl is malformed");
			break;
		}
		int fd = k_openat2(proc, file, O_WRONLY | O_CLOEXEC, 0,
				   K_RESOLVE_BENEATH | K_RESOLVE_NO_XDEV | K_RESOLVE_NO_MAGICLINKS |
					   K_RESOLVE_NO_SYMLINKS);
		if ((fd < 0 || write_all(fd, value, strlen(value)) < 0) &&
		    record_u32(&record, 0) == 0)
			result = fail(failure, errno, "cannot set the sysctl %s to %s", file,
				      value);
		close_fd(&fd);
	}
	close_fd(&proc);
	return result;
}

int rootfs_protect(int root, struct failure *failure)
{
	if (k_mount_setattr(root, "", K_AT_EMPTY_PATH, K_MOUNT_ATTR_RDONLY, 0) < 0)
		return fail(failure, errno, "cannot make the container's root read-only");
	return 0;
}

int rootfs_enter(int root, struct failure *failure)
{
	int old = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (old < 0)
		return fail(failure, errno, "cannot open the host's root");
	int result = 0;
	/* This stacks the old root on the new one; it is then detached by descriptor. */
	if (fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || fchdir(old) < 0 ||
	    umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		result = fail(failure, errno, "cannot change to the container's root");
	close_fd(&old);
	return result;
}

int rootfs_directory(const char *path, int make)
{
	int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return -1;
	int fd = make ? open_directory(root, path, IN_ROOT)
		      : k_openat2(root, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, IN_ROOT);
	int error = errno;
	close_fd(&root);
	errno = error;
	return fd;
}
