/* Turns the cloned process into the container's program; see child.h. */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "init.h"
#include "kernel.h"
#include "privilege.h"
#include "rootfs.h"
#include "user.h"

#define KEYCTL_JOIN_SESSION_KEYRING 1
#define FIRST_FOREIGN_FD 3u /* after standard input and output */
#define IOCTL_GET_PTY_PEER 0x5441 /* TIOCGPTPEER */

static void reset_signals(void)
{
	sigset_t none;
	/* By system call: the C libraries keep two signals to themselves. */
	static const char default_action[64];
	for (int i = 1; i < 65; i++)
		(void)syscall(SYS_rt_sigaction, i, default_action, NULL, 8); /* not KILL, STOP */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static int raise_loopback(struct failure *failure)
{
	struct ifreq request = {.ifr_name = "lo"};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	request.ifr_flags = IFF_UP | IFF_RUNNING;
	int result = 0;
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		result = fail(failure, errno, "cannot bring up the loopback interface");
	close_fd(&fd);
	return result;
}

static int enter_namespaces(const struct cgroups *groups, const struct child_io *io,
			    struct failure *failure)
{
	const struct namespaces *namespaces = io->namespaces;
	if (!io->is_staged && (cgroups_join(groups, failure) < 0 ||
			       namespaces_join(namespaces, namespaces->joined, failure) < 0))
		return -1;
	/* Only now, so that the container sees its own groups as the root. */
	if ((namespaces->created & K_CLONE_NEWCGROUP) && unshare(K_CLONE_NEWCGROUP) < 0)
		return fail(failure, errno, "cannot make a cgroup namespace");
	if ((namespaces->created & CLONE_NEWNET) && raise_loopback(failure) < 0)
		return -1;
	return 0;
}

int child_limits(const struct spec *spec, struct failure *failure)
{
	struct record record;
	char number[16];
	for (size_t at = 0; spec_next(spec, &at, TAG_OOM_SCORE, &record);) {
		format_text(number, sizeof number, "%d", (int)record_u32(&record, 0));
		/* Lowering needs CAP_SYS_RESOURCE; without it the host's own score stays. */
		(void)write_file_at(AT_FDCWD, "/proc/self/oom_score_adj", number);
	}
	for (size_t at = 0; spec_next(spec, &at, TAG_RLIMIT, &record);) {
		struct rlimit limit = {record_u64(&record, 4), record_u64(&record, 12)};
		int which = (int)record_u32(&record, 0);
		struct rlimit own;
		if (setrlimit(which, &limit) == 0)
			continue;
		/* Raising needs CAP_SYS_RESOURCE; without it the shim's own limit is the most. */
		if (errno != EPERM || getrlimit(which, &own) < 0)
			return fail(failure, errno, "cannot set resource limit %d", which);
		limit.rlim_max = limit.rlim_max < own.rlim_max ? limit.rlim_max : own.rlim_max;
		limit.rlim_cur = limit.rlim_cur < limit.rlim_max ? limit.rlim_cur : limit.rlim_max;
		if (setrlimit(which, &limit) < 0)
			return fail(failure, errno, "cannot set resource limit %d", which);
	}
	return 0;
}

static int send_descriptor(int socket, int fd)
{
	char byte = STATUS_TERMINAL;
	struct iovec data = {&byte, 1};
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct msghdr message = {.msg_iov = &data,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof control.space};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof fd);
	return sendmsg(socket, &message, MSG_NOSIGNAL) == 1 ? 0 : -1;
}

/*
 * A terminal of the container's own devpts: the peer is asked for by descriptor, never by a path,
 * and bound over /dev/console (the container's only). The master goes to the shim. Returns the
 * peer.
 */
