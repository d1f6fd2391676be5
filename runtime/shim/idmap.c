/* Reads maps and makes user namespaces of them; see idmap.h. */
#include "idmap.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel.h"
#include "newfs.h"

#define LINE_MAX 36 /* three numbers of 32 bits */

int idmap_add(struct idmap *map, int is_group, const struct record *record, size_t offset,
	      struct failure *failure)
{
	size_t *used = &map->used[is_group];
	if (*used + LINE_MAX > IDMAP_TEXT_MAX)
		return fail(failure, 0, "a map of ids has too many ranges");
	*used += format_text(map->text[is_group] + *used, IDMAP_TEXT_MAX - *used, "%u %u %u\n",
			     record_u32(record, offset), record_u32(record, offset + 4),
			     record_u32(record, offset + 8));
	return 0;
}

int idmap_read(struct idmap *map, const struct spec *spec, unsigned tag, struct failure *failure)
{
	struct record record;
	for (size_t at = 0; spec_next(spec, &at, tag, &record);)
		if (idmap_add(map, record_u32(&record, 0) == 1, &record, 4, failure) < 0)
			return -1;
	return 0;
}

int idmap_read_own(struct idmap *map, const struct spec *spec, struct failure *failure)
{
	struct record record;
	for (int is_group = 0; is_group < 2; is_group++) {
		unsigned tag = is_group ? TAG_GID_MAP : TAG_UID_MAP;
		for (size_t at = 0; spec_next(spec, &at, tag, &record);)
			if (idmap_add(map, is_group, &record, 0, failure) < 0)
				return -1;
	}
	return 0;
}

static int find_root(const struct spec *spec, unsigned tag, uint32_t *outside)
{
	struct record record;
	for (size_t at = 0; spec_next(spec, &at, tag, &record);) {
		*outside = record_u32(&record, 4);
		if (record_u32(&record, 0) == 0)
			return 1;
	}
	return 0;
}

int idmap_root(const struct spec *spec, uid_t *uid, gid_t *gid)
{
	return find_root(spec, TAG_UID_MAP, uid) && find_root(spec, TAG_GID_MAP, gid);
}

uint32_t idmap_outside(const struct spec *spec, unsigned tag, uint32_t inside)
{
	struct record record;
	for (size_t at = 0; spec_next(spec, &at, tag, &record);) {
		uint32_t first = record_u32(&record, 0);
		if (inside >= first && inside - first < record_u32(&record, 8))
			return record_u32(&record, 4) + (inside - first);
	}
	return 0;
}

static int write_maps(const struct idmap *map, int proc, pid_t pid, struct failure *failure)
{
	static const char *const names[2] = {"uid_map", "gid_map"};
	char path[32];
	for (int i = 0; i < 2; i++) {
		format_text(path, sizeof path, "%d/%s", (int)pid, names[i]);
		int fd = k_openat2(proc, path, O_WRONLY | O_CLOEXEC, 0, PROC_PLAIN);
		int result = fd < 0 ? -1 : write_all(fd, map->text[i], map->used[i]);
		int error = errno;
		close_fd(&fd);
		if (result < 0)
			return fail(failure, error, "cannot map the container's %s",
				    i == 0 ? "users" : "groups");
	}
	return 0;
}

int idmap_namespace(const struct idmap *map, struct failure *failure)
{
	int wake[2], result = -1, proc = -1;
	char path[32];
	if (map->used[0] == 0 || map->used[1] == 0)
		return fail(failure, 0, "a user namespace needs maps of users and of groups");
	if (pipe2(wake, O_CLOEXEC) < 0)
		return fail(failure, errno, "cannot make a pipe");
	struct k_clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
	pid_t pid = k_clone3(&args);
	if (pid == 0) {
		close(wake[1]);
		(void)read(wake[0], path, 1); /* until the other end is closed */
		_exit(0);
	}
	if (pid < 0) {
		fail(failure, errno, "cannot make a user namespace");
		goto out;
	}
	proc = newfs_proc(failure);
	if (proc >= 0 && write_maps(map, proc, pid, failure) == 0) {
		/* A link of the kernel's, in a file system nothing else can be mounted on. */
		format_text(path, sizeof path, "%d/ns/user", (int)pid);
		result = openat(proc, path, O_RDONLY | O_CLOEXEC);
		if (result < 0)
			fail(failure, errno, "cannot open the user namespace");
	}
	close_fd(&wake[1]);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		continue;
out:
	close_fd(&wake[0]);
	close_fd(&wake[1]);
	close_fd(&proc);
	return result;
}
