/* Turns the cloned process into the container's program; see child.h. */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "attendant.h"
#include "descriptors.h"
#include "gate.h"
#include "hooks.h"
#include "init.h"
#include "kernel.h"
#include "label.h"
#include "limits.h"
#include "privilege.h"
#include "program.h"
#include "rootfs.h"
#include "scheduling.h"
#include "status.h"
#include "target.h"
#include "terminal.h"
#include "user.h"

#define KEYCTL_JOIN_SESSION_KEYRING 1
#define DEFAULT_UMASK 022

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

/* So that the user may open /dev/stdout again; never what is no stream of a program's. */
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

int child_give_streams(const struct child_io *io, uid_t uid, gid_t gid, struct failure *failure)
{
	const int streams[] = {io->in, io->out, io->err};
	for (size_t i = 0; i < sizeof streams / sizeof *streams; i++)
		if (streams[i] >= 0 && fchown(streams[i], uid, gid) < 0)
			return fail(failure, errno, "cannot hand over standard output");
	return 0;
}

/* What is not given is /dev/null, as the shim has it at 0, 1 and 2, or the caller's own stream. */
static int take_stdio(const struct spec *spec, const struct child_io *io, int terminal,
		      const struct user *user, struct failure *failure)
{
	int from[3] = {io->in, io->out, io->err};
	/* The caller's own may not be this process's to give. */
	int may_fail = (spec_u32(spec, TAG_FLAGS, 0) & SPEC_PASS_STREAMS) && terminal < 0;
	for (int i = 0; i < 3; i++) {
		int fd = terminal >= 0 ? terminal : from[i] >= 0 ? from[i] : i;
		if (fd != i && dup2(fd, i) < 0)
			return fail(failure, errno, "cannot set up standard input and output");
		if (hand_over(i, user) < 0 && !may_fail)
			return fail(failure, errno, "cannot hand over standard output");
	}
	return 0;
}

static int take_terminal(int terminal, struct failure *failure)
{
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

/* A listener is handed on while there is an attendant. */
static int leave_attendant(const struct spec *spec, struct child_io *io, struct failure *failure)
{
	if (io->attendant >= 0 && spec_count(spec, TAG_LISTENER) > 0) {
		io->is_filtered = 1;
		if (privilege_finish(spec, io->attendant, failure) < 0)
			return -1;
	}
	close_fd(&io->attendant);
	return 0;
}

/* With all that the host's rights were needed for done; goes on in the program's process. */
static int be_born(const struct spec *spec, struct child_io *io, struct failure *failure)
{
	if (leave_attendant(spec, io, failure) < 0 || birth_give(io->birth, failure) < 0)
		return -1;
	io->birth = NULL;
	setsid();
	return 0;
}

/* Made: who starts the container is waited for, and the hooks inside it are run. */
static int pass_gate(const struct spec *spec, struct child_io *io, struct failure *failure)
{
	if (leave_attendant(spec, io, failure) < 0 ||
	    (io->gate >= 0 && gate_wait(io->gate, io->status, failure) < 0) ||
	    (!io->is_filtered && privilege_finish(spec, -1, failure) < 0))
		return -1;
	return hooks_run(spec, HOOK_START_CONTAINER, "created", getpid(), -1, failure);
}

/* The last steps of every program: who it is, what it may do, and itself. */
static int become(const struct spec *spec, struct child_io *io, int terminal,
		  struct failure *failure)
{
	struct user user;
	uint32_t flags = spec_u32(spec, TAG_FLAGS, 0);
	const char *directory = spec_string(spec, TAG_CWD, "/");
	char home[USER_HOME_MAX + sizeof "HOME="];
	char **args = program_list(spec, TAG_ARG), **env = program_list(spec, TAG_ENV);
	int nothing = -1, *tell = io->birth != NULL ? &io->birth->tell : &nothing;
	int *kept[] = {&io->status, &io->gate, &io->attendant, tell};
	if (args == NULL || env == NULL || args[0] == NULL)
		return fail(failure, 0, "the container has no program to run");
	umask((mode_t)spec_u32(spec, TAG_UMASK, DEFAULT_UMASK));
	if (user_resolve(&user, spec, failure) < 0 ||
	    take_stdio(spec, io, terminal, &user, failure) < 0 ||
	    (io->birth == NULL && take_terminal(terminal, failure) < 0))
		return -1;
	if (program_variable(env, "HOME") == NULL) {
		format_text(home, sizeof home, "HOME=%s", user.home[0] != 0 ? user.home : "/");
		env[spec_count(spec, TAG_ENV)] = home;
	}
	/* Fails only where the kernel has no keys; then there is nothing to keep apart. */
	if (!(flags & SPEC_KEEP_KEYRING))
		(void)syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL, 0, 0, 0);
	if (descriptors_settle(spec, kept, 4, failure) < 0 ||
	    scheduling_set(spec, failure) < 0 || limits_set(spec, io->status, failure) < 0)
		return -1;
	if (privilege_drop(spec, &user, io->attendant, failure) < 0 ||
	    check_directory(directory, failure) < 0)
		return -1;
	/* A terminal is its session's. */
	if (io->birth != NULL &&
	    (be_born(spec, io, failure) < 0 || take_terminal(terminal, failure) < 0))
		return -1;
	if (io->gate >= 0 && program_check(args, env, failure) < 0)
		return -1;
	if (limits_set_files(spec, io->status, failure) < 0 || pass_gate(spec, io, failure) < 0)
		return -1;
	if ((flags & SPEC_INIT) && init_run(io->status, io->gate, failure) < 0)
		return -1;
	program_reset_signals();
	return program_execute(args, env, failure);
}

