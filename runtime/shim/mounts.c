/* Opens, prepares and attaches the container's mounts; see mounts.h. */
#include "mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "beneath.h"
#include "copyup.h"
#include "idmap.h"
#include "layers.h"
#include "newfs.h"

#define PROC_MAGIC 0x9fa0
#define PROC_ROOT_INODE 1
#define MOUNTS_MAX 1024

struct mount {
	uint32_t flags, propagation;
	struct k_mount_attr own, below;
	const char *target, *source, *type;
};

/* By the mounts' order: what was opened before its turn, and -1. */
static int early[MOUNTS_MAX];
static size_t early_count, early_used;

static int has_changes(const struct k_mount_attr *attr)
{
	return attr->attr_set != 0 || attr->attr_clr != 0;
}

static int read_mount(struct mount *mount, const struct record *record, struct failure *failure)
{
	*mount = (struct mount){
		.flags = record_u32(record, 0),
		.own = {record_u64(record, 4), record_u64(record, 12), 0, 0},
		.below = {record_u64(record, 20), record_u64(record, 28), 0, 0},
		.propagation = record_u32(record, 36),
		.target = mount_string(record, 0),
		.source = mount_string(record, 1),
		.type = mount_string(record, 2),
	};
	/* One field of several values: setting one takes the others away. */
	if (mount->own.attr_set & K_MOUNT_ATTR_ATIME)
		mount->own.attr_clr |= K_MOUNT_ATTR_ATIME;
	if (mount->below.attr_set & K_MOUNT_ATTR_ATIME)
		mount->below.attr_clr |= K_MOUNT_ATTR_ATIME;
	if (mount->target == NULL || mount->source == NULL || mount->type == NULL)
		return fail(failure, 0, "a mount is malformed");
	return 0;
}

int mounts_is_writable(const struct record *record, const char *type)
{
	struct mount mount;
	struct failure ignored; /* told when it is mounted */
	return read_mount(&mount, record, &ignored) == 0 && strcmp(mount.type, type) == 0 &&
	       ((mount.own.attr_set | mount.below.attr_set) & K_MOUNT_ATTR_RDONLY) == 0;
}

int mounts_shelf(const struct spec *spec)
{
	int shelf = newfs_tmpfs("mode", "755", 0);
	/* Attached: before Linux 6.15 nothing can be cloned from what is not. */
	int place = open(layers_place(spec), O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (shelf >= 0 && (place < 0 || k_move_mount(shelf, place) < 0)) {
		int error = errno;
		close_fd(&shelf);
		errno = error;
	}
	close_fd(&place);
	return shelf;
}

void mounts_leave_shelf(const struct spec *spec, int *shelf)
{
	close_fd(shelf);
	(void)umount2(layers_place(spec), MNT_DETACH); /* just attached, in a namespace of ours */
}

int mounts_map(int mount, int user, int recursive)
{
	struct k_mount_attr map = {.attr_set = K_MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)user};
	return k_mount_change(mount, recursive ? K_AT_RECURSIVE : 0, &map);
}

static uint32_t propagation_of(const struct spec *spec, const struct mount *mount)
{
	if (mount->propagation != 0 || !(mount->flags & MOUNT_BIND))
		return mount->propagation;
	return spec_u32(spec, TAG_ROOT_PROPAGATION, MS_SLAVE | MS_REC);
}

/* Cloned while this namespace still follows the host's. */
static int follows_host(const struct spec *spec, const struct mount *mount, uint32_t created)
{
	(void)created;
	return (mount->flags & MOUNT_BIND) &&
	       (propagation_of(spec, mount) & (MS_SLAVE | MS_SHARED)) != 0;
}

/* Where nobody writes to it, a copy with the ids of the container does as well. */
static int may_copy(const struct mount *mount, const struct spec *spec)
{
	return (mount->flags & MOUNT_COPYABLE) && (mount->flags & MOUNT_USER_MAP) &&
	       ((mount->own.attr_set | mount->below.attr_set) & K_MOUNT_ATTR_RDONLY) != 0 &&
	       spec_count(spec, TAG_UID_MAP) > 0 &&
	       /* What the copy is put on would be covered on the host, too. */
	       !follows_host(spec, mount, 0);
}