static int open_terminal(const struct spec *spec, int root, int status, int is_console,
			 struct failure *failure)
{
	int unlocked = 0, peer = -1, copy = -1, console = -1;
	int dev = k_openat2(root, "/dev", O_PATH | O_DIRECTORY | O_CLOEXEC, 0,
			    K_RESOLVE_IN_ROOT | K_RESOLVE_NO_SYMLINKS);
	int master = k_openat2(root, "/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC, 0,
			       K_RESOLVE_IN_ROOT | K_RESOLVE_NO_SYMLINKS);
	if (dev < 0 || master < 0 || ioctl(master, TIOCSPTLCK, &unlocked) < 0)
		goto failed;
	struct record record;
	for (size_t at = 0; spec_next(spec, &at, TAG_TERMINAL, &record);) {
		struct winsize size = {.ws_row = (unsigned short)record_u32(&record, 0),
				       .ws_col = (unsigned short)record_u32(&record, 4)};
		if (ioctl(master, TIOCSWINSZ, &size) < 0)
			goto failed;
	}
	peer = ioctl(master, IOCTL_GET_PTY_PEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (peer < 0)
		goto failed;
	if (is_console) {
		console = openat(dev, "console",
				 O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		copy = k_open_tree(peer, "", K_OPEN_TREE_CLONE | K_AT_EMPTY_PATH | O_CLOEXEC);
		if (console < 0 || copy < 0 || k_move_mount(copy, console) < 0)
			goto failed;
	}
	if (send_descriptor(status, master) < 0)
		goto failed;
	goto out;
failed:
	fail(failure, errno, "cannot make the container's terminal");
	close_fd(&peer);
out:
	close_fd(&console);
	close_fd(&copy);
	close_fd(&master);
	close_fd(&dev);
	return peer;
}

/* So that the user may open /dev/stdout again; never what is not the container's own. */
static int hand_over(int fd, const struct user *user)
{
	struct stat status;
	if (fstat(fd, &status) < 0)
		return -1;
	if (!S_ISFIFO(status.st_mode) && !isatty(fd))
		return 0;
	/* Forbidden in a user namespace that was joined: whose it was on the host is not known. */
	return fchown(fd, user->uid, (gid_t)-1) < 0 && errno != EPERM ? -1 : 0;
}

int child_give_streams(const struct child_io *io, struct failure *failure)
{
	const int streams[] = {io->in, io->out, io->err};
	for (size_t i = 0; io->root_uid != 0 && i < sizeof streams / sizeof *streams; i++)
		if (streams[i] >= 0 && fchown(streams[i], io->root_uid, io->root_gid) < 0)
			return fail(failure, errno, "cannot hand over standard output");
	return 0;
}

/* What is not given is /dev/null, as the shim has it at 0, 1 and 2. */
static int take_stdio(const struct child_io *io, int terminal, const struct user *user,
		      struct failure *failure)
{
	int from[3] = {io->in, io->out, io->err};
	for (int i = 0; i < 3; i++) {
		int fd = terminal >= 0 ? terminal : from[i] >= 0 ? from[i] : i;
		if (fd != i && dup2(fd, i) < 0)
			return fail(failure, errno, "cannot set up standard input and output");
		if (hand_over(i, user) < 0)
			return fail(failure, errno, "cannot hand over standard output");
	}
	if (terminal >= 0 && ioctl(0, TIOCSCTTY, 0) < 0)
		return fail(failure, errno, "cannot take the terminal");
	return 0;
}

/* Never by chdir: its path may lead through /proc/self/fd to a descriptor of the host's. */
static int change_directory(const char *path, int make)
{
	int fd = rootfs_directory(path, make);
	if (fd < 0)
		return -1;
	int result = fchdir(fd);
	int error = errno;
	close_fd(&fd);
	errno = error;
	return result;
}

static int enter_directory(const char *path, struct failure *failure)
{
	if (change_directory(path, 1) == 0 || errno == EACCES /* tried again as the user */)
		return 0;
	return fail(failure, errno, "cannot enter or make the working directory %s", path);
}

/* A working directory outside the root would be a way out of the container. */
static int check_directory(const char *path, struct failure *failure)
{
	char where[4096];
	if (change_directory(path, 0) < 0 && errno != EACCES && errno != EPERM)
		return fail(failure, errno, "cannot enter %s", path);
	if (getcwd(where, sizeof where) == NULL || where[0] != '/')
		return fail(failure, 0, "the working directory %s lies outside the container",
			    path);
	return 0;
}

static const char *variable(char **env, const char *name)
{
	size_t length = strlen(name);
	for (; *env != NULL; env++)
		if (strncmp(*env, name, length) == 0 && (*env)[length] == '=')
			return *env + length + 1;
	return NULL;
}

/* The strings of all records of `tag`, with one free place and a NULL behind them. */
static char **collect(const struct spec *spec, unsigned tag)
{
	size_t used = 0;
	char **list = take_memory((spec_count(spec, tag) + 2) * sizeof *list);
	struct record record;
	for (size_t at = 0; list != NULL && spec_next(spec, &at, tag, &record);) {
		const char *text = record_string(&record, 0, 0);
		if (text != NULL)
			list[used++] = (char *)(uintptr_t)text;
	}
	return list;
}

static int fail_execute(const char *program, int error, struct failure *failure)
{
	failure->exit_code = error == ENOENT || error == ENOTDIR || error == ELOOP ? 127 : 126;
	if (error == ENOENT && strchr(program, '/') == NULL)
		return fail(failure, 0, "cannot run \"%s\": not found in the image's PATH",
			    program);
	return fail(failure, error, "cannot run \"%s\"", program);
}

/* execvp over the container's PATH. Returns only when nothing could be executed. */
static int execute(char **args, char **env, struct failure *failure)
{
	const char *program = args[0];
	if (strchr(program, '/') != NULL) {
		struct stat status;
		execve(program, args, env);
		int error = errno;
		if (error == EACCES && stat(program, &status) == 0 && S_ISDIR(status.st_mode))
			error = EISDIR;
		return fail_execute(program, error, failure);
	}
	int denied = 0;
	const char *path = variable(env, "PATH");
	while (path != NULL && *path != 0) {
		char candidate[4096];
		const char *end = strchr(path, ':');
		size_t length = end != NULL ? (size_t)(end - path) : strlen(path);
		int fits = length > 0 && length + strlen(program) + 2 <= sizeof candidate;
		if (fits) {
			memcpy(candidate, path, length);
			format_text(candidate + length, sizeof candidate - length, "/%s", program);
		}
		path = end != NULL ? end + 1 : NULL;
		if (!fits)
			continue;
		execve(candidate, args, env);
		if (errno == EACCES)
			denied = EACCES;
		else if (errno != ENOENT && errno != ENOTDIR)
			return fail_execute(candidate, errno, failure);
	}
	return fail_execute(program, denied != 0 ? denied : ENOENT, failure);
}

/*
 * All but the status socket, and at once rather than on execution: the program's own path may lead
 * through /proc/self/fd/<directory of the host's>/.., and an init never executes anything.
 */
static int close_foreign(int status, struct failure *failure)
{
	unsigned keep = (unsigned)status;
	if ((keep > FIRST_FOREIGN_FD && k_close_range(FIRST_FOREIGN_FD, keep - 1) < 0) ||
	    k_close_range(keep + 1, ~0U) < 0)
		return fail(failure, errno, "cannot close the shim's descriptors");
	return 0;
}

/* The last steps of every program: who it is, what it may do, and itself. */
static int become(const struct spec *spec, const struct child_io *io, int terminal,
		  struct failure *failure)
{
	struct user user;
	const char *directory = spec_string(spec, TAG_CWD, "/");
	char home[USER_HOME_MAX + sizeof "HOME="];
	char **args = collect(spec, TAG_ARG), **env = collect(spec, TAG_ENV);
	if (args == NULL || env == NULL || args[0] == NULL)
		return fail(failure, 0, "the container has no program to run");
	umask(022);
	if (user_resolve(&user, spec, failure) < 0 || take_stdio(io, terminal, &user, failure) < 0)
		return -1;
	if (variable(env, "HOME") == NULL) {
		format_text(home, sizeof home, "HOME=%s", user.home[0] != 0 ? user.home : "/");
		env[spec_count(spec, TAG_ENV)] = home;
	}
	/* Fails only where the kernel has no keys; then there is nothing to keep apart. */
	(void)syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL, 0, 0, 0);
	if (close_foreign(io->status, failure) < 0)
		return -1;
	if (privilege_drop(spec, &user, failure) < 0 || check_directory(directory, failure) < 0)
		return -1;
	if (privilege_finish(spec, failure) < 0)
		return -1;
	if ((spec_u32(spec, TAG_FLAGS, 0) & SPEC_INIT) && init_run(io->status, failure) < 0)
		return -1;
	reset_signals();
	return execute(args, env, failure);
}

/* The stage has set those of a network that is not this user namespace's. */
static enum sysctls sysctls_left(const struct child_io *io)
{
	int is_done = io->is_staged && namespaces_have(io->namespaces, CLONE_NEWUSER) &&
		      !(io->namespaces->created & CLONE_NEWNET);
	return is_done ? SYSCTLS_BUT_NET : SYSCTLS_ALL;
}

static int run(const struct spec *spec, const struct cgroups *groups, const struct child_io *io,
	       struct failure *failure)
{
	uint32_t flags = spec_u32(spec, TAG_FLAGS, 0);
	const char *hostname = spec_string(spec, TAG_HOSTNAME, "");
	const char *domain = spec_string(spec, TAG_DOMAIN, "");
	int terminal = -1;
	setsid(); /* cannot fail: a cloned process leads no group yet */
	umask(0);
	if ((!io->is_staged && child_limits(spec, failure) < 0) ||
	    enter_namespaces(groups, io, failure) < 0)
		return -1;
	int root = rootfs_build(spec, failure);
	if (root < 0 || rootfs_sysctls(spec, sysctls_left(io), failure) < 0)
		return -1;
	if ((flags & SPEC_TTY) && (terminal = open_terminal(spec, root, io->status, 1, failure)) < 0)
		return -1;
	if (namespaces_have(io->namespaces, CLONE_NEWUTS) &&
	    ((hostname[0] != 0 && sethostname(hostname, strlen(hostname)) < 0) ||
	     (domain[0] != 0 && setdomainname(domain, strlen(domain)) < 0)))
		return fail(failure, errno, "cannot set the host name");
	/* Before the root may become read-only: the working directory is made as Docker does. */
	if (rootfs_enter(spec, root, failure) < 0 ||
	    enter_directory(spec_string(spec, TAG_CWD, "/"), failure) < 0)
		return -1;
	if ((flags & SPEC_READONLY_ROOT) && rootfs_protect(root, failure) < 0)
		return -1;
	return become(spec, io, terminal, failure);
}

static int run_exec(const struct spec *spec, const struct cgroups *groups,
		    const struct child_io *io, struct failure *failure)
{
	int terminal = -1;
	setsid();
	if (child_limits(spec, failure) < 0 || cgroups_join_again(groups, failure) < 0 ||
	    child_give_streams(io, failure) < 0)
		return -1;
	/* The pid namespace was joined by being cloned into it. */
	if (setns(io->init, (int)(io->joins & ~(uint32_t)CLONE_NEWPID)) < 0)
		return fail(failure, errno, "cannot join the container's namespaces");
	if ((io->joins & CLONE_NEWUSER) && namespaces_become_root(failure) < 0)
		return -1;
	if (spec_u32(spec, TAG_FLAGS, 0) & SPEC_TTY) {
		int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (root < 0)
			return fail(failure, errno, "cannot open the container's root");
		terminal = open_terminal(spec, root, io->status, 0, failure);
		close_fd(&root);
		if (terminal < 0)
			return -1;
	}
	if (change_directory(spec_string(spec, TAG_CWD, "/"), 0) < 0 && errno != EACCES) {
		int error = errno;
		failure->exit_code = EXIT_NOT_FOUND;
		return fail(failure, error, "cannot enter the working directory %s",
			    spec_string(spec, TAG_CWD, "/"));
	}
	return become(spec, io, terminal, failure);
}

/* Nobody is left to tell when the shim is gone too. */
static void __attribute__((noreturn)) tell_failure(int status, const struct failure *failure)
{
	(void)send(status, failure, sizeof *failure, MSG_NOSIGNAL);
	_exit(failure->exit_code);
}

void child_run(const struct spec *spec, const struct cgroups *groups, const struct child_io *io)
{
	struct failure failure = {0};
	run(spec, groups, io, &failure);
	tell_failure(io->status, &failure);
}

void child_exec(const struct spec *spec, const struct cgroups *groups, const struct child_io *io)
{
	struct failure failure = {0};
	run_exec(spec, groups, io, &failure);
	tell_failure(io->status, &failure);
}
