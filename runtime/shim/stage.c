/* Makes the namespaces that take a process of their own; see stage.h. */
#include "stage.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control.h"
#include "descriptors.h"
#include "hooks.h"
#include "idmap.h"
#include "kernel.h"
#include "label.h"
#include "limits.h"
#include "mounts.h"
#include "newfs.h"
#include "ready.h"
#include "rootfs.h"
#include "status.h"
#include "target.h"

#define OFFSETS_MAX 128
#define KEPT 9 /* descriptors of an exec's, without those of its groups */
#define DELEGATED_MAX 4096 /* a page of names */
#define NO_DESCRIPTOR "no descriptor is left for the program's process"

struct stage {
	const struct spec *spec;
	struct cgroups *groups;
	int group;   /* an exec: the v2 group it is cloned into; -1: none, or this process's */
	struct child_io *io;
	int tell;    /* the shim's */
	pid_t *born; /* shared with it: who was cloned, though nobody lives to tell; 0: nobody */
	int user;    /* the user namespace; -1: the host's */
	int offsets; /* where the time namespace's offsets are written; -1: nowhere */
	struct birth birth; /* its namespace -1: the program's process is cloned, and does the rest */
};

#define SEPARATE ((uint32_t)(CLONE_NEWUSER | K_CLONE_NEWTIME | K_CLONE_NEWCGROUP))

/* Whether the container sees its v2 group as a root it may write to. */
static int has_own_group(const struct stage *stage)
{
	struct record record;
	int is_writable = 0;
	for (size_t at = 0; spec_next(stage->spec, &at, TAG_MOUNT, &record);)
		is_writable |= mounts_is_writable(&record, "cgroup2");
	return is_writable && stage->groups->v2 >= 0 &&
	       (stage->io->namespaces->created & K_CLONE_NEWCGROUP) != 0;
}

