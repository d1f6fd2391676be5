/*
 * What an engine does around a runtime's command, as cheaply as it can be done: for each id on
 * standard input a bundle (config.json, an overlay mount as root with a writable layer of its own),
 * the command run on it to its end, and everything removed. Says "<id> <exit code>" when nothing of
 * it is left; "usage" is answered with the processor time of all so far, in us. Ids that come
 * together run together. Works in a mount namespace of its own.
 *
 *   engine <directory> <lower directory> <config.json> <mount to take away, or -> <command...>
 *
 * The command `kernel` is none: kernelPart.c, with the words after it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernelPart.h"

#define PATH_BYTES 1024
#define ARGUMENTS_MAX 32
#define WALK_DESCRIPTORS 8

static const char *directory, *lower, *config;
static char **command;

static int drop(const char *path, const struct stat *status, int type, struct FTW *where)
{
	(void)status;
	(void)type;
	(void)where;
	return remove(path);
}

static int is_kernel(void)
{
	return strcmp(command[0], "kernel") == 0;
}

static int make_bundle(const char *bundle, const char *root)
{
	char path[PATH_BYTES], options[4 * PATH_BYTES];
	if (mkdir(bundle, 0711) < 0)
		return -1;
	snprintf(path, sizeof path, "%s/upper", bundle);
	if (mkdir(path, 0755) < 0)
		return -1;
	snprintf(path, sizeof path, "%s/work", bundle);
	if (mkdir(path, 0755) < 0)
		return -1;
	if (is_kernel())
		return 0;
	snprintf(path, sizeof path, "%s/config.json", bundle);
	if (link(config, path) < 0 || mkdir(root, 0755) < 0)
		return -1;
	snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s/upper,workdir=%s/work,index=off",
		 lower, bundle, bundle);
	return mount("overlay", root, "overlay", 0, options);
}

static int run_command(const char *bundle, const char *id)
{
	const char *args[ARGUMENTS_MAX + 4];
	int count = 0, status = -1;
	while (command[count] != NULL && count < ARGUMENTS_MAX) {
		args[count] = command[count];
		count++;
	}
	args[count++] = "--bundle";
	args[count++] = bundle;
	args[count++] = id;
	args[count] = NULL;
	pid_t pid = vfork();
	if (pid == 0) {
		execv(args[0], (char **)args);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return 128;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int run_whole(const char *id)
{
	char bundle[PATH_BYTES / 2], root[PATH_BYTES];
	snprintf(bundle, sizeof bundle, "%s/%s", directory, id);
	snprintf(root, sizeof root, "%s/rootfs", bundle);
	if (make_bundle(bundle, root) < 0) {
		perror("engine: cannot make a bundle");
		return 128;
	}
	int code = is_kernel() ? kernel_part(bundle, lower, id, command + 1)
			       : run_command(bundle, id);
	if ((!is_kernel() && umount2(root, 0) < 0) || nftw(bundle, drop, WALK_DESCRIPTORS, FTW_DEPTH | FTW_PHYS) != 0) {
		perror("engine: cannot remove a bundle");
		return 128;
	}
	return code;
}

static void run_apart(const char *id)
{
	if (fork() != 0)
		return;
	char line[PATH_BYTES];
	int out = dup(1), null = open("/dev/null", O_RDWR);
	dup2(null, 0);
	dup2(null, 1);
	int length = snprintf(line, sizeof line, "%s %d\n", id, run_whole(id));
	_exit(write(out, line, (size_t)length) == length ? 0 : 1);
}

static void reap(int flags)
{
	while (waitpid(-1, NULL, flags) > 0)
		continue;
}

static long long microseconds(int who)
{
	struct rusage used;
	getrusage(who, &used);
	return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000LL + used.ru_utime.tv_usec +
	       used.ru_stime.tv_usec;
}

int main(int count, char **args)
{
	char id[PATH_BYTES / 4];
	if (count < 6)
		return 2;
	directory = args[1];
	lower = args[2];
	config = args[3];
	command = args + 5;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		perror("engine: cannot make a mount namespace");
		return 1;
	}
	if (strcmp(args[4], "-") != 0)
		(void)umount2(args[4], 0); /* or it is not there */
	while (fgets(id, sizeof id, stdin) != NULL) {
		id[strcspn(id, "\n")] = 0;
		reap(WNOHANG);
		if (strcmp(id, "usage") != 0) {
			run_apart(id);
			continue;
		}
		printf("usage %lld\n", microseconds(RUSAGE_CHILDREN) + microseconds(RUSAGE_SELF));
		fflush(stdout);
	}
	reap(0);
	return 0;
}
