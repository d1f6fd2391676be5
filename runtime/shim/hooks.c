/* Runs hooks with a deadline; see hooks.h. */
#include "hooks.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel.h"
#include "program.h"
#include "ready.h"

#define OUTPUT_MAX 200     /* of what a failed hook wrote */
#define TICK_MS 10         /* where a hook's end cannot be polled for */
#define STATE_MAX (1 << 20) /* what a pipe may hold */
#define FIRST_FOREIGN_FD 3u
#define EXIT_NOT_EXECUTED 127

enum { STAGE_AT = 0, TIMEOUT_AT = 4, PATH_AT = 8 };

struct hook {
	const char *path;
	char **args, **env;
	uint32_t timeout_s;
	pid_t pid;
	int pidfd, output;
	size_t used;
	char text[OUTPUT_MAX];
};

int hooks_has(const struct spec *spec, enum hook_stage stage)
{
	struct record record;
	for (size_t at = 0; spec_next(spec, &at, TAG_HOOK, &record);)
		if (record_u32(&record, STAGE_AT) == stage)
			return 1;
	return 0;
}

/* Up to `most` strings from *offset on, moving it behind them. NULL at the end of the list. */
static char **take_strings(const struct record *record, size_t *offset, size_t most)
{
	size_t count = 0;
	while (count < most && record_string(record, *offset, (unsigned)count) != NULL)
		count++;
	char **list = take_memory((count + 1) * sizeof *list);
	for (size_t i = 0; list != NULL && i < count; i++) {
		const char *text = record_string(record, *offset, 0);
		list[i] = (char *)(uintptr_t)text;
		*offset += strlen(text) + 1;
	}
	return list;
}

static int parse(const struct record *record, struct hook *hook)
{
	*hook = (struct hook){.pidfd = -1, .output = -1};
	hook->timeout_s = record_u32(record, TIMEOUT_AT);
	hook->path = record_string(record, PATH_AT, 0);
	if (hook->path == NULL)
		return -1;
	size_t at = PATH_AT + strlen(hook->path) + 1;
	uint32_t arguments = record_u32(record, at);
	at += sizeof arguments;
	hook->args = take_strings(record, &at, arguments);
	hook->env = take_strings(record, &at, SIZE_MAX);
	return hook->args == NULL || hook->env == NULL ? -1 : 0;
}

/* -1 and errno on failure. */
static int write_state(const struct record *state, const char *status, pid_t pid, int fd)
{
	char middle[64];
	const char *head = record_string(state, 0, 0);
	const char *tail = record_string(state, 0, 1);
	if (head == NULL || tail == NULL) {
		errno = EINVAL;
		return -1;
	}
	format_text(middle, sizeof middle, "%s\",\"pid\":%d", status, (int)pid);
	if (write_all(fd, head, strlen(head)) < 0 || write_all(fd, middle, strlen(middle)) < 0)
		return -1;
	return write_all(fd, tail, strlen(tail));
}

/* A pipe that holds the whole state: the reading end, or -1 and errno. */
static int open_state(const struct spec *spec, const char *status, pid_t pid)
{
	int ends[2], result = 0;
	struct record state;
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return -1;
	if (spec_last(spec, TAG_HOOK_STATE, &state)) {
		(void)fcntl(ends[1], F_SETPIPE_SZ, STATE_MAX); /* else EAGAIN tells */
		result = write_state(&state, status, pid, ends[1]);
	}
	int error = errno;
	close(ends[1]);
	if (result == 0 && fcntl(ends[0], F_SETFL, 0) == 0)
		return ends[0];
	close(ends[0]);
	errno = error;
	return -1;
}

static void __attribute__((noreturn)) become_hook(const struct hook *hook, int state, int output)
{
	if (dup2(state, 0) < 0 || dup2(output, 1) < 0 || dup2(output, 2) < 0)
		_exit(EXIT_NOT_EXECUTED);
	k_close_range(FIRST_FOREIGN_FD, ~0U);
	setsid();
	program_reset_signals();
	execve(hook->path, hook->args, hook->env);
	const char *reason = strerror(errno);
	(void)write_all(2, reason, strlen(reason)); /* the launcher reads it */
	_exit(EXIT_NOT_EXECUTED);
}

