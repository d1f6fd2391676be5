/* Starts, watches and reaps the execs of the container; see exec.h. */
#include "exec.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel.h"
#include "launch.h"
#include "status.h"

#define EXIT_KILLED 137
#define NOT_POLLED SIZE_MAX

struct exec {
	struct client owner;
	struct spec spec;
	struct failure failure;
	pid_t pid;
	int pidfd, status;
	int is_over, exit_code;
	uint64_t drain_until_ms;
	size_t polls_at;
	struct stream_client client;
	struct streams streams;
};

/* The failed or ended program's last word; the connection ends with it. */
static void tell_end(struct exec *exec)
{
	uint8_t payload[4 + FAILURE_TEXT_MAX];
	size_t text = strlen(exec->failure.text);
	put_u32(payload, (uint32_t)exec->exit_code);
	memcpy(payload + 4, exec->failure.text, text);
	control_send(&exec->owner, MESSAGE_EXEC_EXITED, 0, payload, 4 + text);
}

static void release(struct exec *exec)
{
	/* Told before the streams end, so that whoever sees them end can know the exit code. */
	tell_end(exec);
	streams_close(&exec->streams);
	control_drop(&exec->owner);
	close_fd(&exec->pidfd);
	close_fd(&exec->status);
	spec_close(&exec->spec);
	give_memory(exec, sizeof *exec);
}

static int run(struct exec *exec, const struct exec_host *host)
{
	struct launch launch = {.spec = &exec->spec, .groups = host->groups,
				.target = host->pidfd};
	uint32_t flags = spec_u32(&exec->spec, TAG_FLAGS, 0);
	/* Its descriptors are given by message, never found among the shim's own. */
	if ((flags & SPEC_PASS_STREAMS) || spec_count(&exec->spec, TAG_PRESERVED) > 0 ||
	    spec_count(&exec->spec, TAG_CONSOLE) > 0 || spec_count(&exec->spec, TAG_GATE) > 0)
		return EINVAL;
	errno = 0;
	if (launch_start(&launch, &exec->failure) < 0)
		return errno != 0 ? errno : EIO;
	exec->pid = launch.pid;
	exec->pidfd = launch.pidfd;
	exec->status = launch.status;
	if (!(flags & SPEC_TTY))
		streams_open(&exec->streams, launch.out, launch.err, launch.in);
	return 0;
}

int execs_start(struct execs *execs, const struct exec_host *host, const struct message *message)
{
	size_t slot = 0;
	int clients[3];
	while (slot < EXECS_MAX && execs->all[slot] != NULL)
		slot++;
	if (slot == EXECS_MAX)
		return EAGAIN;
	int code = control_take_streams(message, 1, clients);
	if (code != 0)
		return code;
	struct exec *exec = take_memory(sizeof *exec);
	if (exec == NULL) {
		for (int i = 0; i < 3; i++)
			close_fd(&clients[i]);
		return ENOMEM;
	}
	exec->owner.fd = exec->pidfd = exec->status = -1;
	exec->polls_at = NOT_POLLED;
	streams_init(&exec->streams, &exec->client, 1, NULL);
	exec->streams.close_input = 1;
	(void)streams_attach(&exec->streams, clients[0], clients[1], clients[2]); /* the first */
	if (spec_open(&exec->spec, message->fds[0], &exec->failure) < 0)
		code = EINVAL;
	else
		code = run(exec, host);
	if (code != 0) {
		release(exec); /* has no connection yet: the reply tells */
		return code;
	}
	control_send(message->client, MESSAGE_REPLY, message->request, "\0\0\0", 4);
	for (size_t i = 0; i < message->client->fd_count; i++)
		close_fd(&message->client->fds[i]);
	control_move(&exec->owner, message->client);
	execs->all[slot] = exec;
	execs->count++;
	return 0;
}

static enum report read_status(struct exec *exec)
{
	struct failure text;
	uint8_t pid[4];
	int fd;
	enum report report = status_read(exec->status, &text, &fd);
	switch (report) {
	case REPORT_TERMINAL:
		streams_open_terminal(&exec->streams, fd,
				      (spec_u32(&exec->spec, TAG_FLAGS, 0) & SPEC_STDIN) != 0);
		break;
	case REPORT_FAILURE:
		close_fd(&exec->status);
		exec->failure = text;
		break;
	case REPORT_END:
		close_fd(&exec->status);
		put_u32(pid, (uint32_t)exec->pid);
		control_send(&exec->owner, MESSAGE_EXEC_STARTED, 0, pid, sizeof pid);
		break;
	case REPORT_NOTE:
		control_send(&exec->owner, MESSAGE_NOTE, 0, text.text, strlen(text.text));
		break;
	default:
		break;
	}
	return report;
}

