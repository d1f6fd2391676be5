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

#include "util.h"

#define DEPTH_MAX 64
#define ENTRIES_BYTES 4096
#define COPY_BYTES (1u << 20)

struct entry {
	uint64_t inode;
	int64_t offset;
	uint16_t size;
	uint8_t type;
	char name[];
};

static int copy_tree(int from, int to, int depth);

static int copy_data(int from, int to)
{
	ssize_t got;
	while ((got = sendfile(to, from, NULL, COPY_BYTES)) > 0)
		continue;
	return got < 0 ? -1 : 0;
}

static int copy_file(int from, int to, const char *name)
{
	int source = openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	int copy = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int result = source < 0 || copy < 0 ? -1 : copy_data(source, copy);
	int error = errno;
	close_fd(&source);
	close_fd(&copy);
	errno = error;
	return result;
}

static int copy_directory(int from, int to, const char *name, int depth)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	if (mkdirat(to, name, 0700) < 0)
		return -1;
	int source = openat(from, name, flags), copy = openat(to, name, flags);
	int result = source < 0 || copy < 0 ? -1 : copy_tree(source, copy, depth + 1);
	int error = errno;
	close_fd(&source);
	close_fd(&copy);
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
static int adorn(int to, const char *name, const struct stat *status)
{
	const struct timespec times[2] = {status->st_atim, status->st_mtim};
	if (fchownat(to, name, status->st_uid, status->st_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
	    (!S_ISLNK(status->st_mode) && fchmodat(to, name, status->st_mode & 07777, 0) < 0))
		return -1;
	return utimensat(to, name, times, AT_SYMLINK_NOFOLLOW);
}

static int copy_entry(int from, int to, const char *name, int depth)
{
	struct stat status;
	int result;
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return 0;
	if (fstatat(from, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
		return -1;
	if (S_ISDIR(status.st_mode))
		result = copy_directory(from, to, name, depth);
	else if (S_ISREG(status.st_mode))
		result = copy_file(from, to, name);
	else if (S_ISLNK(status.st_mode))
		result = copy_link(from, to, name);
	else
		result = mknodat(to, name, status.st_mode, status.st_rdev);
	return result < 0 ? -1 : adorn(to, name, &status);
}

static int copy_tree(int from, int to, int depth)
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
			if (copy_entry(from, to, entry->name, depth) < 0)
				return -1;
			at += entry->size;
		}
	}
	return got < 0 ? -1 : 0;
}

int copyup(int from, int to)
{
	int source = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int result = source < 0 ? -1 : copy_tree(source, to, 0);
	int error = errno;
	close_fd(&source);
	errno = error;
	return result;
}