static int start(struct hook *hook, int state)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -1;
	hook->output = ends[0];
	hook->pid = fork();
	if (hook->pid == 0)
		become_hook(hook, state, ends[1]);
	int error = errno;
	close(ends[1]);
	errno = error;
	if (hook->pid < 0)
		return -1;
	(void)fcntl(hook->output, F_SETFL, O_NONBLOCK);
	/* Without it, as under a filter, its end is looked for from time to time. */
	hook->pidfd = (int)syscall(NR_pidfd_open, hook->pid, 0);
	return 0;
}

/* Keeps the first of it, for the failure's text; the rest is read and dropped. */
static void read_output(struct hook *hook)
{
	char data[512];
	ssize_t got;
	while (hook->output >= 0 && (got = read(hook->output, data, sizeof data)) >= 0) {
		size_t room = sizeof hook->text - 1 - hook->used;
		size_t kept = (size_t)got < room ? (size_t)got : room;
		memcpy(hook->text + hook->used, data, kept);
		hook->used += kept;
		if (got == 0)
			close_fd(&hook->output);
	}
}

/* Until it has ended or may run no longer. */
static int wait_for(struct hook *hook, int watched, int *status, struct failure *failure)
{
	uint64_t end_ms = monotonic_ms() + hook->timeout_s * 1000ULL;
	for (;;) {
		if (waitpid(hook->pid, status, WNOHANG) == hook->pid)
			return 0;
		uint64_t now = monotonic_ms();
		if (hook->timeout_s != 0 && now >= end_ms)
			return fail(failure, 0, "hook %s ran longer than its %u s", hook->path,
				    hook->timeout_s);
		int pause = hook->timeout_s == 0 ? -1 : (int)(end_ms - now);
		if (hook->pidfd < 0 && (pause < 0 || pause > TICK_MS))
			pause = TICK_MS;
		struct pollfd polls[] = {{hook->pidfd, POLLIN, 0},
					 {hook->output, POLLIN, 0},
					 {watched, POLLIN, 0}};
		(void)ready_wait(polls, 3, pause); /* failing, it is tried again */
		read_output(hook);
		if (polls[2].revents != 0)
			return fail(failure, 0, "the container ended while hook %s ran",
				    hook->path);
	}
}

static int tell_end(struct hook *hook, int status, struct failure *failure)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	char *end = strchr(hook->text, '\n');
	if (end != NULL)
		*end = 0;
	const char *before = hook->text[0] != 0 ? ": " : "";
	if (WIFEXITED(status))
		return fail(failure, 0, "error running hook %s: exit status %d%s%s", hook->path,
			    WEXITSTATUS(status), before, hook->text);
	return fail(failure, 0, "error running hook %s: signal %d%s%s%s", hook->path,
		    WTERMSIG(status), WTERMSIG(status) == SIGSYS ? " (bad system call)" : "",
		    before, hook->text);
}

static int run_one(const struct spec *spec, struct hook *hook, const char *status, pid_t pid,
		   int watched, struct failure *failure)
{
	int state = open_state(spec, status, pid), ended = 0, result;
	if (state < 0 || start(hook, state) < 0) {
		result = fail(failure, errno, "cannot run hook %s", hook->path);
	} else if ((result = wait_for(hook, watched, &ended, failure)) < 0) {
		kill(hook->pid, SIGKILL); /* not reaped yet: it is no other's number */
		(void)waitpid(hook->pid, &ended, 0);
	} else {
		read_output(hook);
		result = tell_end(hook, ended, failure);
	}
	close_fd(&state);
	close_fd(&hook->output);
	close_fd(&hook->pidfd);
	return result;
}

int hooks_run(const struct spec *spec, enum hook_stage stage, const char *status, pid_t pid,
	      int watched, struct failure *failure)
{
	struct record record;
	for (size_t at = 0; spec_next(spec, &at, TAG_HOOK, &record);) {
		struct hook hook;
		if (record_u32(&record, STAGE_AT) != stage)
			continue;
		if (parse(&record, &hook) < 0)
			return fail(failure, 0, "a hook is malformed");
		/* Its lists go with the process: launcher, attendant or program. */
		if (run_one(spec, &hook, status, pid, watched, failure) < 0)
			return -1;
	}
	return 0;
}
