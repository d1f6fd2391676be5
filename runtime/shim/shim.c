/*
 * tsswarm-shim: starts one container and stays as its supervisor until it has ended. It owns the
 * container's output and log, reaps it, writes the exit record before anyone is told, and answers
 * on a unix socket, so that the daemon can be gone meanwhile. It decides nothing: all policy comes
 * in the specification (descriptor 3; protocol.md). Descriptor 4 is the listening control socket.
 *
 * Phases:   STARTING --executed--> RUNNING --init reaped--> EXITED --streams drained--> gone
 *              `-----init reaped (failure told or not)--------^
 * STARTING  the child exists, its status socket is open.            run_child -> read_status
 * RUNNING   the status socket closed without a failure.             read_status -> reap
 * EXITED    the child is reaped, every other process killed; the streams are read until their end
 *           or the drain's deadline; then the record is written, clients told, groups removed.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cgroup.h"
#include "control.h"
#include "descriptors.h"
#include "detached.h"
#include "exec.h"
#include "hold.h"
#include "hooks.h"
#include "kernel.h"
#include "launch.h"
#include "log.h"
#include "nursery.h"
#include "ready.h"
#include "sealed.h"
#include "spec.h"
#include "status.h"
#include "streams.h"
#include "target.h"
#include "told.h"
#include "traces.h"

#define DEFAULT_DRAIN_MS 2000u
#define DEFAULT_LOG_BYTES (20u << 20)
#define DEFAULT_LOG_FILES 5u
#define SHIM_OOM_SCORE "-998"
#define FIXED_POLLS 4 /* the child, its status, new connections, the attendant */

struct shim {
	struct spec spec;
	struct cgroups groups;
	struct control control;
	struct failure failure;
	enum phase phase;
	pid_t pid;
	struct attendant attendant;
	int pidfd, status, exec_dir;
	int exit_code, exit_signal, oom_killed, is_frozen, is_killed;
	uint64_t ticks, started_ns, finished_ns, drain_until_ms;
	uint32_t flags, drain_ms; /* the specification's */
};

/* Static, so that pages not used are not there. */
static struct streams streams;
static struct shim shim;
static struct log container_log;
static struct stream_client stream_clients[STREAM_CLIENTS_MAX];
static struct execs execs;
static struct pollfd polls[FIXED_POLLS + STREAM_POLLS(STREAM_CLIENTS_MAX) + CONTROL_CLIENTS_MAX +
			   EXECS_MAX * EXEC_POLLS];

/*
 * The end is not to fail for want of a descriptor: one that is /dev/null here and nobody's from now
 * on. Not 0, which is no client's (control.h).
 */
static void release_number(int fd)
{
	close(fd);
}

static void put_state(uint8_t state[STATE_BYTES])
{
	const struct first_process process = {shim.pid, shim.ticks};
	told_state(state, shim.phase, process, shim.started_ns, shim.is_frozen);
}

static void greet(struct client *client)
{
	uint8_t state[STATE_BYTES];
	put_state(state);
	if (client != NULL)
		control_send(client, MESSAGE_STATE, 0, state, sizeof state);
}

static void tell_state(void)
{
	uint8_t state[STATE_BYTES];
	put_state(state);
	control_broadcast(&shim.control, MESSAGE_STATE, state, sizeof state);
}

static struct exec_host exec_host(void)
{
	return (struct exec_host){&shim.control, &shim.groups, shim.pidfd,
				  shim.drain_ms};
}

static int is_alive(void)
{
	return shim.phase == RUNNING || shim.phase == CREATED;
}

static int freeze(int frozen)
{
	int error = is_alive() ? cgroups_freeze(&shim.groups, frozen) : ESRCH;
	if (error == 0) {
		shim.is_frozen = frozen;
		tell_state();
	}
	return error;
}

static int attach(const struct message *message)
{
	int fds[3];
	int error = shim.phase == EXITED ? ESRCH : control_take_streams(message, 0, fds);
	if (error == 0 && (error = streams_attach(&streams, fds[0], fds[1], fds[2])) != 0)
		for (int i = 0; i < 3; i++)
			close_fd(&fds[i]);
	return error;
}

static int execute(const struct message *message)
{
	struct exec_host host = exec_host();
	if (!is_alive() || message->fd_count == 0)
		return ESRCH;
	return shim.is_frozen ? EBUSY : execs_start(&execs, &host, message);
}

static int send_signal(int signal)
{
	if (k_pidfd_send_signal(shim.pidfd, signal) < 0)
		return errno;
	if (signal == SIGKILL)
		cgroups_let_die(&shim.groups);
	return 0;
}