static int replace(int *fd, int other)
{
	if (other < 0)
		return -1;
	close_fd(fd);
	*fd = other;
	return 0;
}

/* The ids that the records behind a mount's ask for, or the container's own. */
static int map_ids(int *fd, const struct mount *mount, const struct spec *spec, size_t at,
		   int user, struct failure *failure)
{
	int own = -1, result = 0;
	if (mount->flags & MOUNT_OWN_MAP) {
		struct idmap map = {0};
		struct record record;
		while (spec_next(spec, &at, 0, &record) && record.tag == TAG_MOUNT_MAP)
			if (idmap_add(&map, record_u32(&record, 0) == 1, &record, 4, failure) < 0)
				return -1;
		user = own = idmap_namespace(&map, failure);
		if (own < 0)
			return -1;
	} else if (user < 0) {
		return fail(failure, 0, "cannot map the ids of %s: there is no user namespace",
			    mount->target);
	}
	if (mounts_map(*fd, user, (mount->flags & MOUNT_MAP_BELOW) != 0) < 0 &&
	    (errno != EINVAL || !may_copy(mount, spec) ||
	     replace(fd, copyup_shifted(spec, *fd)) < 0))
		result = fail(failure, errno,
			      "cannot map the ids of %s: its file system may not support it",
			      mount->source);
	close_fd(&own);
	return result;
}

static int open_new(const struct mount *mount, const struct record *record, const char *place)
{
	const struct newfs asked = {mount->type, mount->source, mount->own};
	return newfs_open(&asked, record, place);
}

static int open_bind(const struct mount *mount)
{
	unsigned how = K_OPEN_TREE_CLONE | O_CLOEXEC |
		       (mount->flags & MOUNT_PLAIN ? 0 : K_AT_RECURSIVE);
	if (!(mount->flags & MOUNT_RESOLVED))
		return k_open_tree(AT_FDCWD, mount->source, how);
	/* Somebody may have put a link in its place since. */
	int place = k_openat2(AT_FDCWD, mount->source, O_PATH | O_CLOEXEC, 0,
			      K_RESOLVE_NO_SYMLINKS);
	int fd = place < 0 ? -1 : k_open_tree(place, "", how | K_AT_EMPTY_PATH);
	int error = errno;
	close_fd(&place);
	errno = error;
	return fd;
}

/* What its record says of it, while it is attached nowhere. */
static int dress(int fd, const struct mount *mount, uint32_t propagation)
{
	struct k_mount_attr own = mount->own, below = mount->below;
	struct k_mount_attr share = {.propagation = propagation & ~(uint32_t)MS_REC};
	if ((mount->flags & MOUNT_BIND) && has_changes(&own) && k_mount_change(fd, 0, &own) < 0)
		return -1;
	if (has_changes(&below) && k_mount_change(fd, K_AT_RECURSIVE, &below) < 0)
		return -1;
	unsigned recursive = propagation & MS_REC ? K_AT_RECURSIVE : 0;
	return share.propagation == 0 ? 0 : k_mount_change(fd, recursive, &share);
}

/* -1 with a failure; what is optional and cannot be had is -1 without one. */
static int open_source(const struct spec *spec, size_t at, const struct record *record,
		       const struct mount *mount, int user, struct failure *failure)
{
	int fd = mount->flags & MOUNT_BIND ? open_bind(mount)
					  : open_new(mount, record, layers_place(spec));
	if (fd < 0 && (mount->flags & MOUNT_OPTIONAL))
		return -1;
	if (fd >= 0 && (mount->flags & (MOUNT_OWN_MAP | MOUNT_USER_MAP)) &&
	    map_ids(&fd, mount, spec, at, user, failure) < 0) {
		close_fd(&fd);
		return -1;
	}
	uint32_t propagation = propagation_of(spec, mount);
	/* A clone of what is private by now is, too. */
	if ((mount->flags & MOUNT_BIND) && (propagation & MS_PRIVATE) != 0)
		propagation = 0;
	if (fd < 0 || dress(fd, mount, propagation) < 0) {
		fail(failure, errno, "cannot mount %s on %s",
		     mount->source[0] != 0 ? mount->source : mount->type, mount->target);
		close_fd(&fd);
	}
	return fd;
}

