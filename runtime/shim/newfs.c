/* Makes file systems; see newfs.h. */
#include "newfs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/vfs.h>

#include "foreignproc.h"

#define STRINGS_AT 40 /* in a mount's record, behind its numbers */
#define FIRST_OPTION 3 /* after target, source and type */
#define KEY_MAX 64
#define OPTION_MAX 256 /* fsconfig takes shorter ones only */
#define DATA_MAX 4096 /* a page, as mount(2) takes it */
#define PROC_MAGIC 0x9fa0

/* Whose processes a new procfs shows, and one that was made before; -1: this process's, none. */
static int foreign_pids = -1, kept_proc = -1;

const char *mount_string(const struct record *record, unsigned index)
{
	return record_string(record, STRINGS_AT, index);
}

const char *mount_option(const struct record *record, unsigned index)
{
	return record_string(record, STRINGS_AT, FIRST_OPTION + index);
}

int newfs_option(int fs, const char *option)
{
	char key[KEY_MAX];
	const char *value = strchr(option, '=');
	size_t length = value == NULL ? strlen(option) : (size_t)(value - option);
	if (length >= sizeof key) {
		errno = EINVAL;
		return -1;
	}
	memcpy(key, option, length);
	key[length] = 0;
	return value == NULL ? k_fsconfig(fs, K_FSCONFIG_SET_FLAG, key, NULL)
			     : k_fsconfig(fs, K_FSCONFIG_SET_STRING, key, value + 1);
}

/* Makes the file system that `fs` describes and mounts it nowhere. Closes `fs`. */
static int finish_new(int fs, unsigned attributes)
{
	int mounted = -1;
	if (k_fsconfig(fs, K_FSCONFIG_CMD_CREATE, NULL, NULL) == 0)
		mounted = k_fsmount(fs, attributes);
	int error = errno;
	close_fd(&fs);
	errno = error;
	return mounted;
}

/* Whether an option is longer than fsconfig takes. */
static int has_long_option(const struct record *record)
{
	const char *option;
	for (unsigned i = 0; (option = mount_option(record, i)) != NULL; i++)
		if (strlen(option) >= OPTION_MAX)
			return 1;
	return 0;
}

/* By mount(2), on a directory of ours, from which it is then taken away again. */
static int open_whole(const struct newfs *asked, const struct record *record, const char *place)
{
	char data[DATA_MAX] = "";
	size_t used = 0;
	const char *option;
	for (unsigned i = 0; (option = mount_option(record, i)) != NULL; i++)
		used += format_text(data + used, sizeof data - used, "%s%s", used > 0 ? "," : "",
				    option);
	if (used >= sizeof data - 1) {
		errno = E2BIG;
		return -1;
	}
	const char *source = asked->source[0] != 0 ? asked->source : asked->type;
	if (mount(source, place, asked->type, 0, data) < 0)
		return -1;
	int fd = k_open_tree(AT_FDCWD, place, K_OPEN_TREE_CLONE | O_CLOEXEC);
	int error = errno;
	(void)umount2(place, MNT_DETACH); /* just mounted, in a namespace of ours */
	struct k_mount_attr own = asked->own;
	if (fd >= 0 && (own.attr_set | own.attr_clr) != 0 && k_mount_change(fd, 0, &own) < 0) {
		error = errno;
		close_fd(&fd);
	}
	errno = error;
	return fd;
}

/* A process of the other pid namespace had its hands on it. */
static int check_proc(int mounted)
{
	struct statfs status;
	if (mounted >= 0 && (fstatfs(mounted, &status) < 0 || status.f_type != PROC_MAGIC)) {
		close_fd(&mounted);
		errno = EIO;
	}
	return mounted;
}

int newfs_open(const struct newfs *asked, const struct record *record, const char *place)
{
	int is_foreign = foreign_pids >= 0 && strcmp(asked->type, "proc") == 0;
	if (has_long_option(record) && !is_foreign)
		return open_whole(asked, record, place);
	int fs = is_foreign ? foreignproc_open(foreign_pids, place) : k_fsopen(asked->type);
	if (fs < 0)
		return -1;
	const char *option;
	int result = asked->source[0] == 0
			     ? 0
			     : k_fsconfig(fs, K_FSCONFIG_SET_STRING, "source", asked->source);
	for (unsigned i = 0; result == 0 && (option = mount_option(record, i)) != NULL; i++)
		result = newfs_option(fs, option);
	/* A tmpfs is filled before it may become read-only. */
	uint64_t later = strcmp(asked->type, "tmpfs") == 0 ? K_MOUNT_ATTR_RDONLY : 0;
	if (result == 0) {
		int mounted = finish_new(fs, (unsigned)(asked->own.attr_set & ~later));
		return is_foreign ? check_proc(mounted) : mounted;
	}
	int error = errno;
	close_fd(&fs);
	errno = error;
	return -1;
}

int newfs_tmpfs(const char *key, const char *value, unsigned attributes)
{
	int fs = k_fsopen("tmpfs");
	if (fs < 0)
		return -1;
	if (k_fsconfig(fs, K_FSCONFIG_SET_STRING, key, value) == 0)
		return finish_new(fs, attributes);
	int error = errno;
	close_fd(&fs);
	errno = error;
	return -1;
}

int newfs_proc(struct failure *failure)
{
	int fs = kept_proc >= 0 ? -1 : k_fsopen("proc"), proc = -1;
	if (kept_proc >= 0)
		proc = fcntl(kept_proc, F_DUPFD_CLOEXEC, 0);
	else if (fs >= 0)
		proc = finish_new(fs, 0);
	return proc < 0 ? fail(failure, errno, "cannot open a private /proc") : proc;
}

int newfs_keep_proc(struct failure *failure)
{
	kept_proc = newfs_proc(failure);
	return kept_proc < 0 ? -1 : 0;
}

void newfs_use_pids(int pids)
{
	foreign_pids = pids;
}

int newfs_has_foreign_pids(void)
{
	return foreign_pids >= 0;
}

int newfs_enter(int root, struct failure *failure)
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