static int handle_message(void *context, const struct message *message)
{
	(void)context;
	if (message->type == MESSAGE_KILL && message->size == 8) {
		if (shim.phase == EXITED)
			return ESRCH;
		if (shim.pidfd < 0) {
			shim.is_killed = 1; /* there is no child yet, and there will be none */
			return 0;
		}
		if (get_u32(message->payload + 4) == 1) {
			cgroups_kill(&shim.groups);
			return 0;
		}
		return send_signal((int)get_u32(message->payload));
	}
	if (message->type == MESSAGE_FREEZE && message->size == 4)
		return freeze(get_u32(message->payload) == 1);
	if (message->type == MESSAGE_RESIZE && message->size == 8)
		return streams_resize(&streams, get_u32(message->payload),
				      get_u32(message->payload + 4));
	if (message->type == MESSAGE_ATTACH)
		return attach(message);
	if (message->type == MESSAGE_EXEC)
		return execute(message);
	return EOPNOTSUPP;
}

static void run_poststart(void)
{
	/* Of a helper's own, twice removed, so that nobody waits for it: failing only warns. */
	pid_t helper = hooks_has(&shim.spec, HOOK_POSTSTART) ? fork() : -1;
	if (helper < 0)
		return;
	if (helper > 0) {
		(void)waitpid(helper, NULL, 0);
		return;
	}
	if (fork() == 0)
		(void)hooks_run(&shim.spec, HOOK_POSTSTART, "running", shim.pid, shim.pidfd,
				&shim.failure);
	_exit(0);
}

static void executed(void)
{
	close_fd(&shim.status);
	attendant_reap(&shim.attendant); /* its socket has ended */
	if (!target_was_executed(shim.pid, shim.flags))
		return; /* killed: then it is waited for at once */
	shim.phase = RUNNING;
	shim.started_ns = realtime_ns();
	trace_start(shim.exec_dir, shim.pid, shim.started_ns); /* before anyone is told: whoever is told may look for it */
	tell_state();
	run_poststart();
}

static enum report read_status(void)
{
	struct failure text;
	int fd;
	enum report report = status_read(shim.status, &text, &fd);
	switch (report) {
	case REPORT_TERMINAL:
		streams_open_terminal(&streams, fd, (shim.flags & SPEC_STDIN) != 0);
		break;
	case REPORT_FAILURE:
		close_fd(&shim.status);
		shim.failure = text;
		break;
	case REPORT_NOTE:
		control_broadcast(&shim.control, MESSAGE_NOTE, text.text, strlen(text.text));
		break;
	case REPORT_GATE:
		shim.phase = CREATED;
		tell_state();
		break;
	case REPORT_END:
		executed();
		break;
	case REPORT_NOTHING:
		break;
	}
	return report;
}

