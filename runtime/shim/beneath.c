/* Opens and makes what is named inside the container's root; see beneath.h. */
#include "beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "util.h"

#define LINKS_MAX 40 /* as the kernel's own bound */
#define DEPTH_MAX 256 /* of directories made for one path: each takes a path's place on the stack */

struct walk {
	int root, links_left, depth_left;
	uint64_t resolve;
};

static int make_directory(struct walk *walk, const char *path);

/* Puts the part of `path` before its last component into `parent`; the component, or NULL. */
static const char *split(const char *path, char parent[PATH_MAX])
{
	const char *slash = strrchr(path, '/');
	size_t length = slash == NULL ? 0 : (size_t)(slash - path);
	if (length >= PATH_MAX) {
		errno = ENAMETOOLONG;
		return NULL;
	}
	memcpy(parent, path, length);
	parent[length] = 0;
	if (length == 0)
		memcpy(parent, ".", 2);
	return slash == NULL ? path : slash + 1;
}

/*
 * Where the link `name` in `parent_path` leads, which is nothing yet; in `path`. What it leads
 * through is resolved again, below the root. False when it is no link.
 */
static int follow(struct walk *walk, int parent, const char *parent_path, const char *name,
		  char path[PATH_MAX])
{
	char link[PATH_MAX];
	ssize_t length = readlinkat(parent, name, link, sizeof link - 1);
	if (length < 0 || walk->links_left-- == 0 || (walk->resolve & K_RESOLVE_NO_SYMLINKS))
		return 0;
	link[length] = 0;
	size_t used = link[0] == '/' ? format_text(path, PATH_MAX, "%s", link)
				     : format_text(path, PATH_MAX, "%s/%s", parent_path, link);
	return used < PATH_MAX - 1;
}

/* What is missing of the directory `path` is made; what it ends in is not there. */
static int make_missing(struct walk *walk, const char *path)
{
	char parent_path[PATH_MAX], target[PATH_MAX];
	const char *name = split(path, parent_path);
	if (name == NULL)
		return -1;
	if (walk->depth_left-- == 0) {
		errno = ENAMETOOLONG;
		return -1;
	}
	int parent = make_directory(walk, parent_path);
	if (parent < 0 || *name == 0) /* a trailing slash */
		return parent;
	int made = mkdirat(parent, name, 0755), error = errno, leads = 0;
	if (made < 0 && error == EEXIST)
		leads = follow(walk, parent, parent_path, name, target);
	close_fd(&parent);
	if (made < 0 && error != EEXIST) {
		errno = error;
		return -1;
	}
	return leads ? make_directory(walk, target)
		     : k_openat2(walk->root, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0,
				 walk->resolve);
}

static int make_directory(struct walk *walk, const char *path)
{
	int fd = k_openat2(walk->root, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, walk->resolve);
	if (fd >= 0 || errno != ENOENT || strcmp(path, ".") == 0)
		return fd;
	return make_missing(walk, path);
}

int beneath_directory(int root, const char *path, uint64_t resolve)
{
	struct walk walk = {root, LINKS_MAX, DEPTH_MAX, resolve};
	return make_directory(&walk, path);
}

static int make_file(struct walk *walk, const char *path)
{
	char parent_path[PATH_MAX], target[PATH_MAX];
	int fd = k_openat2(walk->root, path, O_PATH | O_CLOEXEC, 0, walk->resolve);
	if (fd >= 0 || errno != ENOENT)
		return fd;
	const char *name = split(path, parent_path);
	int parent = name == NULL ? -1 : make_directory(walk, parent_path);
	if (parent < 0)
		return -1;
	fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	int error = errno, leads = 0;
	if (fd < 0 && error == EEXIST)
		leads = follow(walk, parent, parent_path, name, target);
	close_fd(&fd);
	close_fd(&parent);
	if (leads)
		return make_file(walk, target);
	fd = k_openat2(walk->root, path, O_PATH | O_CLOEXEC, 0, walk->resolve);
	if (fd < 0 && errno == ENOENT)
		errno = error;
	return fd;
}

static struct {
	int fd;
	char path[PATH_MAX];
} last_place = {-1, ""};

void beneath_forget(void)
{
	close_fd(&last_place.fd);
}

int beneath_place(int root, const char *path, const char **name)
{
	char parent[PATH_MAX];
	*name = split(path, parent);
	if (*name == NULL)
		return -1;
	if (last_place.fd >= 0 && strcmp(last_place.path, parent) == 0)
		return last_place.fd;
	beneath_forget();
	last_place.fd = beneath_directory(root, parent, IN_ROOT_PLAIN);
	strcpy(last_place.path, parent);
	return last_place.fd;
}

int beneath_mount_point(int root, const char *path)
{
	const char *name;
	int place = beneath_place(root, path, &name);
	if (place < 0)
		return -1;
	/* What is mounted there covers the place itself, or what that is in. */
	if (*name == 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
		beneath_forget();
		return beneath_directory(root, path, IN_ROOT_PLAIN);
	}
	if (mkdirat(place, name, 0755) < 0 && errno != EEXIST)
		return -1;
	return k_openat2(place, name, O_PATH | O_DIRECTORY | O_CLOEXEC, 0,
			 K_RESOLVE_BENEATH | K_RESOLVE_NO_SYMLINKS);
}

int beneath_target(int root, const char *path, int as_file, uint64_t resolve)
{
	struct walk walk = {root, LINKS_MAX, DEPTH_MAX, resolve};
	return as_file ? make_file(&walk, path) : make_directory(&walk, path);
}
