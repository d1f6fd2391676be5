/* Forks shims; see nursery.h. */
#include "nursery.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "cgroup.h"
#include "control.h"
#include "descriptors.h"
#include "ready.h"
#include "sealed.h"
#include "told.h"

/* Together as long as a shim's: the kernel shows them in place. */
#define NURSERY_NAME "tsswarm-shims"
#define NURSERY_WORD "of-a-daemon"
#define SHIM_NAME "tsswarm-shim"
#define ID_BYTES 12u

int nursery_wanted(int count, char **args)
{
	return count == 2 && strcmp(args[0], NURSERY_NAME) == 0 &&
	       strcmp(args[1], NURSERY_WORD) == 0;
}

/* Where the daemon waits for a shim. */
static void refuse(int listener, const struct failure *failure)
{
	static struct control control;
	uint8_t record[CONTROL_PAYLOAD_MAX];
	struct client *client;
	size_t size = told_exit(record, sizeof record, &(struct exit_record){
		EXIT_NOT_STARTED, 0, 0, 0, realtime_ns(), failure->text});
	control_open(&control, listener);
	while ((client = control_accept(&control)) != NULL) {
		control_send(client, MESSAGE_EXITED, 0, record, size);
		control_drop(client);
	}
}

/* As what was executed for one container is found by ps. */
static void take_name(char **args, const char *id)
{
	char *at = args[0];
	_Static_assert(sizeof NURSERY_NAME + sizeof NURSERY_WORD ==
			       sizeof SHIM_NAME + ID_BYTES + 1,
		       "names of one length");
	memcpy(at, SHIM_NAME, sizeof SHIM_NAME);
	args[1] = at + sizeof SHIM_NAME;
	memcpy(args[1], id, ID_BYTES);
	args[1][ID_BYTES] = 0;
}

static void become_shim(char **args, const char *id, const int *fds)
{
	signal(SIGCHLD, SIG_DFL);
	/* Both numbers are taken in the nursery, so neither of these is one of them. */
	if (dup2(fds[0], SPEC_FD) < 0 || dup2(fds[1], CONTROL_FD) < 0)
		_exit(EXIT_NOT_STARTED); /* cannot be: they are open */
	close(fds[0]);
	close(fds[1]);
	take_name(args, id);
}

/* 1: there is one. 0: it was no request, or there was none. The nursery ends with its daemon. */
static int take_request(char *id, int *fds)
{
	struct pollfd wait = {CONTROL_FD, POLLIN, 0};
	size_t count = 0;
	if (ready_wait(&wait, 1, -1) < 0)
		return 0;
	ssize_t got = receive_with_fds(CONTROL_FD, id, ID_BYTES, fds, &count);
	if (got == 0)
		_exit(0);
	if (got == (ssize_t)ID_BYTES && count == 2)
		return 1;
	for (size_t i = 0; i < count; i++)
		close(fds[i]);
	return 0;
}

/* Away from the daemon; its launcher ends at once and is reaped there. */
static int leave(const struct spec *spec, struct failure *failure)
{
	if (fork() != 0)
		_exit(0); /* also where there is none: the daemon finds its socket closed */
	prctl(PR_SET_NAME, NURSERY_NAME, 0, 0, 0);
	if (descriptors_inherit(spec, failure) < 0 || sealed_check(failure) < 0)
		return -1;
	return cgroup_leave_daemon(spec, failure);
}

void nursery_run(struct spec *spec, char **args)
{
	struct failure failure = {0};
	char id[ID_BYTES];
	int fds[CONTROL_FDS_MAX];
	int left = leave(spec, &failure);
	spec_close(spec);
	signal(SIGCHLD, SIG_IGN); /* the kernel reaps */
	for (;;) {
		if (!take_request(id, fds))
			continue;
		pid_t pid = left < 0 ? -1 : fork();
		if (pid == 0) {
			become_shim(args, id, fds);
			return;
		}
		if (pid < 0) {
			if (left == 0)
				fail(&failure, errno, "cannot start a supervisor");
			refuse(fds[1], &failure);
		}
		close(fds[0]);
		close(fds[1]);
		if (left < 0)
			_exit(1); /* the next one may find things better */
	}
}
