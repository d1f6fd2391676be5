/* Asks for a procfs inside a pid namespace; see foreignproc.h. */
#include "foreignproc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control.h"
#include "descriptors.h"
#include "kernel.h"
#include "newfs.h"
#include "status.h"

#define PATIENCE_MS 10000 /* somebody inside may hold it up */
#define NOTHING_OF_THE_SHIMS 0u
#define SECCOMP_MODE_FILTER_OPERATION 1
#define FILTER_ALLOW 0x7fff0000u
#define FILTER_REFUSE 0x00050000u
#define FILTER_KILL 0x80000000u
#define DATA_NUMBER 0u
#define DATA_MACHINE 4u
#define DATA_FIRST_ARGUMENT 16u
#define LOAD 0x20u  /* BPF_LD | BPF_W | BPF_ABS */
#define EQUAL 0x15u /* BPF_JMP | BPF_JEQ | BPF_K */
#define ANSWER 0x06u /* BPF_RET | BPF_K */
#if defined(__x86_64__)
#define MACHINE 0xc000003eu
#elif defined(__aarch64__)
#define MACHINE 0xc00000b7u
#elif defined(__riscv)
#define MACHINE 0xc00000f3u
#else
#error "the number of this architecture in a filter is missing"
#endif

struct instruction {
	uint16_t code;
	uint8_t if_true, if_false;
	uint32_t value;
};

/* To be forked once, to open a file system, to send it, and to end. */
static int confine(void)
{
	static const struct instruction filter[] = {
		{LOAD, 0, 0, DATA_MACHINE},
		{EQUAL, 1, 0, MACHINE},
		{ANSWER, 0, 0, FILTER_KILL},
		{LOAD, 0, 0, DATA_NUMBER},
		{EQUAL, 8, 0, NR_fsopen},
		{EQUAL, 7, 0, SYS_sendmsg},
		{EQUAL, 6, 0, SYS_wait4},
		{EQUAL, 5, 0, SYS_exit},
		{EQUAL, 4, 0, SYS_exit_group},
		{EQUAL, 0, 2, SYS_clone},
		/* The half of its flags that the kernel looks at. */
		{LOAD, 0, 0, DATA_FIRST_ARGUMENT},
		{EQUAL, 1, 0, SIGCHLD},
		{ANSWER, 0, 0, FILTER_REFUSE | EPERM},
		{ANSWER, 0, 0, FILTER_ALLOW},
	};
	const struct {
		unsigned short count;
		const struct instruction *first;
	} program = {sizeof filter / sizeof *filter, filter};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return (int)syscall(SYS_seccomp, SECCOMP_MODE_FILTER_OPERATION, 0, &program);
}

/* An empty root, and namespaces in which being their root is nothing. */
static int leave_all(int pids, int *socket, const char *place)
{
	const int none = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS |
			 K_CLONE_NEWCGROUP;
	struct failure ignored; /* its errno is the answer */
	if (setns(pids, CLONE_NEWPID) < 0 || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -1;
	int root = newfs_tmpfs("nr_inodes", "1", K_MOUNT_ATTR_RDONLY);
	int at = open(place, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0 || at < 0 || k_move_mount(root, at) < 0 || newfs_enter(root, &ignored) < 0 ||
	    descriptors_close_others(NOTHING_OF_THE_SHIMS, &socket, 1) < 0 || unshare(none) < 0)
		return -1;
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	return confine();
}

static void __attribute__((noreturn)) ask(int pids, int socket, const char *place)
{
	int status = 0;
	char byte = 0;
	if (leave_all(pids, &socket, place) < 0)
		_exit(errno);
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (pid == 0) {
		int fs = k_fsopen("proc");
		_exit(fs >= 0 && send_descriptor(socket, fs, &byte, 1) == 0 ? 0 : errno);
	}
	if (pid < 0)
		_exit(errno);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		continue;
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : EIO);
}

static int wait_for(int fd)
{
	struct pollfd ready = {fd, POLLIN, 0};
	return poll(&ready, 1, PATIENCE_MS) == 1;
}

/* What was sent; -1 when it is not one descriptor. */
static int receive(int socket)
{
	int fds[CONTROL_FDS_MAX], fd = -1;
	size_t count = 0;
	char byte;
	(void)receive_with_fds(socket, &byte, 1, fds, &count); /* told by what came with it */
	if (count == 1)
		return fds[0];
	for (size_t i = 0; i < count; i++)
		close_fd(&fds[i]);
	return fd;
}

int foreignproc_open(int pids, const char *place)
{
	int ends[2], pidfd = -1, status = 0;
	struct k_clone_args args = {
		.flags = K_CLONE_PIDFD,
		.pidfd = (uint64_t)(uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
	};
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -1;
	pid_t pid = k_clone3(&args);
	if (pid == 0)
		ask(pids, ends[1], place);
	int error = errno, fs = -1;
	close_fd(&ends[1]);
	if (pid > 0) {
		if (wait_for(ends[0]))
			fs = receive(ends[0]);
		if (!wait_for(pidfd))
			(void)kill(pid, SIGKILL); /* not waited for yet: still its number */
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			continue;
		error = WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : EIO;
	}
	close_fd(&pidfd);
	close_fd(&ends[0]);
	errno = error;
	return fs;
}
