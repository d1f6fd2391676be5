/* The reaper as first process; see init.h. */
#include "init.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "privilege.h"

/* Reaps all that has ended; ends when the program did. */
static void reap(pid_t program)
{
	int status;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != program)
			continue;
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	}
}

int init_run(int status, int gate, struct failure *failure)
{
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	pid_t program = fork();
	if (program < 0)
		return fail(failure, errno, "cannot start the program below its reaper");
	if (program == 0) {
		/* In the foreground of its terminal, so that ^C reaches it once. */
		(void)setpgid(0, 0);
		if (isatty(0))
			(void)tcsetpgrp(0, getpid());
		return 0;
	}
	if (privilege_leave() < 0)
		_exit(EXIT_NOT_STARTED);
	/* From here on an end of the status socket means that the program was executed. */
	close(status);
	close_fd(&gate);
	close(0);
	close(1);
	close(2);
	prctl(PR_SET_NAME, "init", 0, 0, 0);
	for (;;) {
		int signal = 0;
		if (sigwait(&all, &signal) != 0)
			continue;
		if (signal == SIGCHLD)
			reap(program);
		else if (signal != SIGTTIN && signal != SIGTTOU)
			(void)kill(program, signal); /* it may just have ended */
	}
}
