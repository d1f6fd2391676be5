/* Makes, joins, kills and removes the container's control groups; see cgroup.h. */
#include "cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "kernel.h"

#define WRITE_OPTIONAL 1
#define WRITE_INHERITED 2
#define REMOVE_TRIES 100
#define REMOVE_PAUSE_NS 2000000L
#define KILL_ROUNDS 50
#define FREEZE_TRIES 50
#define FREEZE_PAUSE_NS 200000L
#define INHERITED_MAX 4096
#define BPF_PROG_LOAD 5
#define BPF_PROG_ATTACH 8
#define BPF_PROG_TYPE_CGROUP_DEVICE 15
#define BPF_CGROUP_DEVICE 6
#define BPF_INSTRUCTION_BYTES 8

static void pause_ns(long ns)
{
	struct timespec pause = {0, ns};
	nanosleep(&pause, NULL);
}

int cgroup_leave_daemon(const struct spec *spec, struct failure *failure)
{
	struct record record;
	for (size_t at = 0; spec_next(spec, &at, TAG_SHIM_CGROUP, &record);) {
		const char *dir = record_string(&record, 4, 0);
		if (dir == NULL)
			return fail(failure, 0, "a control group has no path");
		int fd = open(dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return fail(failure, errno, "cannot open the control group %s", dir);
		if (record_u32(&record, 0) & CGROUP_V2) {
			struct k_clone_args args = {.flags = K_CLONE_INTO_CGROUP,
						    .exit_signal = SIGCHLD,
						    .cgroup = (uint64_t)fd};
			pid_t pid = k_clone3(&args);
			if (pid < 0) {
				fail(failure, errno, "cannot start in the control group %s", dir);
				close(fd);
				return -1;
			}
			if (pid > 0)
				_exit(0); /* the daemon reaps this one; the child is the shim */
		} else if (write_file_at(fd, "tasks", "0") < 0) {
			fail(failure, errno, "cannot join the control group %s", dir);
			close(fd);
			return -1;
		}
		close(fd);
	}
	return 0;
}

static int attach_device_program(int dir, const struct record *record, struct failure *failure)
{
	struct {
		uint32_t type, count;
		uint64_t instructions, license;
		uint32_t log_level, log_size;
		uint64_t log;
		uint32_t kernel, flags;
	} load = {.type = BPF_PROG_TYPE_CGROUP_DEVICE,
		  .count = (uint32_t)(record->size / BPF_INSTRUCTION_BYTES),
		  .license = (uint64_t)(uintptr_t)"Apache-2.0"};
	void *aligned = take_memory(record->size);
	if (aligned == NULL)
		return fail(failure, ENOMEM, "cannot load the device rules");
	memcpy(aligned, record->data, record->size);
	load.instructions = (uint64_t)(uintptr_t)aligned;
	int program = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load);
	int error = errno;
	give_memory(aligned, record->size);
	if (program < 0)
		return fail(failure, error, "cannot load the device rules");
	struct {
		uint32_t target, program, type, flags;
	} attach = {(uint32_t)dir, (uint32_t)program, BPF_CGROUP_DEVICE, 0};
	int result = (int)syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach);
	error = errno;
	close(program);
	return result < 0 ? fail(failure, error, "cannot attach the device rules") : 0;
}

