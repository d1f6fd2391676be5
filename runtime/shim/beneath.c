/* Opens and makes what is named inside the container's root; see beneath.h. */
#include "beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "util.h"

/* Opens `path` below `root` as a directory, making what is missing. -1 and errno on failure. */
int beneath_directory(int root, const char *path, uint64_t resolve)
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
		return length == 0 ? -1 : beneath_directory(root, parent_path, resolve);
	int parent = beneath_directory(root, length == 0 ? "." : parent_path, resolve);
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
int beneath_parent(int root, const char *path, uint64_t resolve, const char **name)
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
	return beneath_directory(root, length == 0 ? "." : parent, resolve);
}

/* Opens what is to be mounted on, a directory or (as_file) a file, making it if missing. */
int beneath_target(int root, const char *path, int as_file, uint64_t resolve)
{
	if (!as_file)
		return beneath_directory(root, path, resolve);
	int fd = k_openat2(root, path, O_PATH | O_CLOEXEC, 0, resolve);
	if (fd >= 0 || errno != ENOENT)
		return fd;
	const char *name;
	int parent = beneath_parent(root, path, resolve, &name);
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