/* The container's root may divide its group: the kernel names the files that are to be its. */
static int delegate_group(const struct stage *stage, uid_t uid, gid_t gid,
			  struct failure *failure)
{
	char names[DELEGATED_MAX];
	int v2 = stage->groups->v2;
	if (!has_own_group(stage))
		return 0;
	if (fchownat(v2, ".", uid, gid, 0) < 0)
		return fail(failure, errno, "cannot hand over the container's control group");
	if (read_file_at(AT_FDCWD, "/sys/kernel/cgroup/delegate", names, sizeof names) < 0)
		names[0] = 0; /* a kernel before 4.15 */
	for (char *name = names, *end; (end = strchr(name, '\n')) != NULL; name = end + 1) {
		*end = 0;
		if (fchownat(v2, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOENT)
			return fail(failure, errno, "cannot hand over the group's %s", name);
	}
	return 0;
}

static int open_user(struct stage *stage, struct failure *failure)
{
	struct idmap map = {0};
	const struct namespaces *namespaces = stage->io->namespaces;
	stage->user = namespaces_joined(namespaces, CLONE_NEWUSER);
	if (!(namespaces->created & CLONE_NEWUSER))
		return 0;
	uid_t uid;
	gid_t gid;
	if (idmap_root(stage->spec, &uid, &gid) &&
	    (child_give_streams(stage->io, uid, gid, failure) < 0 ||
	     delegate_group(stage, uid, gid, failure) < 0))
		return -1;
	if (idmap_read_own(&map, stage->spec, failure) < 0)
		return -1;
	stage->user = idmap_namespace(&map, failure);
	return stage->user < 0 ? -1 : 0;
}

/* While this process may still write there. */
static int open_offsets(struct stage *stage, struct failure *failure)
{
	char path[48];
	if (spec_count(stage->spec, TAG_TIME_OFFSET) == 0)
		return 0;
	int proc = newfs_proc(failure);
	if (proc < 0)
		return -1;
	format_text(path, sizeof path, "%d/timens_offsets", (int)getpid());
	stage->offsets = k_openat2(proc, path, O_WRONLY | O_CLOEXEC, 0, PROC_PLAIN);
	int error = errno;
	close_fd(&proc);
	return stage->offsets < 0 ? fail(failure, error, "cannot set the time namespace") : 0;
}

static int write_offsets(const struct stage *stage, struct failure *failure)
{
	struct record record;
	char text[OFFSETS_MAX];
	for (size_t at = 0; spec_next(stage->spec, &at, TAG_TIME_OFFSET, &record);) {
		int64_t seconds = (int64_t)record_u64(&record, 4);
		uint64_t value = seconds < 0 ? 0 - (uint64_t)seconds : (uint64_t)seconds;
		size_t used = format_text(text, sizeof text, "%u %s%llu %u\n",
					  record_u32(&record, 0), seconds < 0 ? "-" : "",
					  (unsigned long long)value, record_u32(&record, 12));
		if (write_all(stage->offsets, text, used) < 0)
			return fail(failure, errno, "cannot set the offset of clock %u",
				    record_u32(&record, 0));
	}
	return 0;
}

/* Its root, with nothing of the host's left. */
static int enter_user(const struct stage *stage, struct failure *failure)
{
	if (stage->user < 0)
		return 0;
	if (setns(stage->user, CLONE_NEWUSER) < 0)
		return fail(failure, errno, "cannot enter the user namespace");
	return namespaces_become_root(failure);
}

/*
 * What of another's pid namespace the root of a user namespace cannot have: a procfs to work with,
 * as this process is not in it, and, where it belongs to others, itself.
 */
static int choose_pids(struct stage *stage, struct failure *failure)
{
	if (stage->birth.pids < 0 || stage->user < 0)
		return 0;
	if (newfs_keep_proc(failure) < 0)
		return -1;
	if (namespaces_is_owner(stage->user, stage->birth.pids))
		return 0;
	/* They would be run in it, and in the host's root. */
	if (hooks_has(stage->spec, HOOK_CREATE_CONTAINER))
		return fail(failure, 0, "createContainer hooks cannot be run for a container that has "
					"a user namespace and the pid namespace of another");
	return birth_choose(&stage->birth, failure);
}

/* What the host's root has to do, and the way into the namespaces. */
static int prepare(struct stage *stage, struct failure *failure)
{
	const struct namespaces *namespaces = stage->io->namespaces;
	const uint32_t late = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID;
	limits_raise(stage->spec, stage->io->status);
	if (cgroups_join(stage->groups, failure) < 0 || open_user(stage, failure) < 0 ||
	    open_offsets(stage, failure) < 0 || namespaces_join(namespaces, ~late, failure) < 0)
		return -1;
	newfs_use_pids(stage->birth.pids);
	if ((stage->user >= 0 || (namespaces->joined & (CLONE_NEWNS | CLONE_NEWPID))) &&
	    rootfs_open_as_host(stage->spec, stage->user, namespaces->created, failure) < 0)
		return -1;
	/* The settings of a network that is another's are not for the container's root to change. */
	if (stage->user >= 0 && !(namespaces->created & CLONE_NEWNET) &&
	    rootfs_sysctls(stage->spec, SYSCTLS_NET, failure) < 0)
		return -1;
	if (namespaces_join(namespaces, CLONE_NEWNS, failure) < 0 ||
	    choose_pids(stage, failure) < 0 || enter_user(stage, failure) < 0)
		return -1;
	if ((namespaces->created & K_CLONE_NEWTIME) && unshare(K_CLONE_NEWTIME) < 0)
		return fail(failure, errno, "cannot make a time namespace");
	return write_offsets(stage, failure);
}

/*
 * An exec's: what needs this host's paths, then the container's namespaces without any descriptor
 * of the shim's. The program's process is born in the pid namespace, so whatever the container may
 * look at finds nothing of the host. It goes without those namespaces in which it could not be put
 * into its group any more.
 */
static int prepare_exec(struct stage *stage, struct failure *failure)
{
	const int late = CLONE_NEWUSER | K_CLONE_NEWCGROUP;
	struct child_io *io = stage->io;
	struct cgroups *groups = stage->groups;
	int *kept[KEPT + CGROUPS_MAX] = {&io->status, &io->in, &io->out, &io->err,
					 &io->gate, &io->attendant, &io->init,
					 &stage->tell, &stage->group};
	uid_t uid;
	gid_t gid;
	limits_raise(stage->spec, io->status);
	if (label_set(stage->spec, failure) < 0 || cgroups_open_joins(groups, failure) < 0 ||
	    (target_root(io->init, &uid, &gid) &&
	     child_give_streams(io, uid, gid, failure) < 0))
		return -1;
	int kinds = target_differing(io->init, failure);
	if (kinds < 0)
		return -1;
	for (size_t i = 0; i < groups->join_count; i++)
		kept[KEPT + i] = &groups->joins[i];
	if (descriptors_keep(stage->spec, kept, KEPT + groups->join_count) < 0)
		return fail(failure, errno, "cannot close the shim's descriptors");
	io->late = kinds & late;
	return target_enter(io->init, (kinds & ~late) | CLONE_NEWPID, failure);
}

static void __attribute__((noreturn)) become(struct stage *stage)
{
	close_fd(&stage->tell);
	(void)munmap(stage->born, sizeof *stage->born);
	if (stage->io->init >= 0)
		child_exec(stage->spec, stage->groups, stage->io);
	child_run(stage->spec, stage->groups, stage->io);
}

/* This process becomes all that the program's is to be, and gives birth to it in the end. */
static void carry(struct stage *stage, struct failure *failure)
{
	uint32_t created = stage->io->namespaces->created & ~SEPARATE;
	stage->birth.tell = stage->tell;
	stage->birth.born = stage->born;
	stage->io->birth = &stage->birth;
	*stage->born = 0; /* the page is there when the kernel writes to it */
	if (created != 0 && unshare((int)created) < 0)
		fail(failure, errno, "cannot create the container's namespaces");
	else
		child_run(stage->spec, stage->groups, stage->io);
}

static void __attribute__((noreturn)) run(struct stage *stage)
{
	struct failure failure = {0};
	int is_exec = stage->io->init >= 0, pidfd = -1;
	int is_carried = stage->birth.pids >= 0;
	umask(0);
	int result = is_exec ? prepare_exec(stage, &failure) : prepare(stage, &failure);
	if (result == 0 && is_carried) {
		carry(stage, &failure);
	} else if (result == 0) {
		struct k_clone_args args = {
			/* The shim's child, with the signal this process has. */
			.flags = CLONE_PARENT | CLONE_PARENT_SETTID | K_CLONE_PIDFD,
			.pidfd = (uint64_t)(uintptr_t)&pidfd,
			.parent_tid = (uint64_t)(uintptr_t)stage->born,
		};
		if (!is_exec)
			args.flags |= stage->io->namespaces->created & ~SEPARATE;
		if (stage->group >= 0) {
			args.flags |= K_CLONE_INTO_CGROUP;
			args.cgroup = (uint64_t)stage->group;
		}
		*stage->born = 0; /* the page is there when the kernel writes to it */
		pid_t pid = k_clone3(&args);
		if (pid == 0)
			become(stage);
		if (pid > 0) {
			if (send_descriptor(stage->tell, pidfd, &pid, sizeof pid) == 0)
				_exit(0);
			int error = errno;
			kill(pid, SIGKILL); /* the shim may be gone */
			errno = error;
		}
		if (pid < 0 && is_exec && errno == EBUSY) {
			(void)send(stage->tell, &(pid_t){-EBUSY}, sizeof pid, MSG_NOSIGNAL);
			_exit(1);
		}
		fail(&failure, errno, is_exec ? "cannot enter the container"
					      : "cannot create the container's namespaces");
	}
	(void)send(stage->tell, &failure, sizeof failure, MSG_NOSIGNAL); /* it hears, or is gone */
	_exit(1);
}

/* Until there is a message or the stage has ended, which waits in vain for who works beside it. */
static void wait_for(int socket, int stage, int beside)
{
	/* Who is born has the socket, too. */
	struct pollfd ready[] = {{socket, POLLIN, 0}, {stage, POLLIN, 0}, {beside, POLLIN, 0}};
	do {
		if (ready_wait(ready, 3, -1) < 0) {
			if (errno == EINTR)
				continue;
			return;
		}
		if (ready[2].revents != 0 && attendant_is_missed())
			(void)k_pidfd_send_signal(stage, SIGKILL); /* or it has just ended */
		if (ready[2].revents != 0)
			ready[2].fd = -1;
	} while (ready[0].revents == 0 && ready[1].revents == 0);
}

/* Hears the stage's one message; 0: it has ended without. */
static pid_t hear(int socket, int *pidfd, struct failure *failure)
{
	union {
		struct failure failure;
		pid_t pid;
	} message = {.pid = 0};
	int fds[CONTROL_FDS_MAX];
	size_t fd_count = 0;
	ssize_t got = receive_with_fds(socket, &message, sizeof message, fds, &fd_count);
	if (got == (ssize_t)sizeof message.pid && fd_count == 1) {
		*pidfd = fds[0];
		return message.pid;
	}
	if (got == (ssize_t)sizeof message.pid && message.pid == -EBUSY) {
		fail(failure, EBUSY, "cannot enter the container");
		return -EBUSY;
	}
	if (got == (ssize_t)sizeof message.failure)
		*failure = message.failure;
	else if (got == (ssize_t)sizeof message.pid)
		fail(failure, 0, NO_DESCRIPTOR);
	else
		return 0;
	return -1;
}

/* It is this process's child and not waited for, so the number is its own. */
static pid_t take_newborn(pid_t born, int *pidfd, struct failure *failure)
{
	if (born <= 0)
		return fail(failure, 0, "killed before its namespaces were made");
	*pidfd = (int)syscall(NR_pidfd_open, born, 0);
	return *pidfd < 0 ? fail(failure, 0, NO_DESCRIPTOR) : born;
}

/* A process that the shim was not told of, or has no descriptor for, has nobody. */
static void drop(pid_t born)
{
	if (born <= 0)
		return;
	kill(born, SIGKILL);
	while (waitpid(born, NULL, 0) < 0 && errno == EINTR)
		continue;
}

pid_t stage_run(const struct spec *spec, struct cgroups *groups, struct child_io *io,
		const struct k_clone_args *args, const struct beside *beside,
		struct failure *failure)
{
	int ends[2], *pidfd = (int *)(uintptr_t)args->pidfd, is_exec = io->init >= 0;
	int own_pidfd = -1, pids = is_exec ? -1 : namespaces_joined(io->namespaces, CLONE_NEWPID);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return fail(failure, errno, "cannot make a socket");
	pid_t *born = mmap(NULL, sizeof *born, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			   -1, 0);
	if (born == MAP_FAILED) {
		fail(failure, errno, "cannot share memory with the container's process");
		close_fd(&ends[0]);
		close_fd(&ends[1]);
		return -1;
	}
	io->is_staged = 1;
	int has_group = (args->flags & K_CLONE_INTO_CGROUP) != 0;
	struct stage stage = {spec, groups, is_exec && has_group ? (int)args->cgroup : -1, io,
			      ends[1], born, -1, -1, {pids, -1, NULL}};
	struct k_clone_args own = *args;
	own.pidfd = (uint64_t)(uintptr_t)&own_pidfd;
	/* What enters a container is not counted there, nor stopped with it. */
	if (is_exec)
		own.flags &= ~K_CLONE_INTO_CGROUP;
	pid_t between = k_clone3(&own);
	if (between == 0) {
		close_fd(&ends[0]);
		run(&stage);
	}
	close_fd(&ends[1]);
	pid_t pid = -1;
	if (between < 0) {
		fail(failure, errno, "cannot start the container's process");
	} else if (pids < 0 || beside->socket < 0 ||
		   attendant_start(beside->attendant, spec, beside->socket, io->status, between,
				   own_pidfd, failure) == 0) {
		wait_for(ends[0], own_pidfd, beside->attendant->pidfd);
		pid = hear(ends[0], pidfd, failure);
	} else {
		(void)kill(between, SIGKILL); /* waited for below */
	}
	close_fd(&ends[0]);
	while (between > 0 && waitpid(between, NULL, 0) < 0 && errno == EINTR)
		continue;
	close_fd(&own_pidfd);
	if (pid == 0)
		pid = take_newborn(pids < 0 ? 0 : *born, pidfd, failure);
	if (pid < 0)
		drop(*born);
	(void)munmap(born, sizeof *born);
	return pid;
}