static void reap(struct exec *exec, uint32_t drain_ms)
{
	siginfo_t info = {0};
	if (waitid(P_PID, (id_t)exec->pid, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
		return;
	while (exec->status >= 0 && read_status(exec) != REPORT_NOTHING)
		continue;
	close_fd(&exec->status);
	exec->is_over = 1;
	exec->exit_code = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
	exec->drain_until_ms = monotonic_ms() + drain_ms;
	close_fd(&exec->pidfd);
}

static int handle_owner(void *context, const struct message *message)
{
	struct exec *exec = context;
	if (message->type == MESSAGE_KILL && message->size == 8) {
		if (exec->is_over)
			return ESRCH;
		return k_pidfd_send_signal(exec->pidfd, (int)get_u32(message->payload)) < 0 ? errno
											    : 0;
	}
	if (message->type == MESSAGE_RESIZE && message->size == 8)
		return streams_resize(&exec->streams, get_u32(message->payload),
				      get_u32(message->payload + 4));
	return EOPNOTSUPP;
}

size_t execs_poll(struct execs *execs, struct pollfd *polls)
{
	size_t count = 0;
	for (size_t i = 0; execs->count > 0 && i < EXECS_MAX; i++) {
		struct exec *exec = execs->all[i];
		if (exec == NULL)
			continue;
		exec->polls_at = count;
		polls[count++] = (struct pollfd){exec->pidfd, POLLIN, 0};
		polls[count++] = (struct pollfd){exec->status, POLLIN, 0};
		polls[count++] = (struct pollfd){exec->owner.fd, POLLIN, 0};
		count += streams_poll(&exec->streams, polls + count);
	}
	return count;
}

int execs_timeout_ms(const struct execs *execs)
{
	int timeout = -1;
	for (size_t i = 0; execs->count > 0 && i < EXECS_MAX; i++) {
		const struct exec *exec = execs->all[i];
		if (exec == NULL || !exec->is_over || streams_blocked(&exec->streams))
			continue;
		uint64_t now = monotonic_ms();
		int left = now < exec->drain_until_ms ? (int)(exec->drain_until_ms - now) : 0;
		if (timeout < 0 || left < timeout)
			timeout = left;
	}
	return timeout;
}

/* All its output was taken, or what is left of it comes from others that hold its pipes. */
static int is_drained(struct exec *exec, uint32_t drain_ms)
{
	if (!exec->is_over)
		return 0;
	if (streams_blocked(&exec->streams)) {
		exec->drain_until_ms = monotonic_ms() + drain_ms; /* its client is slow */
		return 0;
	}
	return !streams_busy(&exec->streams) || monotonic_ms() >= exec->drain_until_ms;
}

void execs_turn(struct execs *execs, const struct exec_host *host, const struct pollfd *polls)
{
	for (size_t i = 0; execs->count > 0 && i < EXECS_MAX; i++) {
		struct exec *exec = execs->all[i];
		if (exec == NULL || exec->polls_at == NOT_POLLED)
			continue;
		const struct pollfd *own = polls + exec->polls_at;
		exec->polls_at = NOT_POLLED;
		if (own[1].revents != 0 && exec->status >= 0)
			read_status(exec);
		streams_turn(&exec->streams, own + 3);
		if (own[2].revents != 0)
			control_read(host->control, &exec->owner, handle_owner, exec);
		if (own[0].revents != 0)
			reap(exec, host->drain_ms);
		if (is_drained(exec, host->drain_ms)) {
			release(exec);
			execs->all[i] = NULL;
			execs->count--;
		}
	}
}

void execs_finish(struct execs *execs)
{
	for (size_t i = 0; execs->count > 0 && i < EXECS_MAX; i++) {
		struct exec *exec = execs->all[i];
		if (exec == NULL)
			continue;
		if (!exec->is_over)
			exec->exit_code = EXIT_KILLED;
		release(exec);
		execs->all[i] = NULL;
		execs->count--;
	}
}
