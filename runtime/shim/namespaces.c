/* Reads, opens and joins namespaces; see namespaces.h. */
#include "namespaces.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel.h"

static const struct {
	uint32_t kind;
	const char *name, *own;
} kinds[NAMESPACES_MAX] = {
	{CLONE_NEWUSER, "user", "/proc/self/ns/user"},
	{CLONE_NEWNET, "network", "/proc/self/ns/net"},
	{CLONE_NEWIPC, "IPC", "/proc/self/ns/ipc"},
	{CLONE_NEWUTS, "UTS", "/proc/self/ns/uts"},
	{K_CLONE_NEWCGROUP, "cgroup", "/proc/self/ns/cgroup"},
	{CLONE_NEWPID, "pid", "/proc/self/ns/pid"},
	{K_CLONE_NEWTIME, "time", "/proc/self/ns/time"},
	{CLONE_NEWNS, "mount", "/proc/self/ns/mnt"},
};

static size_t index_of(uint32_t kind)
{
	size_t i = 0;
	while (i < NAMESPACES_MAX && kinds[i].kind != kind)
		i++;
	return i;
}

static int is_same(const struct stat *one, const struct stat *other)
{
	return one->st_dev == other->st_dev && one->st_ino == other->st_ino;
}

/* The shim's own is left alone: to enter one's own user namespace again is forbidden. */
static int is_own(int fd, const char *own)
{
	struct stat theirs, ours;
	return fstat(fd, &theirs) == 0 && stat(own, &ours) == 0 && is_same(&theirs, &ours);
}

int namespaces_is_owner(int user, int fd)
{
	struct stat wanted, found;
	int owner = ioctl(fd, K_NS_GET_USERNS);
	int result = owner >= 0 && fstat(owner, &found) == 0 && fstat(user, &wanted) == 0 &&
		     is_same(&found, &wanted);
	close_fd(&owner);
	return result;
}

static int open_one(struct namespaces *namespaces, size_t index, const char *path,
		    struct failure *failure)
{
	uint32_t kind = kinds[index].kind;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return fail(failure, errno, "cannot open the %s namespace %s", kinds[index].name,
			    path);
	if (ioctl(fd, K_NS_GET_NSTYPE) != (int)kind) {
		close_fd(&fd);
		return fail(failure, 0, "%s is not a %s namespace", path, kinds[index].name);
	}
	if (is_own(fd, kinds[index].own)) {
		close_fd(&fd);
		return 0;
	}
	namespaces->joined |= kind;
	namespaces->kinds[namespaces->count] = kind;
	namespaces->fds[namespaces->count++] = fd;
	return 0;
}

int namespaces_open(struct namespaces *namespaces, const struct spec *spec,
		    struct failure *failure)
{
	struct record record;
	uint32_t named = 0;
	for (size_t at = 0; spec_next(spec, &at, TAG_NAMESPACE, &record);) {
		const char *path = record_string(&record, 4, 0);
		uint32_t kind = record_u32(&record, 0);
		size_t index = index_of(kind);
		if (path == NULL || index == NAMESPACES_MAX || (named & kind) != 0)
			return fail(failure, 0, "a namespace is malformed or named twice");
		named |= kind;
		if (path[0] == 0)
			namespaces->created |= kind;
		else if (open_one(namespaces, index, path, failure) < 0)
			return -1;
	}
	if (namespaces_have(namespaces, CLONE_NEWUSER) && !(named & CLONE_NEWNS))
		return fail(failure, 0, "a user namespace needs a mount namespace beside it");
	return 0;
}

void namespaces_close(struct namespaces *namespaces)
{
	for (size_t i = 0; i < namespaces->count; i++)
		close_fd(&namespaces->fds[i]);
	namespaces->count = 0;
}

int namespaces_staged(const struct namespaces *namespaces)
{
	return namespaces_have(namespaces, CLONE_NEWUSER | K_CLONE_NEWTIME) ||
	       (namespaces->joined & (CLONE_NEWPID | CLONE_NEWNS)) != 0;
}

int namespaces_joined(const struct namespaces *namespaces, uint32_t kind)
{
	for (size_t i = 0; i < namespaces->count; i++)
		if (namespaces->kinds[i] == kind)
			return namespaces->fds[i];
	return -1;
}

int namespaces_join(const struct namespaces *namespaces, uint32_t wanted, struct failure *failure)
{
	for (size_t i = 0; i < namespaces->count; i++) {
		uint32_t kind = namespaces->kinds[i];
		if ((wanted & kind) != 0 && setns(namespaces->fds[i], (int)kind) < 0)
			return fail(failure, errno, "cannot join the %s namespace",
				    kinds[index_of(kind)].name);
	}
	return 0;
}

int namespaces_become_root(struct failure *failure)
{
	(void)setgroups(0, NULL); /* may be forbidden there for good (setgroups "deny") */
	if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		return fail(failure, errno, "cannot become root of the user namespace");
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	return 0;
}