static void reap(void)
{
	siginfo_t info = {0};
	if (waitid(P_PID, (id_t)shim.pid, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
		return;
	shim.finished_ns = realtime_ns();
	release_number(1);
	/* What it said last: a note may come before a failure. */
	while (shim.status >= 0 && read_status() != REPORT_NOTHING)
		continue;
	close_fd(&shim.status);
	attendant_reap(&shim.attendant);
	shim.phase = EXITED;
	if (info.si_code == CLD_EXITED) {
		shim.exit_code = info.si_status;
	} else {
		shim.exit_signal = info.si_status;
		shim.exit_code = 128 + info.si_status;
	}
	if (shim.started_ns == 0 && shim.failure.text[0] == 0)
		fail(&shim.failure, 0, "killed before its program was executed");
	shim.oom_killed = cgroups_oom_killed(&shim.groups);
	/* The kernel kills all in the pid namespace; this, what was put there from outside. */
	cgroups_kill(&shim.groups);
	shim.drain_until_ms = monotonic_ms() + shim.drain_ms;
	close_fd(&shim.pidfd);
	streams_widen(&streams);
}

/* With its work done, or not. */
static void lose_attendant(void)
{
	attendant_reap(&shim.attendant);
	if (shim.status >= 0 && attendant_is_missed())
		(void)k_pidfd_send_signal(shim.pidfd, SIGKILL); /* or it has just ended */
}

/* How long nothing may happen: until a drain ends. -1: for ever. */
static int timeout_ms(void)
{
	int timeout = execs_timeout_ms(&execs), deaf = control_deaf_ms(&shim.control);
	if (deaf > 0 && (timeout < 0 || deaf < timeout))
		timeout = deaf;
	if (shim.phase != EXITED)
		return timeout;
	uint64_t now = monotonic_ms();
	int own = now < shim.drain_until_ms ? (int)(shim.drain_until_ms - now) : 0;
	return timeout >= 0 && timeout < own ? timeout : own;
}

/* One turn: waits for whatever comes next. */
static void turn(void)
{
	size_t count = 0;
	polls[count++] = (struct pollfd){shim.pidfd, POLLIN, 0};
	polls[count++] = (struct pollfd){shim.status, POLLIN, 0};
	int listener = control_listens(&shim.control) ? shim.control.listener : -1;
	polls[count++] = (struct pollfd){listener, POLLIN, 0};
	polls[count++] = (struct pollfd){shim.attendant.pidfd, POLLIN, 0};
	size_t streams_at = count;
	count += streams_poll(&streams, polls + count);
	size_t execs_at = count;
	count += execs_poll(&execs, polls + count);
	size_t clients_at = count;
	for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		const struct client *client = &shim.control.clients[i];
		int fd = control_is_open(client) ? client->fd : -1;
		polls[count++] = (struct pollfd){fd, POLLIN, 0};
	}
	if (ready_wait(polls, count, timeout_ms()) < 0)
		return; /* interrupted */
	struct exec_host host = exec_host();
	streams_turn(&streams, polls + streams_at);
	if (polls[1].revents != 0)
		(void)read_status();
	execs_turn(&execs, &host, polls + execs_at);
	for (int i = 0; i < CONTROL_CLIENTS_MAX; i++)
		if (polls[clients_at + (size_t)i].revents != 0)
			control_read(&shim.control, &shim.control.clients[i], handle_message, NULL);
	if (polls[2].revents != 0)
		greet(control_accept(&shim.control));
	if (polls[3].revents != 0)
		lose_attendant();
	if (polls[0].revents != 0)
		reap();
}

/*
 * What the daemon asked for before this process was there: clients attached from the first byte.
 * They are told once there is something to tell.
 */
static void serve_early(void)
{
	struct client *client;
	while ((client = control_accept(&shim.control)) != NULL) {
		struct pollfd more = {client->fd, POLLIN, 0};
		while (control_is_open(client) && poll(&more, 1, 0) == 1)
			control_read(&shim.control, client, handle_message, NULL);
	}
}

/* The last words: nothing of the container runs any more (or it never did). */
static void finish(void)
{
	uint8_t record[CONTROL_PAYLOAD_MAX];
	struct client *late;
	release_number(2);
	execs_finish(&execs);
	streams_close(&streams);
	log_close(&container_log);
	shim.phase = EXITED;
	if (shim.finished_ns == 0)
		shim.finished_ns = realtime_ns();
	size_t size = told_exit(record, sizeof record, &(struct exit_record){
		shim.exit_code, shim.exit_signal, shim.oom_killed, shim.started_ns,
		shim.finished_ns, shim.failure.text});
	trace_exit(shim.exec_dir, record, size);
	while ((late = control_accept(&shim.control)) != NULL)
		greet(late);
	control_broadcast(&shim.control, MESSAGE_EXITED, record, size);
	if (shim.pid == 0)
		cgroups_kill(&shim.groups); /* what a stage has left that was killed */
	if (cgroups_remove(&shim.groups))
		control_broadcast(&shim.control, MESSAGE_CLEARED, record, 0);
}

/* The container's streams end with the container, not with this process. */
static void release_own_streams(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int i = 0; null >= 0 && i < 3; i++)
		(void)dup2(null, i);
	close_fd(&null);
}

static int run_child(struct failure *failure)
{
	struct launch launch = {.spec = &shim.spec, .groups = &shim.groups, .target = -1};
	if (launch_start(&launch, failure) < 0) {
		shim.exit_code = failure->exit_code;
		return -1;
	}
	shim.pid = launch.pid;
	shim.pidfd = launch.pidfd;
	shim.status = launch.status;
	shim.attendant = launch.attendant;
	/* While it works; what it starts as, it stays. Without it, whoever is told looks itself. */
	(void)target_start_ticks(shim.pid, &shim.ticks);
	if (shim.flags & SPEC_PASS_STREAMS)
		release_own_streams();
	else if (!(shim.flags & SPEC_TTY))
		streams_open(&streams, launch.out, launch.err, launch.in);
	descriptors_release(&shim.spec);
	return 0;
}

