/* Copies a directory; see copyup.h. */
#include "copyup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "idmap.h"
#include "kernel.h"
#include "mounts.h"

#define DEPTH_MAX 64
#define ENTRIES_BYTES 4096
#define COPY_BYTES (1u << 20)
#define COPY_NAME "copy"

struct copy {
	const struct spec *shift; /* whose maps tell the copy's owners; NULL: they are the same */
};

struct entry {
	uint64_t inode;
	int64_t offset;
	uint16_t size;
	uint8_t type;
	char name[];
};

static int copy_tree(const struct copy *copy, int from, int to, int depth);

static int copy_data(int from, int to)
{
	ssize_t got;
	while ((got = sendfile(to, from, NULL, COPY_BYTES)) > 0)
		continue;
	return got < 0 ? -1 : 0;
}

/* Closes `source`. */
static int copy_file(int source, int to, const char *name)
{
	int copy = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int result = source < 0 || copy < 0 ? -1 : copy_data(source, copy);
	int error = errno;
	close_fd(&source);
	close_fd(&copy);
	errno = error;
	return result;
}

static int copy_directory(const struct copy *copy, int from, int to, const char *name, int depth)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	if (mkdirat(to, name, 0700) < 0)
		return -1;
	int source = openat(from, name, flags), made = openat(to, name, flags);
	int result = source < 0 || made < 0 ? -1 : copy_tree(copy, source, made, depth + 1);
	int error = errno;
	close_fd(&source);
	close_fd(&made);
	errno = error;
	return result;
}

static int copy_link(int from, int to, const char *name)
{
	char target[PATH_MAX];
	ssize_t length = readlinkat(from, name, target, sizeof target - 1);
	if (length < 0)
		return -1;
	target[length] = 0;
	return symlinkat(target, to, name);
}

/* Owner before mode, since a change of the owner takes set-id bits away. */
static int adorn(const struct copy *copy, int to, const char *name, const struct stat *status)
{
	const struct timespec times[2] = {status->st_atim, status->st_mtim};
	uid_t uid = status->st_uid;
	gid_t gid = status->st_gid;
	if (copy->shift != NULL) {
		uid = idmap_outside(copy->shift, TAG_UID_MAP, uid);
		gid = idmap_outside(copy->shift, TAG_GID_MAP, gid);
	}
	if (fchownat(to, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0 ||
	    (!S_ISLNK(status->st_mode) && fchmodat(to, name, status->st_mode & 07777, 0) < 0))
		return -1;
	return utimensat(to, name, times, AT_SYMLINK_NOFOLLOW);
}

static int copy_entry(const struct copy *copy, int from, int to, const char *name, int depth)
{
	struct stat status;
	int result;
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return 0;
	if (fstatat(from, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
		return -1;
	if (S_ISDIR(status.st_mode))
		result = copy_directory(copy, from, to, name, depth);
	else if (S_ISREG(status.st_mode))
		result = copy_file(openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC),
				   to, name);
	else if (S_ISLNK(status.st_mode))
		result = copy_link(from, to, name);
	else
		result = mknodat(to, name, status.st_mode, status.st_rdev);
	return result < 0 ? -1 : adorn(copy, to, name, &status);
}

static int copy_tree(const struct copy *copy, int from, int to, int depth)
{
	_Alignas(struct entry) char entries[ENTRIES_BYTES];
	long got;
	if (depth > DEPTH_MAX) {
		errno = ELOOP;
		return -1;
	}
	while ((got = syscall(SYS_getdents64, from, entries, sizeof entries)) > 0) {
		for (long at = 0; at < got;) {
			const struct entry *entry = (const void *)(entries + at);
			if (copy_entry(copy, from, to, entry->name, depth) < 0)
				return -1;
			at += entry->size;
		}
	}
	return got < 0 ? -1 : 0;
}

int copyup(int from, int to)
{
	const struct copy copy = {NULL};
	int source = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int result = source < 0 ? -1 : copy_tree(&copy, source, to, 0);
	int error = errno;
	close_fd(&source);
	errno = error;
	return result;
}

/* The directory `source` as one below `shelf`. */
static int copy_whole(const struct copy *copy, int source, int shelf)
{
	if (mkdirat(shelf, COPY_NAME, 0700) < 0)
		return -1;
	int from = openat(source, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int to = openat(shelf, COPY_NAME, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int result = from < 0 || to < 0 ? -1 : copy_tree(copy, from, to, 0);
	int error = errno;
	close_fd(&from);
	close_fd(&to);
	errno = error;
	return result;
}

/* The regular file behind the descriptor, whatever has its name by now. */
static int open_again(int source)
{
	char path[32];
	format_text(path, sizeof path, "/proc/self/fd/%d", source);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static int copy_source(const struct copy *copy, int source, int shelf)
{
	struct stat status;
	int result = -1;
	if (fstat(source, &status) < 0)
		return -1;
	if (S_ISDIR(status.st_mode))
		result = copy_whole(copy, source, shelf);
	else if (S_ISREG(status.st_mode))
		result = copy_file(open_again(source), shelf, COPY_NAME);
	else
		errno = EINVAL;
	return result < 0 ? -1 : adorn(copy, shelf, COPY_NAME, &status);
}

int copyup_shifted(const struct spec *spec, int source)
{
	const struct copy copy = {spec};
	int shelf = mounts_shelf(spec), result = -1;
	if (shelf < 0)
		return -1;
	if (copy_source(&copy, source, shelf) == 0)
		result = k_open_tree(shelf, COPY_NAME, K_OPEN_TREE_CLONE | O_CLOEXEC);
	int error = errno;
	mounts_leave_shelf(spec, &shelf);
	errno = error;
	return result;
}
