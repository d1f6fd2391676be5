/*
 * Runs the shim, and kills the process between it and its container (runtime/shim/stage.c) in the
 * moment in which that one has cloned the container's first process and told nobody: what is left
 * then has no other parent than a shim that does not know of it. `stageKiller SHIM ARGUMENT...`.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#endif

static void fail(const char *what)
{
	perror(what);
	exit(100);
}

/* The shim runs from nothing else. */
static int sealed_copy(const char *path)
{
	struct stat status;
	int from = open(path, O_RDONLY | O_CLOEXEC);
	int copy = memfd_create("tsswarm-shim", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (from < 0 || copy < 0 || fstat(from, &status) < 0 ||
	    sendfile(copy, from, NULL, (size_t)status.st_size) != status.st_size ||
	    fcntl(copy, F_ADD_SEALS, 0xf) < 0)
		fail("copy");
	close(from);
	return copy;
}

int main(int argc, char **argv)
{
	const long options = PTRACE_O_TRACEFORK | PTRACE_O_TRACECLONE;
	char *none[] = {NULL};
	int status, result = 0, is_killed = 0, copy = sealed_copy(argv[1]);
	pid_t shim = fork(), pid;
	if (shim == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		argv[1] = "tsswarm-shim";
		fexecve(copy, argv + 1, none);
		_exit(101);
	}
	close(3);
	close(4);
	if (waitpid(shim, &status, 0) != shim || ptrace(PTRACE_SETOPTIONS, shim, NULL, options) < 0)
		fail("trace");
	ptrace(PTRACE_CONT, shim, NULL, NULL);
	while ((pid = waitpid(-1, &status, __WALL)) > 0) {
		if (!WIFSTOPPED(status) && pid == shim) {
			result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
			break; /* what is left runs on without us */
		}
		if (!WIFSTOPPED(status))
			continue;
		int event = status >> 16, signal = WSTOPSIG(status);
		/* Only the container's process is cloned without a signal of its own. */
		if (event == PTRACE_EVENT_CLONE && pid != shim) {
			kill(pid, SIGKILL);
			is_killed = 1;
			continue;
		}
		ptrace(PTRACE_CONT, pid, NULL,
		       event != 0 || signal == SIGTRAP || signal == SIGSTOP ? 0 : (long)signal);
	}
	if (!is_killed)
		result = 102;
	return result;
}