static int open_container_log(struct failure *failure)
{
	struct record record;
	uint64_t max_bytes = DEFAULT_LOG_BYTES;
	uint32_t max_files = DEFAULT_LOG_FILES, number = 1, drops = 0;
	uint64_t waiting_bytes = 0;
	const char *attributes = NULL;
	for (size_t at = 0; spec_next(&shim.spec, &at, TAG_LOG_LIMITS, &record);) {
		max_bytes = record_u64(&record, 0);
		max_files = record_u32(&record, 8);
		number = record_u32(&record, 12);
		container_log.format = (enum log_format)record_u32(&record, 16);
		drops = record_u32(&record, 20);
		waiting_bytes = record_u64(&record, 24);
		attributes = record_string(&record, 32, 0);
	}
	if (container_log.format == LOG_NONE) {
		streams.log = NULL;
		return 0;
	}
	if (log_attributes(attributes == NULL ? "" : attributes, failure) < 0 ||
	    log_open(&container_log, spec_string(&shim.spec, TAG_LOG_DIR, ""), max_bytes, max_files,
		     number, failure) < 0)
		return -1;
	return drops ? log_detach(&container_log, waiting_bytes, failure) : 0;
}

/* Signals are blocked, not ignored: an ignored one would stay ignored in the container. */
static void prepare_process(int is_forked)
{
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	prctl(PR_SET_NAME, "tsswarm-shim", 0, 0, 0);
	/* The container must not reach this process's memory or executable through /proc. */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	fcntl(SPEC_FD, F_SETFD, FD_CLOEXEC);
	fcntl(CONTROL_FD, F_SETFD, FD_CLOEXEC);
	fcntl(CONTROL_FD, F_SETFL, O_NONBLOCK);
	if (!is_forked)
		setsid(); /* the nursery's session has no terminal and nobody who signals it */
}

int main(int count, char **args)
{
	prepare_process(0);
	shim.pidfd = shim.status = shim.exec_dir = shim.attendant.pidfd = -1;
	shim.groups.v2 = shim.groups.memory = shim.groups.freezer = shim.groups.entrance = -1;
	container_log.fd = container_log.dir = container_log.writer = -1;
	if (spec_open(&shim.spec, SPEC_FD, &shim.failure) < 0)
		return 2; /* without a specification there is nowhere to say why */
	/* Its own, which what it forks has from it. Fails without CAP_SYS_RESOURCE; the host's own
	 * score then stays. */
	int is_nursery = nursery_wanted(count, args);
	if (is_nursery) {
		(void)write_file_at(AT_FDCWD, "/proc/self/oom_score_adj", SHIM_OOM_SCORE);
		nursery_run(&shim.spec, args);
		prepare_process(1);
		if (spec_open(&shim.spec, SPEC_FD, &shim.failure) < 0)
			return 2;
	}
	shim.flags = spec_u32(&shim.spec, TAG_FLAGS, 0);
	shim.drain_ms = spec_u32(&shim.spec, TAG_DRAIN, DEFAULT_DRAIN_MS);
	int inherited = descriptors_inherit(&shim.spec, &shim.failure);
	if (inherited == 0 && !is_nursery) /* which has looked itself */
		inherited = sealed_check(&shim.failure);
	int is_exec = count > 1 && strcmp(args[1], "exec") == 0;
	if (is_exec || (shim.flags & SPEC_NO_SUPERVISOR)) {
		if (inherited < 0)
			return detached_fail(&shim.failure);
		return is_exec ? detached_exec(&shim.spec) : detached_run(&shim.spec);
	}
	if (shim.flags & SPEC_HOLD)
		return hold_run(&shim.spec, CONTROL_FD);
	const char *exec_dir = spec_string(&shim.spec, TAG_EXEC_DIR, "");
	shim.exec_dir = open(exec_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (!is_nursery)
		(void)write_file_at(AT_FDCWD, "/proc/self/oom_score_adj", SHIM_OOM_SCORE);
	control_open(&shim.control, CONTROL_FD);
	streams_init(&streams, stream_clients, STREAM_CLIENTS_MAX, &container_log);
	streams.close_input = (shim.flags & SPEC_STDIN_ONCE) != 0;
	serve_early();
	if (shim.is_killed)
		fail(&shim.failure, 0, "killed before its program was executed");
	shim.exit_code = EXIT_NOT_STARTED;
	if (inherited == 0 && !shim.is_killed &&
	    cgroups_create(&shim.groups, &shim.spec, &shim.failure) == 0 &&
	    open_container_log(&shim.failure) == 0 && run_child(&shim.failure) == 0) {
		close_fd((int[]){SPEC_FD});
		/* The child has its own copy; here it would stay in memory as long as this runs. */
		if (cgroups_keep_paths(&shim.groups) && !hooks_has(&shim.spec, HOOK_POSTSTART))
			spec_close(&shim.spec);
		while (shim.phase != EXITED || ((streams_busy(&streams) || execs.count > 0) &&
						monotonic_ms() < shim.drain_until_ms))
			turn();
	}
	finish();
	return 0;
}
