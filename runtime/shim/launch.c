/* Clones the processes of programs; see launch.h. */
#include "launch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "gate.h"
#include "kernel.h"
#include "namespaces.h"
#include "stage.h"
#include "target.h"

static int make_pipe(int *ours, int *theirs, int is_input, struct failure *failure)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return fail(failure, errno, "cannot make a pipe");
	*theirs = ends[is_input ? 0 : 1];
	*ours = ends[is_input ? 1 : 0];
	return 0;
}

static int make_pair(int *ours, int *theirs, struct failure *failure)
{
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return fail(failure, errno, "cannot make a socket");
	*ours = ends[0];
	*theirs = ends[1];
	return 0;
}

static int open_streams(struct launch *launch, struct child_io *io, struct failure *failure)
{
	uint32_t flags = spec_u32(launch->spec, TAG_FLAGS, 0);
	if (flags & (SPEC_TTY | SPEC_PASS_STREAMS))
		return 0;
	if (make_pipe(&launch->out, &io->out, 0, failure) < 0 ||
	    make_pipe(&launch->err, &io->err, 0, failure) < 0)
		return -1;
	return flags & SPEC_STDIN ? make_pipe(&launch->in, &io->in, 1, failure) : 0;
}

/* With one clone3. */
static pid_t clone_container(struct launch *launch, struct child_io *io,
			     struct k_clone_args *args)
{
	/* Its own groups come first: the child makes the cgroup namespace itself. */
	args->flags |= io->namespaces->created & ~(uint32_t)K_CLONE_NEWCGROUP;
	pid_t pid = k_clone3(args);
	if (pid == 0)
		child_run(launch->spec, launch->groups, io);
	return pid;
}

/*
 * A container that has divided its group among groups of its own has none that takes processes at
 * the top: a further one goes where its first is.
 */
static pid_t enter_container(struct launch *launch, struct child_io *io, struct k_clone_args *args,
			     const struct beside *beside, struct failure *failure)
{
	pid_t pid = stage_run(launch->spec, launch->groups, io, args, beside, failure);
	if (pid != -EBUSY)
		return pid;
	int group = target_group(launch->target, (int)args->cgroup, launch->groups->v2_dir);
	if (group < 0)
		return -1;
	args->cgroup = (uint64_t)group;
	pid = stage_run(launch->spec, launch->groups, io, args, beside, failure);
	close_fd(&group);
	return pid;
}

static int clone_child(struct launch *launch, struct child_io *io, int helper,
		       struct failure *failure)
{
	const struct beside beside = {&launch->attendant, helper};
	struct k_clone_args args = {
		.flags = K_CLONE_PIDFD,
		.pidfd = (uint64_t)(uintptr_t)&launch->pidfd,
		.exit_signal = SIGCHLD,
	};
	int is_exec = launch->target >= 0;
	int group = is_exec ? cgroups_entrance(launch->groups) : launch->groups->v2;
	if (launch->groups->v2 >= 0 && group < 0)
		return fail(failure, errno, "cannot open the container's control group");
	if (group >= 0) {
		args.flags |= K_CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)group;
	}
	if (is_exec) {
		launch->pid = enter_container(launch, io, &args, &beside, failure);
		return launch->pid < 0 ? -1 : 0;
	}
	if (namespaces_staged(io->namespaces)) {
		launch->pid =
			stage_run(launch->spec, launch->groups, io, &args, &beside, failure);
		return launch->pid < 0 ? -1 : 0;
	}
	launch->pid = clone_container(launch, io, &args);
	if (launch->pid < 0)
		return fail(failure, errno, "cannot create the container's namespaces");
	return 0;
}

static int open_namespaces(const struct launch *launch, struct namespaces *namespaces,
			   struct child_io *io, struct failure *failure)
{
	if (launch->target >= 0)
		return 0; /* the target's */
	io->namespaces = namespaces;
	return namespaces_open(namespaces, launch->spec, failure);
}

/* The child goes with what it has done: it is not executed yet, and its status has no reader. */
static void abandon(struct launch *launch)
{
	if (launch->pid > 0) {
		kill(launch->pid, SIGKILL);
		(void)waitpid(launch->pid, NULL, 0);
	}
	attendant_reap(&launch->attendant); /* its socket has ended */
	close_fd(&launch->pidfd);
	close_fd(&launch->status);
	close_fd(&launch->in);
	close_fd(&launch->out);
	close_fd(&launch->err);
}

int launch_start(struct launch *launch, struct failure *failure)
{
	struct child_io io = {.status = -1, .in = -1, .out = -1, .err = -1,
			      .init = launch->target, .gate = -1, .attendant = -1};
	struct namespaces namespaces = {0};
	int helper = -1, result = -1;
	launch->pidfd = launch->status = launch->in = launch->out = launch->err = -1;
	launch->pid = 0;
	launch->attendant = (struct attendant){0, -1};
	if (open_namespaces(launch, &namespaces, &io, failure) == 0 &&
	    make_pair(&launch->status, &io.status, failure) == 0 &&
	    open_streams(launch, &io, failure) == 0 &&
	    gate_open(launch->spec, &io.gate, failure) == 0 &&
	    (!attendant_wanted(launch->spec) ||
	     (attendant_prepare(failure) == 0 &&
	      make_pair(&helper, &io.attendant, failure) == 0)))
		result = clone_child(launch, &io, helper, failure);
	if (result == 0 && helper >= 0 && launch->attendant.pid == 0)
		result = attendant_start(&launch->attendant, launch->spec, helper, io.status,
					 launch->pid, launch->pidfd, failure);
	int *theirs[] = {&io.status, &io.in, &io.out, &io.err, &io.gate, &io.attendant, &helper};
	for (size_t i = 0; i < sizeof theirs / sizeof *theirs; i++)
		close_fd(theirs[i]);
	namespaces_close(&namespaces);
	for (size_t i = 0; i < launch->groups->join_count; i++)
		close_fd(&launch->groups->joins[i]);
	launch->groups->join_count = 0;
	if (result < 0)
		abandon(launch);
	return result;
}