/* The stage has set those of a network that is not this user namespace's. */
static enum sysctls sysctls_left(const struct child_io *io)
{
	int is_done = io->is_staged && namespaces_have(io->namespaces, CLONE_NEWUSER) &&
		      !(io->namespaces->created & CLONE_NEWNET);
	return is_done ? SYSCTLS_BUT_NET : SYSCTLS_ALL;
}

static int run(const struct spec *spec, const struct cgroups *groups, struct child_io *io,
	       struct failure *failure)
{
	uint32_t flags = spec_u32(spec, TAG_FLAGS, 0);
	const char *hostname = spec_string(spec, TAG_HOSTNAME, "");
	const char *domain = spec_string(spec, TAG_DOMAIN, "");
	int terminal = -1;
	setsid(); /* cannot fail: a cloned process leads no group yet */
	umask(0);
	if (!io->is_staged)
		limits_raise(spec, io->status);
	if (enter_namespaces(groups, io, failure) < 0)
		return -1;
	int root = rootfs_build(spec, failure);
	if (root < 0 || rootfs_sysctls(spec, sysctls_left(io), failure) < 0)
		return -1;
	if ((flags & SPEC_TTY) && (terminal = terminal_open(spec, root, io->status, 1, failure)) < 0)
		return -1;
	if (namespaces_have(io->namespaces, CLONE_NEWUTS) &&
	    ((hostname[0] != 0 && sethostname(hostname, strlen(hostname)) < 0) ||
	     (domain[0] != 0 && setdomainname(domain, strlen(domain)) < 0)))
		return fail(failure, errno, "cannot set the host name");
	if (io->attendant >= 0 && attendant_run_hooks(io->attendant, failure) < 0)
		return -1;
	/* As others have it, such a hook finds the container's root as its working directory. */
	if (fchdir(root) < 0)
		return fail(failure, errno, "cannot enter the container's root");
	if (hooks_run(spec, HOOK_CREATE_CONTAINER, "creating", getpid(), -1, failure) < 0)
		return -1;
	if (label_set(spec, failure) < 0)
		return -1;
	/* Before the root may become read-only: the working directory is made as Docker does. */
	if (rootfs_seal(spec, root, failure) < 0 || rootfs_enter(spec, root, failure) < 0 ||
	    enter_directory(spec_string(spec, TAG_CWD, "/"), failure) < 0)
		return -1;
	if ((flags & SPEC_READONLY_ROOT) && rootfs_protect(root, failure) < 0)
		return -1;
	if (io->birth != NULL && birth_choose(io->birth, failure) < 0)
		return -1;
	return become(spec, io, terminal, failure);
}

static int run_exec(const struct spec *spec, const struct cgroups *groups, struct child_io *io,
		    struct failure *failure)
{
	int terminal = -1;
	setsid();
	if (cgroups_join(groups, failure) < 0 || target_enter(io->init, io->late, failure) < 0)
		return -1;
	if (spec_u32(spec, TAG_FLAGS, 0) & SPEC_TTY) {
		int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (root < 0)
			return fail(failure, errno, "cannot open the container's root");
		terminal = terminal_open(spec, root, io->status, 0, failure);
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

static void __attribute__((noreturn)) tell_failure(const struct child_io *io,
						   const struct failure *failure)
{
	/* Nobody is left to tell, else. */
	if (io->birth != NULL)
		(void)send(io->birth->tell, failure, sizeof *failure, MSG_NOSIGNAL);
	else
		(void)status_tell(io->status, REPORT_FAILURE, failure);
	if (io->gate >= 0)
		gate_tell_failure(io->gate, failure);
	_exit(failure->exit_code);
}

void child_run(const struct spec *spec, const struct cgroups *groups, struct child_io *io)
{
	struct failure failure = {0};
	close(CONTROL_FD); /* else its end would be heard only with this process's */
	run(spec, groups, io, &failure);
	tell_failure(io, &failure);
}

void child_exec(const struct spec *spec, const struct cgroups *groups, struct child_io *io)
{
	struct failure failure = {0};
	run_exec(spec, groups, io, &failure);
	tell_failure(io, &failure);
}
