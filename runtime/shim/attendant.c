/* Works beside the launcher; see attendant.h. */
#include "attendant.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "descriptors.h"
#include "hooks.h"
#include "kernel.h"
#include "status.h"

#define FIRST_FOREIGN_FD 3u
#define ASK_HOOKS 'R'
#define ASK_LISTENER 'L'
#define LISTENER_TICK_NS 200000L /* between two looks whether the filter is loaded */
#define NUMBER_MAX 16
#define SPINS_MAX (1ull << 36) /* a minute or so */

enum { NOT_LOADED = 0, SENT = -1 };

struct service {
	const struct spec *spec;
	int socket, status, pidfd;
	pid_t pid;
};

/* Shared with the container's process: the listener's number there, or what became of it. */
static int *shared;
static int has_listener;

static const char *listener_path(const struct spec *spec)
{
	struct record record;
	const char *path = NULL;
	if (spec_last(spec, TAG_LISTENER, &record))
		path = record_string(&record, 4, 0);
	return path != NULL && path[0] != 0 ? path : NULL;
}

int attendant_wanted(const struct spec *spec)
{
	return hooks_has(spec, HOOK_PRESTART) || hooks_has(spec, HOOK_CREATE_RUNTIME) ||
	       listener_path(spec) != NULL;
}

int attendant_prepare(struct failure *failure)
{
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED) {
		shared = NULL;
		return fail(failure, errno, "cannot share memory");
	}
	return 0;
}

static void answer(int socket, const struct failure *failure)
{
	(void)send(socket, failure, sizeof *failure, MSG_NOSIGNAL); /* or it is gone */
}

static void run_hooks(const struct service *own)
{
	struct failure failure = {0};
	if (hooks_run(own->spec, HOOK_PRESTART, "creating", own->pid, own->pidfd, &failure) == 0)
		(void)hooks_run(own->spec, HOOK_CREATE_RUNTIME, "creating", own->pid, own->pidfd,
				&failure);
	answer(own->socket, &failure);
}

static int connect_agent(const char *path, struct failure *failure)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (strlen(path) >= sizeof address.sun_path) {
		fail(failure, ENAMETOOLONG, "failed to connect with seccomp agent %s", path);
		close_fd(&fd);
		return -1;
	}
	strcpy(address.sun_path, path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
		fail(failure, errno, "failed to connect with seccomp agent %s", path);
		close_fd(&fd);
	}
	return fd;
}

/* The listener as a descriptor of this process, once the filter is loaded; -1 and errno. */
static int take_listener(const struct service *own)
{
	const struct timespec tick = {0, LISTENER_TICK_NS};
	struct pollfd life = {own->pidfd, POLLIN, 0};
	int number;
	while ((number = __atomic_load_n(shared, __ATOMIC_ACQUIRE)) == NOT_LOADED) {
		if (poll(&life, 1, 0) != 0) {
			errno = ESRCH; /* it ended instead, and said why */
			return -1;
		}
		nanosleep(&tick, NULL);
	}
	return (int)syscall(NR_pidfd_getfd, own->pidfd, number, 0);
}

/* The strings after the path, with the pid between each two. */
static int send_listener(const struct service *own, int agent, int listener)
{
	struct record record;
	if (!spec_last(own->spec, TAG_LISTENER, &record))
		return -1;
	size_t room = record.size * (NUMBER_MAX + 1), used = 0;
	char *text = take_memory(room);
	const char *part;
	for (unsigned i = 1; text != NULL && (part = record_string(&record, 4, i)) != NULL; i++) {
		if (i > 1)
			used += format_text(text + used, room - used, "%d", (int)own->pid);
		used += format_text(text + used, room - used, "%s", part);
	}
	int result = text == NULL ? -1 : send_descriptor(agent, listener, text, used);
	give_memory(text, room);
	return result;
}

static void pass_listener(const struct service *own)
{
	struct failure failure = {0};
	const char *path = listener_path(own->spec);
	int agent = connect_agent(path, &failure);
	answer(own->socket, &failure);
	if (agent < 0)
		return;
	int listener = take_listener(own);
	if (listener >= 0 && send_listener(own, agent, listener) == 0) {
		__atomic_store_n(shared, SENT, __ATOMIC_RELEASE);
	} else if (errno != ESRCH) {
		fail(&failure, errno, "cannot hand the listener to the seccomp agent %s", path);
		(void)status_tell(own->status, REPORT_FAILURE, &failure); /* or it is gone, too */
		(void)k_pidfd_send_signal(own->pidfd, SIGKILL);
	}
	close_fd(&listener);
	close_fd(&agent);
}

static void __attribute__((noreturn)) serve(struct service *own)
{
	char request;
	int *kept[] = {&own->socket, &own->status, &own->pidfd};
	prctl(PR_SET_NAME, "tsswarm-hooks", 0, 0, 0);
	if (descriptors_close_others(FIRST_FOREIGN_FD, kept, 3) < 0)
		_exit(1);
	while (recv(own->socket, &request, 1, 0) == 1) {
		if (request == ASK_HOOKS)
			run_hooks(own);
		else if (request == ASK_LISTENER)
			pass_listener(own);
	}
	_exit(0);
}

int attendant_start(struct attendant *attendant, const struct spec *spec, int socket, int status,
		    pid_t pid, int pidfd, struct failure *failure)
{
	struct service own = {spec, socket, status, pidfd, pid};
	struct k_clone_args args = {
		.flags = K_CLONE_PIDFD,
		.pidfd = (uint64_t)(uintptr_t)&attendant->pidfd,
		.exit_signal = SIGCHLD,
	};
	has_listener = listener_path(spec) != NULL;
	attendant->pid = k_clone3(&args);
	if (attendant->pid == 0)
		serve(&own);
	if (attendant->pid > 0)
		return 0;
	attendant->pid = 0;
	return fail(failure, errno, "cannot start a helper for the hooks");
}

void attendant_reap(struct attendant *attendant)
{
	if (attendant->pid > 0)
		(void)waitpid(attendant->pid, NULL, 0);
	attendant->pid = 0;
	close_fd(&attendant->pidfd);
}

int attendant_is_missed(void)
{
	return has_listener && shared != NULL && __atomic_load_n(shared, __ATOMIC_ACQUIRE) != SENT;
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

int attendant_expect_listener(int socket, struct failure *failure)
{
	return ask(socket, ASK_LISTENER, failure);
}

void attendant_give_listener(int listener)
{
	__atomic_store_n(shared, listener, __ATOMIC_RELEASE);
	/* The bound is for one whose launcher was killed, too. */
	for (uint64_t i = 0; i < SPINS_MAX; i++)
		if (__atomic_load_n(shared, __ATOMIC_ACQUIRE) == SENT)
			return;
	(void)syscall(SYS_exit_group, EXIT_NOT_STARTED);
}
