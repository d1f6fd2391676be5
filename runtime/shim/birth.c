/* Forks into a pid namespace at the last moment; see birth.h. */
#include "birth.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RESET_ON_FORK 0x40000000
#define POLICY_DEADLINE 6

int birth_choose(struct birth *birth, struct failure *failure)
{
	if (birth->pids < 0)
		return 0;
	if (setns(birth->pids, CLONE_NEWPID) < 0)
		return fail(failure, errno, "cannot join the pid namespace");
	close_fd(&birth->pids);
	return 0;
}

int birth_give(struct birth *birth, struct failure *failure)
{
	/* By system call: musl has none of it. Where a filter forbids it, there is none set. */
	long policy = syscall(SYS_sched_getscheduler, 0);
	if (policy >= 0 && (policy == POLICY_DEADLINE || (policy & RESET_ON_FORK)))
		return fail(failure, 0,
			    "a scheduling policy that a fork does not keep cannot be had in a pid "
			    "namespace that is another's");
	/* A change of user may have taken it back. */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	/* Not clone3: filters refuse it, as they cannot look at its flags. */
	long pid = syscall(SYS_clone, CLONE_PARENT | CLONE_PARENT_SETTID | SIGCHLD, 0, birth->born,
			   0, 0);
	if (pid > 0)
		_exit(0);
	if (pid < 0)
		return fail(failure, errno, "cannot start the program in the pid namespace it joins");
	close_fd(&birth->tell);
	(void)munmap(birth->born, sizeof *birth->born);
	return 0;
}
