/* Launches without a supervisor; see detached.h. */
#include "detached.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cgroup.h"
#include "control.h"
#include "descriptors.h"
#include "hooks.h"
#include "kernel.h"
#include "launch.h"
#include "ready.h"
#include "scheduling.h"
#include "status.h"
#include "target.h"
#include "told.h"

static struct client caller;
static struct cgroups groups;

static void tell_state(enum phase phase, pid_t pid)
{
	uint8_t state[STATE_BYTES];
	struct first_process process = {pid, 0};
	/* It is the caller's child: its number stays its own until the caller has waited for it. */
	(void)target_start_ticks(pid, &process.ticks);
	told_state(state, phase, process, realtime_ns(), 0);
	control_send(&caller, MESSAGE_STATE, 0, state, sizeof state);
}

static void tell_note(const char *text)
{
	control_send(&caller, MESSAGE_NOTE, 0, text, strlen(text));
}

int detached_fail(const struct failure *failure)
{
	uint8_t record[CONTROL_PAYLOAD_MAX];
	struct exit_record exit = {.exit_code = failure->exit_code,
				   .finished_ns = realtime_ns(),
				   .error = failure->text};
	caller.fd = CONTROL_FD;
	control_send(&caller, MESSAGE_EXITED, 0, record,
		     told_exit(record, sizeof record, &exit));
	return 1;
}

/* Reads on until the program was executed, waits at its gate, or failed. */
static enum report wait_made(struct launch *launch, struct failure *failure)
{
	for (;;) {
		struct pollfd polls[] = {{launch->status, POLLIN, 0},
					 {launch->attendant.pidfd, POLLIN, 0}};
		int fd;
		if (ready_wait(polls, 2, -1) < 0)
			continue; /* interrupted */
		if (polls[1].revents != 0) {
			attendant_reap(&launch->attendant);
			if (attendant_is_missed())
				(void)k_pidfd_send_signal(launch->pidfd, SIGKILL); /* or it ended */
		}
		if (polls[0].revents == 0)
			continue;
		enum report report = status_read(launch->status, failure, &fd);
		close_fd(&fd); /* a terminal without a console socket has nowhere to go */
		if (report == REPORT_NOTE)
			tell_note(failure->text);
		else if (report != REPORT_NOTHING && report != REPORT_TERMINAL)
			return report;
	}
}

/* The program's process is made, or the failure told and all of it gone. */
static enum report make(struct launch *launch, struct failure *failure)
{
	if (launch_start(launch, failure) < 0)
		return REPORT_FAILURE;
	enum report report = wait_made(launch, failure);
	attendant_reap(&launch->attendant); /* its socket has ended */
	uint32_t flags = spec_u32(launch->spec, TAG_FLAGS, 0);
	if (report == REPORT_END && !target_was_executed(launch->pid, flags)) {
		fail(failure, 0, "killed before its program was executed");
		report = REPORT_FAILURE;
	}
	if (report == REPORT_FAILURE)
		(void)waitpid(launch->pid, NULL, 0);
	return report;
}

/* Nobody stays to copy what a program writes. */
static int check_streams(const struct spec *spec, struct failure *failure)
{
	uint32_t flags = spec_u32(spec, TAG_FLAGS, 0);
	if (!(flags & SPEC_PASS_STREAMS))
		return fail(failure, 0,
			    "without a supervisor, streams can only be the caller's own");
	if ((flags & SPEC_TTY) && spec_count(spec, TAG_CONSOLE) == 0)
		return fail(failure, 0,
			    "without a supervisor, a terminal needs a console socket");
	return 0;
}

int detached_run(const struct spec *spec)
{
	struct failure failure = {0};
	struct launch launch = {.spec = spec, .groups = &groups, .target = -1};
	enum report report = REPORT_FAILURE;
	caller.fd = CONTROL_FD;
	if (check_streams(spec, &failure) == 0 && cgroups_create(&groups, spec, &failure) == 0)
		report = make(&launch, &failure);
	if (report == REPORT_FAILURE) {
		cgroups_remove_made(&groups);
		return detached_fail(&failure);
	}
	if (report == REPORT_END && hooks_run(spec, HOOK_POSTSTART, "running", launch.pid,
					      launch.pidfd, &failure) < 0)
		tell_note(failure.text);
	tell_state(report == REPORT_END ? RUNNING : CREATED, launch.pid);
	return 0;
}

/* Hands every signal on until the program has ended; its exit code. */
static int attend(const struct launch *launch)
{
	sigset_t all;
	int status = 0;
	sigfillset(&all);
	for (;;) {
		int signal = 0;
		if (waitpid(launch->pid, &status, WNOHANG) == launch->pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		if (sigwait(&all, &signal) == 0 && signal != SIGCHLD)
			(void)k_pidfd_send_signal(launch->pidfd, signal); /* or it just ended */
	}
}

int detached_exec(const struct spec *spec)
{
	struct failure failure = {0};
	struct launch launch = {.spec = spec, .groups = &groups, .target = -1};
	caller.fd = CONTROL_FD;
	enum report report = REPORT_FAILURE;
	/* The program's process inherits where this one runs. */
	if (check_streams(spec, &failure) == 0 &&
	    scheduling_place(spec, AFFINITY_INITIAL, &failure) == 0 &&
	    target_open(spec, &launch.target, &failure) == 0 &&
	    cgroups_open(&groups, spec, &failure) == 0)
		report = make(&launch, &failure);
	close_fd(&launch.target);
	if (report == REPORT_FAILURE)
		return detached_fail(&failure);
	tell_state(report == REPORT_END ? RUNNING : CREATED, launch.pid);
	if (spec_u32(spec, TAG_FLAGS, 0) & SPEC_NO_SUPERVISOR)
		return 0;
	close(CONTROL_FD);
	return attend(&launch);
}