/* Opens the mounts that `is_early` tells of, and keeps them for their turn. */
static int open_some(const struct spec *spec, int user, uint32_t created,
		     int (*is_early)(const struct spec *, const struct mount *, uint32_t),
		     struct failure *failure)
{
	struct record record;
	struct mount mount;
	for (size_t at = 0, i = 0; spec_next(spec, &at, TAG_MOUNT, &record); i++) {
		if (i == MOUNTS_MAX)
			return fail(failure, 0, "there are more than %d mounts", MOUNTS_MAX);
		if (i >= early_count)
			early[early_count++] = -1;
		if (read_mount(&mount, &record, failure) < 0)
			return -1;
		if (early[i] >= 0 || (mount.flags & MOUNT_REMOUNT) ||
		    !is_early(spec, &mount, created))
			continue;
		failure->text[0] = 0;
		early[i] = open_source(spec, at, &record, &mount, user, failure);
		if (early[i] < 0 && failure->text[0] != 0)
			return -1;
	}
	return 0;
}

/* Whether the root of a user namespace, with `created` of its own, may not mount it. */
static int needs_host(const struct spec *spec, const struct mount *mount, uint32_t created)
{
	static const struct {
		const char *type;
		uint32_t kind; /* 0: always mounted by the container's root */
	} types[] = {
		{"tmpfs", 0},
		{"ramfs", 0},
		{"devpts", 0},
		{"sysfs", CLONE_NEWNET},
		{"mqueue", CLONE_NEWIPC},
		{"cgroup", K_CLONE_NEWCGROUP},
		{"cgroup2", K_CLONE_NEWCGROUP},
	};
	(void)spec;
	if (mount->flags & (MOUNT_BIND | MOUNT_OWN_MAP | MOUNT_USER_MAP))
		return 1;
	if (strcmp(mount->type, "proc") == 0)
		return newfs_has_foreign_pids();
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (strcmp(types[i].type, mount->type) == 0)
			return types[i].kind != 0 && !(created & types[i].kind);
	return 1;
}

int mounts_open_early(const struct spec *spec, int user, struct failure *failure)
{
	return open_some(spec, user, 0, follows_host, failure);
}

int mounts_open_as_host(const struct spec *spec, int user, uint32_t created,
			struct failure *failure)
{
	return open_some(spec, user, created, needs_host, failure);
}

/* Changes the mount that is there, and its file system where options ask for it. */
static int remount(int root, const struct mount *mount, const struct record *record,
		   struct failure *failure)
{
	int to = k_openat2(root, mount->target, O_PATH | O_CLOEXEC, 0, IN_ROOT);
	int fs = -1, result = 0;
	const char *option;
	beneath_forget();
	if (to < 0)
		return fail(failure, errno, "cannot open the mount point %s", mount->target);
	struct mount as_bind = *mount;
	as_bind.flags |= MOUNT_BIND;
	if (dress(to, &as_bind, mount->propagation) < 0)
		result = fail(failure, errno, "cannot remount %s", mount->target);
	for (unsigned i = 0; result == 0 && (option = mount_option(record, i)) != NULL; i++)
		if ((fs < 0 && (fs = k_fspick(to)) < 0) || newfs_option(fs, option) < 0)
			result = fail(failure, errno, "cannot remount %s with %s", mount->target,
				      option);
	if (result == 0 && fs >= 0 && k_fsconfig(fs, K_FSCONFIG_CMD_RECONFIGURE, NULL, NULL) < 0)
		result = fail(failure, errno, "cannot remount %s", mount->target);
	close_fd(&fs);
	close_fd(&to);
	return result;
}

/*
 * Whether `from` may cover something of a procfs: another procfs its root, and what programs are
 * told other numbers of.
 */
