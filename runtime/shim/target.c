/* Finds and enters a running container; see target.h. */
#include "target.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "idmap.h"
#include "kernel.h"
#include "namespaces.h"

#define FLAGS_FIELD 9
#define FLAG_FORKED_ONLY 0x40u /* PF_FORKNOEXEC */
#define START_TIME_FIELD 22
#define GROUPS_TEXT_MAX 16384 /* a line for each hierarchy */
#define NAMESPACES (sizeof namespaces / sizeof *namespaces)

static const struct {
	const char *name;
	int flag;
} namespaces[] = {
	{"user", CLONE_NEWUSER}, {"mnt", CLONE_NEWNS},  {"uts", CLONE_NEWUTS},
	{"ipc", CLONE_NEWIPC},   {"net", CLONE_NEWNET}, {"cgroup", K_CLONE_NEWCGROUP},
	{"time", K_CLONE_NEWTIME},
};

/* A number of /proc/<pid>/stat; what is before the third field may hold spaces and brackets. */
static int read_field(pid_t pid, int wanted, uint64_t *value)
{
	char path[32], text[1024];
	format_text(path, sizeof path, "/proc/%d/stat", (int)pid);
	if (read_file_at(AT_FDCWD, path, text, sizeof text) < 0)
		return -1;
	const char *at = strrchr(text, ')');
	for (int field = 2; at != NULL && field < wanted; field++) {
		at = strchr(at, ' ');
		at = at == NULL ? NULL : at + 1;
	}
	return at != NULL && read_number(&at, value) ? 0 : -1;
}

int target_start_ticks(pid_t pid, uint64_t *ticks)
{
	return read_field(pid, START_TIME_FIELD, ticks);
}

int target_was_executed(pid_t pid, uint32_t spec_flags)
{
	siginfo_t info = {0};
	uint64_t flags;
	/* Not by how it ended, as it may be about to. */
	if (!(spec_flags & SPEC_INIT))
		return read_field(pid, FLAGS_FIELD, &flags) < 0 || !(flags & FLAG_FORKED_ONLY);
	/* A reaper executes nothing itself. */
	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 ||
	       info.si_pid == 0 || info.si_code == CLD_EXITED || info.si_status != SIGKILL;
}

int target_open(const struct spec *spec, int *pidfd, struct failure *failure)
{
	struct record record;
	uint64_t ticks;
	if (!spec_last(spec, TAG_EXEC_TARGET, &record))
		return fail(failure, 0, "the specification names no container to enter");
	pid_t pid = (pid_t)record_u32(&record, 0);
	*pidfd = (int)syscall(NR_pidfd_open, pid, 0);
	/* Read after it was opened: if this is the right one, the descriptor is its. */
	if (*pidfd >= 0 && target_start_ticks(pid, &ticks) == 0 && ticks == record_u64(&record, 4))
		return 0;
	close_fd(pidfd);
	return fail(failure, 0, "the container's process %d has ended", (int)pid);
}

/* The process behind a pidfd, as this process numbers it; 0 when it has ended. */
static pid_t pid_of(int pidfd)
{
	char path[48], text[512];
	uint64_t pid;
	format_text(path, sizeof path, "/proc/self/fdinfo/%d", pidfd);
	if (read_file_at(AT_FDCWD, path, text, sizeof text) < 0)
		return 0;
	const char *at = strstr(text, "\nPid:\t");
	if (at == NULL)
		return 0;
	at += strlen("\nPid:\t");
	return read_number(&at, &pid) ? (pid_t)pid : 0;
}

int target_differing(int pidfd, struct failure *failure)
{
	pid_t pid = pid_of(pidfd);
	int flags = 0;
	if (pid <= 0)
		return fail(failure, ESRCH, "cannot join the container's namespaces");
	for (size_t i = 0; i < NAMESPACES; i++) {
		char own[40], other[40];
		struct stat mine, theirs;
		format_text(own, sizeof own, "/proc/self/ns/%s", namespaces[i].name);
		format_text(other, sizeof other, "/proc/%d/ns/%s", (int)pid, namespaces[i].name);
		if (stat(own, &mine) == 0 && stat(other, &theirs) == 0 &&
		    (mine.st_ino != theirs.st_ino || mine.st_dev != theirs.st_dev))
			flags |= namespaces[i].flag;
	}
	return flags;
}

/* Where 0 inside is outside, by /proc/<pid>/<file>; 0 when it is not mapped. */
static uint32_t outside_of_root(pid_t pid, const char *file)
{
	char path[32], text[IDMAP_TEXT_MAX];
	format_text(path, sizeof path, "/proc/%d/%s", (int)pid, file);
	if (read_file_at(AT_FDCWD, path, text, sizeof text) < 0)
		return 0;
	for (const char *at = text; at != NULL && *at != 0;) {
		uint64_t inside, outside;
		at += strspn(at, " ");
		if (!read_number(&at, &inside))
			break;
		at += strspn(at, " ");
		if (!read_number(&at, &outside))
			break;
		if (inside == 0)
			return (uint32_t)outside;
		at = strchr(at, '\n');
		at = at == NULL ? NULL : at + 1;
	}
	return 0;
}

int target_root(int pidfd, uid_t *uid, gid_t *gid)
{
	pid_t pid = pid_of(pidfd);
	*uid = pid > 0 ? outside_of_root(pid, "uid_map") : 0;
	*gid = pid > 0 ? outside_of_root(pid, "gid_map") : 0;
	return *uid != 0 && *gid != 0;
}

int target_enter(int pidfd, int kinds, struct failure *failure)
{
	/* All at once: the kernel checks them against what this process may before any is joined. */
	if (kinds != 0 && setns(pidfd, kinds) < 0)
		return fail(failure, errno, "cannot join the container's namespaces");
	return kinds & CLONE_NEWUSER ? namespaces_become_root(failure) : 0;
}

/*
 * What of `path`, a group below `own`, comes after that: `own` is a path on this host and `path` one
 * in the hierarchy, so they agree from some component of `own` on. NULL when they do not.
 */
static const char *rest_of(const char *path, const char *own)
{
	for (const char *tail = own; tail != NULL; tail = strchr(tail + 1, '/')) {
		size_t length = strlen(tail);
		if (length > 1 && strncmp(path, tail, length) == 0 && path[length] == '/')
			return path + length + 1;
	}
	return NULL;
}

int target_group(int pidfd, int group, const char *own)
{
	char path[32], text[GROUPS_TEXT_MAX];
	pid_t pid = pid_of(pidfd);
	format_text(path, sizeof path, "/proc/%d/cgroup", (int)pid);
	if (pid <= 0 || read_file_at(AT_FDCWD, path, text, sizeof text) < 0)
		return -1;
	char *line = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
	char *found = line == NULL ? NULL : strchr(line, '/');
	char *end = found == NULL ? NULL : strchr(found, '\n');
	if (end == NULL)
		return -1;
	*end = 0;
	const char *rest = rest_of(found, own);
	return rest == NULL ? -1
			    : k_openat2(group, rest, O_PATH | O_DIRECTORY | O_CLOEXEC, 0,
					K_RESOLVE_BENEATH | K_RESOLVE_NO_XDEV |
						K_RESOLVE_NO_SYMLINKS);
}
