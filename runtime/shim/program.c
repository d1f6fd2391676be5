/* Finds and executes the program; see program.h. */
#include "program.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXIT_CANNOT_RUN 126
#define SIGNALS 64

void program_reset_signals(void)
{
	sigset_t none;
	/* By system call: the C libraries keep two signals to themselves. */
	static const char default_action[64];
	for (int i = 1; i <= SIGNALS; i++)
		(void)syscall(SYS_rt_sigaction, i, default_action, NULL, 8); /* not KILL, STOP */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

const char *program_variable(char **env, const char *name)
{
	size_t length = strlen(name);
	for (; *env != NULL; env++)
		if (strncmp(*env, name, length) == 0 && (*env)[length] == '=')
			return *env + length + 1;
	return NULL;
}

char **program_list(const struct spec *spec, unsigned tag)
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
	failure->exit_code = error == ENOENT || error == ENOTDIR || error == ELOOP
				     ? EXIT_NOT_FOUND
				     : EXIT_CANNOT_RUN;
	if (error == ENOENT && strchr(program, '/') == NULL)
		return fail(failure, 0, "cannot run \"%s\": not found in the image's PATH",
			    program);
	return fail(failure, error, "cannot run \"%s\"", program);
}

/* Executes `path`, or only looks whether it could be. 0, or the error; no return when executed. */
static int try(const char *path, char **args, char **env, int only_check)
{
	struct stat status;
	if (!only_check) {
		execve(path, args, env);
		int error = errno;
		if (error == EACCES && stat(path, &status) == 0 && S_ISDIR(status.st_mode))
			return EISDIR;
		return error;
	}
	if (access(path, X_OK) < 0 || stat(path, &status) < 0)
		return errno;
	if (S_ISDIR(status.st_mode))
		return EISDIR;
	return S_ISREG(status.st_mode) ? 0 : EACCES;
}

static int run(char **args, char **env, int only_check, struct failure *failure)
{
	const char *program = args[0];
	if (strchr(program, '/') != NULL) {
		int error = try(program, args, env, only_check);
		return error == 0 ? 0 : fail_execute(program, error, failure);
	}
	int denied = 0;
	const char *path = program_variable(env, "PATH");
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
		int error = try(candidate, args, env, only_check);
		if (error == 0)
			return 0;
		if (error == EACCES || error == EISDIR)
			denied = EACCES;
		else if (error != ENOENT && error != ENOTDIR)
			return fail_execute(candidate, error, failure);
	}
	return fail_execute(program, denied != 0 ? denied : ENOENT, failure);
}

int program_check(char **args, char **env, struct failure *failure)
{
	return run(args, env, 1, failure);
}

int program_execute(char **args, char **env, struct failure *failure)
{
	return run(args, env, 0, failure);
}