static int may_cover(int root, int target, int from)
{
	static const char *const allowed[] = {
		"/proc/cpuinfo",	       "/proc/diskstats", "/proc/meminfo",
		"/proc/stat",		       "/proc/swaps",	  "/proc/uptime",
		"/proc/loadavg",	       "/proc/slabinfo",  "/proc/sys/kernel/ns_last_pid",
		"/proc/sys/crypto/fips_enabled",
	};
	struct stat wanted, status;
	struct statfs what;
	if (fstat(target, &status) < 0)
		return 0;
	if (status.st_ino == PROC_ROOT_INODE)
		return fstatfs(from, &what) == 0 && what.f_type == PROC_MAGIC;
	for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++) {
		int fd = k_openat2(root, allowed[i], O_PATH | O_CLOEXEC, 0, IN_ROOT_PLAIN);
		int is_same = fd >= 0 && fstat(fd, &wanted) == 0 &&
			      wanted.st_dev == status.st_dev && wanted.st_ino == status.st_ino;
		close_fd(&fd);
		if (is_same)
			return 1;
	}
	return 0;
}

static int has_option(const struct record *record, const char *key)
{
	const char *option;
	for (unsigned i = 0; (option = mount_option(record, i)) != NULL; i++)
		if (strncmp(option, key, strlen(key)) == 0)
			return 1;
	return 0;
}

/* A tmpfs over a directory that is there has its mode, unless told otherwise, and its files. */
static int fill(int root, int from, const struct mount *mount, const struct record *record,
		struct failure *failure)
{
	struct stat status;
	struct k_mount_attr readonly = {.attr_set = mount->own.attr_set & K_MOUNT_ATTR_RDONLY};
	int result = 0;
	int has_mode = has_option(record, "mode="), there = -1;
	if (!has_mode || (mount->flags & MOUNT_COPY_UP))
		there = k_openat2(root, mount->target, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, IN_ROOT);
	if (there >= 0 && (mount->flags & MOUNT_COPY_UP) && copyup(there, from) < 0)
		result = fail(failure, errno, "cannot fill the mount on %s", mount->target);
	if (result == 0 && there >= 0 && !has_mode &&
		 (fstat(there, &status) < 0 || fchmodat(from, ".", status.st_mode & 07777, 0) < 0))
		result = fail(failure, errno, "cannot set the mode of %s", mount->target);
	close_fd(&there);
	if (result == 0 && readonly.attr_set != 0 && k_mount_change(from, 0, &readonly) < 0)
		result = fail(failure, errno, "cannot make %s read-only", mount->target);
	return result;
}

static int attach(int root, int from, const struct mount *mount, struct failure *failure)
{
	struct stat status;
	struct statfs where;
	int as_file = (mount->flags & MOUNT_FILE) != 0, result = 0;
	if ((mount->flags & MOUNT_BIND) && fstat(from, &status) == 0)
		as_file = !S_ISDIR(status.st_mode);
	int to;
	if ((mount->flags & MOUNT_TRUSTED) && !as_file) {
		to = beneath_mount_point(root, mount->target);
	} else {
		beneath_forget();
		to = beneath_target(root, mount->target, as_file,
				    mount->flags & MOUNT_TRUSTED ? IN_ROOT_PLAIN : IN_ROOT);
	}
	if (to < 0)
		result = fail(failure, errno, "cannot open the mount point %s", mount->target);
	else if (!(mount->flags & MOUNT_TRUSTED) && fstatfs(to, &where) == 0 &&
		 where.f_type == PROC_MAGIC && !may_cover(root, to, from))
		result = fail(failure, 0, "cannot mount on %s: nothing may cover /proc",
			      mount->target);
	else if (k_move_mount(from, to) < 0)
		result = fail(failure, errno, "cannot mount on %s", mount->target);
	close_fd(&to);
	return result;
}

int mounts_make(int root, const struct spec *spec, size_t at, const struct record *record,
		struct failure *failure)
{
	struct mount mount;
	int from = early_used < early_count ? early[early_used++] : -1;
	if (read_mount(&mount, record, failure) < 0)
		return -1;
	if (mount.flags & MOUNT_REMOUNT)
		return remount(root, &mount, record, failure);
	failure->text[0] = 0;
	if (from < 0)
		from = open_source(spec, at, record, &mount, -1, failure);
	if (from < 0)
		return failure->text[0] == 0 ? 0 : -1;
	int result = 0;
	if (strcmp(mount.type, "tmpfs") == 0)
		result = fill(root, from, &mount, record, failure);
	if (result == 0)
		result = attach(root, from, &mount, failure);
	close_fd(&from);
	return result;
}
