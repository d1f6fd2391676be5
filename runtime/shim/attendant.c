/* Works beside the launcher; see attendant.h. */
#include "attendant.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "descriptors.h"
#include "hooks.h"

#define FIRST_FOREIGN_FD 3u
#define ASK_HOOKS 'R'

int attendant_wanted(const struct spec *spec)
{
	return hooks_has(spec, HOOK_PRESTART) || hooks_has(spec, HOOK_CREATE_RUNTIME);
}

static void answer(int socket, const struct failure *failure)
{
	(void)send(socket, failure, sizeof *failure, MSG_NOSIGNAL); /* or it is gone */
}

static void run_hooks(const struct spec *spec, int socket, pid_t pid, int pidfd)
{
	struct failure failure = {0};
	if (hooks_run(spec, HOOK_PRESTART, "creating", pid, pidfd, &failure) == 0)
		(void)hooks_run(spec, HOOK_CREATE_RUNTIME, "creating", pid, pidfd, &failure);
	answer(socket, &failure);
}

pid_t attendant_start(const struct spec *spec, int socket, pid_t pid, int pidfd,
		      struct failure *failure)
{
	char request;
	pid_t own = fork();
	if (own < 0)
		return fail(failure, errno, "cannot start a helper for the hooks");
	if (own > 0)
		return own;
	prctl(PR_SET_NAME, "tsswarm-hooks", 0, 0, 0);
	int *kept[] = {&socket, &pidfd};
	if (descriptors_close_others(FIRST_FOREIGN_FD, kept, 2) < 0)
		_exit(1);
	while (recv(socket, &request, 1, 0) == 1)
		if (request == ASK_HOOKS)
			run_hooks(spec, socket, pid, pidfd);
	_exit(0);
}

static int ask(int socket, char request, struct failure *failure)
{
	struct failure reply;
	if (send(socket, &request, 1, MSG_NOSIGNAL) != 1 ||
	    recv(socket, &reply, sizeof reply, 0) != (ssize_t)sizeof reply)
		return fail(failure, 0, "the launcher's helper has ended");
	if (reply.exit_code == 0)
		return 0;
	*failure = reply;
	return -1;
}

int attendant_run_hooks(int socket, struct failure *failure)
{
	return ask(socket, ASK_HOOKS, failure);
}