static int open_group(struct cgroups *groups, const struct record *record, int make, int *dir,
		      struct failure *failure)
{
	uint32_t flags = record_u32(record, 0);
	const char *path = record_string(record, 4, 0);
	if (path == NULL || groups->count == CGROUPS_MAX)
		return fail(failure, 0, "too many control groups");
	int is_made = make && mkdir(path, 0755) == 0;
	if (make && !is_made && errno != EEXIST)
		return fail(failure, errno, "cannot create the control group %s", path);
	groups->is_made[groups->count] = is_made;
	groups->is_v2[groups->count] = (flags & CGROUP_V2) != 0;
	groups->dirs[groups->count++] = path;
	*dir = open(path, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	if (*dir < 0)
		return fail(failure, errno, "cannot open the control group %s", path);
	if (flags & CGROUP_V2) {
		groups->v2 = *dir;
		groups->v2_dir = path;
	} else {
		int tasks = openat(*dir, "tasks", O_WRONLY | O_CLOEXEC);
		if (tasks < 0)
			return fail(failure, errno, "cannot open %s/tasks", path);
		groups->joins[groups->join_count++] = tasks;
	}
	if (flags & CGROUP_MEMORY) {
		groups->memory = *dir;
		groups->memory_is_v2 = (flags & CGROUP_V2) != 0;
	}
	if (flags & CGROUP_FREEZER)
		groups->freezer = *dir;
	return 0;
}

/* What was written to last: a list, as of devices, takes a write for each of its lines. */
struct limit_file {
	int fd;
	const char *name; /* in the specification; of the group at hand */
};

static int open_limit(struct limit_file *last, int dir, const char *name)
{
	if (last->fd >= 0 && strcmp(last->name, name) == 0)
		return 0;
	close_fd(&last->fd);
	last->name = name;
	last->fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
	return last->fd < 0 ? -1 : 0;
}

/* What the group above has in it now; 0 when that cannot be told. */
static int read_above(int dir, const char *file, char value[INHERITED_MAX])
{
	char path[64];
	format_text(path, sizeof path, "../%s", file);
	ssize_t length = read_file_at(dir, path, value, INHERITED_MAX);
	if (length > 0 && value[length - 1] == '\n')
		value[length - 1] = 0;
	return length >= 0 && length < INHERITED_MAX - 1;
}

static int write_limit(struct limit_file *last, int dir, const struct record *record,
		       struct failure *failure)
{
	const char *file = record_string(record, 4, 0);
	const char *value = record_string(record, 4, 1);
	char above[INHERITED_MAX];
	if (file == NULL || value == NULL)
		return fail(failure, 0, "a control group value is malformed");
	if (record_u32(record, 0) & WRITE_INHERITED) {
		if (!read_above(dir, file, above))
			return fail(failure, errno, "cannot read %s of the group above", file);
		value = above;
	}
	if ((open_limit(last, dir, file) == 0 && write_all(last->fd, value, strlen(value)) == 0) ||
	    (record_u32(record, 0) & WRITE_OPTIONAL))
		return 0;
	return fail(failure, errno, "cannot set %s to %s", file, value);
}

static int take_groups(struct cgroups *groups, const struct spec *spec, int make,
		       struct failure *failure)
{
	memset(groups, 0, sizeof *groups);
	groups->v2 = groups->memory = groups->freezer = groups->entrance = -1;
	int dir = -1, result = 0;
	struct limit_file last = {-1, NULL};
	struct record record;
	for (size_t at = 0; result == 0 && spec_next(spec, &at, 0, &record);) {
		if (record.tag == TAG_CGROUP) {
			close_fd(&last.fd);
			if (dir != groups->v2 && dir != groups->memory && dir != groups->freezer)
				close_fd(&dir);
			result = open_group(groups, &record, make, &dir, failure);
		} else if (!make) {
			continue;
		} else if (record.tag == TAG_CGROUP_WRITE) {
			result = write_limit(&last, dir, &record, failure);
		} else if (record.tag == TAG_DEVICE_PROGRAM) {
			result = attach_device_program(groups->v2, &record, failure);
		}
	}
	close_fd(&last.fd);
	if (dir != groups->v2 && dir != groups->memory && dir != groups->freezer)
		close_fd(&dir);
	return result;
}

int cgroups_create(struct cgroups *groups, const struct spec *spec, struct failure *failure)
{
	return take_groups(groups, spec, 1, failure);
}

int cgroups_open(struct cgroups *groups, const struct spec *spec, struct failure *failure)
{
	return take_groups(groups, spec, 0, failure);
}

int cgroups_keep_paths(struct cgroups *groups)
{
	size_t total = 1;
	for (size_t i = 0; i < groups->count; i++)
		total += strlen(groups->dirs[i]) + 1;
	char *at = take_memory(total);
	if (at == NULL)
		return 0;
	for (size_t i = 0; i < groups->count; i++) {
		size_t length = strlen(groups->dirs[i]) + 1;
		int is_v2_dir = groups->dirs[i] == groups->v2_dir;
		groups->dirs[i] = memcpy(at, groups->dirs[i], length);
		if (is_v2_dir)
			groups->v2_dir = groups->dirs[i];
		at += length;
	}
	return 1;
}

int cgroups_join(const struct cgroups *groups, struct failure *failure)
{
	for (size_t i = 0; i < groups->join_count; i++)
		if (write_all(groups->joins[i], "0", 1) < 0)
			return fail(failure, errno, "cannot join the container's control groups");
	return 0;
}

int cgroups_open_joins(struct cgroups *groups, struct failure *failure)
{
	char path[PATH_MAX];
	size_t count = groups->join_count > 0 ? 0 : groups->count; /* they are open already */
	for (size_t i = 0; i < count; i++) {
		if (groups->is_v2[i])
			continue;
		format_text(path, sizeof path, "%s/tasks", groups->dirs[i]);
		int tasks = open(path, O_WRONLY | O_CLOEXEC);
		if (tasks < 0)
			return fail(failure, errno, "cannot open %s", path);
		groups->joins[groups->join_count++] = tasks;
	}
	return 0;
}

int cgroups_entrance(struct cgroups *groups)
{
	if (groups->entrance >= 0 || groups->v2 < 0)
		return groups->entrance;
	int copy = k_open_tree(groups->v2, "", K_OPEN_TREE_CLONE | K_AT_EMPTY_PATH | O_CLOEXEC);
	if (copy >= 0 && k_mount_setattr(copy, "", K_AT_EMPTY_PATH, K_MOUNT_ATTR_RDONLY,
					 MS_PRIVATE) < 0)
		close_fd(&copy);
	groups->entrance = copy;
	return copy;
}

/* SIGKILL to what one read of cgroup.procs lists; how many there were. */
static int kill_some(int dir)
{
	char list[4096];
	ssize_t length = read_file_at(dir, "cgroup.procs", list, sizeof list);
	/* A number cut off at the end is read whole in the next round. */
	while (length > 0 && list[length - 1] != '\n')
		length--;
	if (length <= 0)
		return 0;
	list[length] = 0;
	int killed = 0;
	uint64_t pid;
	for (const char *at = list; read_number(&at, &pid); at++)
		killed += pid > 0 && kill((pid_t)pid, SIGKILL) == 0;
	return killed;
}

/*
 * Frozen first, where there is a freezer: what does not run neither ends nor forks, so the numbers
 * listed name whom they named, and nobody is missed. It dies once it is thawed.
 */
static void kill_listed(int dir)
{
	for (int round = 0; round < KILL_ROUNDS; round++) {
		char state[16] = "";
		int has_freezer = write_file_at(dir, "freezer.state", "FROZEN") == 0;
		for (int i = 0; has_freezer && i < FREEZE_TRIES; i++) {
			if (read_file_at(dir, "freezer.state", state, sizeof state) < 0 ||
			    strncmp(state, "FROZEN", 6) == 0)
				break;
			pause_ns(FREEZE_PAUSE_NS); /* e.g. waits for a disk; then killed as it is */
		}
		int killed = kill_some(dir);
		if (has_freezer)
			(void)write_file_at(dir, "freezer.state", "THAWED");
		if (killed == 0)
			return;
		pause_ns(REMOVE_PAUSE_NS);
	}
}

void cgroups_kill(const struct cgroups *groups)
{
	if (groups->v2 >= 0 && write_file_at(groups->v2, "cgroup.kill", "1") == 0)
		return;
	if (groups->freezer >= 0)
		kill_listed(groups->freezer);
	else if (groups->v2 >= 0)
		kill_listed(groups->v2); /* before Linux 5.14 */
}

void cgroups_let_die(const struct cgroups *groups)
{
	if (groups->v2 < 0 && groups->freezer >= 0)
		(void)write_file_at(groups->freezer, "freezer.state", "THAWED"); /* or is already */
}

int cgroups_freeze(const struct cgroups *groups, int frozen)
{
	if (groups->v2 >= 0)
		return write_file_at(groups->v2, "cgroup.freeze", frozen ? "1" : "0") < 0 ? errno
											 : 0;
	if (groups->freezer < 0)
		return ENOSYS; /* this host has no freezer */
	return write_file_at(groups->freezer, "freezer.state", frozen ? "FROZEN" : "THAWED") < 0
		       ? errno
		       : 0;
}

int cgroups_oom_killed(const struct cgroups *groups)
{
	char text[512];
	if (groups->memory < 0)
		return 0;
	const char *file = groups->memory_is_v2 ? "memory.events" : "memory.oom_control";
	if (read_file_at(groups->memory, file, text, sizeof text) < 0)
		return 0;
	const char *count = strstr(text, "oom_kill ");
	uint64_t kills;
	if (count == NULL)
		return 0;
	count += strlen("oom_kill ");
	return read_number(&count, &kills) && kills > 0;
}

/* Whether none of them is there any more. */
static int remove_groups(struct cgroups *groups, int only_made)
{
	int are_gone = 1;
	for (size_t i = 0; i < groups->count; i++) {
		int tries = only_made && !groups->is_made[i] ? 0 : REMOVE_TRIES, is_gone = 0;
		while (tries-- > 0 && !is_gone) {
			is_gone = rmdir(groups->dirs[i]) == 0 || errno == ENOENT;
			if (!is_gone && errno != EBUSY)
				break;
			if (!is_gone)
				pause_ns(REMOVE_PAUSE_NS);
		}
		are_gone &= is_gone;
	}
	groups->count = 0; /* what could not be removed, the daemon removes with the container */
	return are_gone;
}

int cgroups_remove(struct cgroups *groups)
{
	return remove_groups(groups, 0);
}

void cgroups_remove_made(struct cgroups *groups)
{
	int are_made = groups->count > 0;
	for (size_t i = 0; i < groups->count; i++)
		are_made &= groups->is_made[i];
	if (are_made)
		cgroups_kill(groups); /* nobody else is in there */
	(void)remove_groups(groups, 1); /* what others use stays */
}
