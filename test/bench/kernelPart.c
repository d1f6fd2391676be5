/*
 * What the kernel itself takes for one container, whoever asks: groups with limits, namespaces, the
 * root and its file systems, a program that ends at once, and all of it gone again. No filter, masks,
 * capabilities, sysctls, pipes, log, record or supervisor, nothing checked twice and one process in
 * between: no runtime that makes such containers can be faster on this kernel.
 */
#define _GNU_SOURCE
#include "kernelPart.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATH_BYTES 1024
#define GROUPS_MAX 16
#define REMOVE_TRIES 1000
#define REMOVE_PAUSE_US 100

struct group {
	const char *controllers; /* "" for v2 */
	const char *mount;
	char path[PATH_BYTES];
	int tasks;
};

static int write_to(const char *directory, const char *name, const char *value)
{
	char path[2 * PATH_BYTES];
	snprintf(path, sizeof path, "%s/%s", directory, name);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int result = fd < 0 || write(fd, value, strlen(value)) < 0 ? -1 : 0;
	close(fd);
	return result;
}

static const char *const DEVICES[] = {"c *:* m",   "b *:* m",   "c 1:3 rwm", "c 1:5 rwm",
				      "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm",
				      "c 5:1 rwm", "c 5:2 rwm", "c 136:* rwm"};

static int limit(const struct group *group)
{
	const char *dir = group->path;
	int failed = 0;
	if (strcmp(group->controllers, "memory") == 0)
		failed |= write_to(dir, "memory.limit_in_bytes", "67108864") |
			  write_to(dir, "memory.memsw.limit_in_bytes", "134217728");
	if (strcmp(group->controllers, "pids") == 0)
		failed |= write_to(dir, "pids.max", "100");
	if (strcmp(group->controllers, "cpuset") == 0)
		failed |= write_to(dir, "cpuset.cpus", "0") | write_to(dir, "cpuset.mems", "0");
	if (strcmp(group->controllers, "devices") == 0) {
		failed |= write_to(dir, "devices.deny", "a");
		for (size_t i = 0; i < sizeof DEVICES / sizeof *DEVICES; i++)
			failed |= write_to(dir, "devices.allow", DEVICES[i]);
	}
	return failed;
}

static int make_group(struct group *group, const char *parent, const char *id)
{
	char tasks[2 * PATH_BYTES];
	snprintf(group->path, sizeof group->path, "%s/%s/%s", group->mount, parent, id);
	if (mkdir(group->path, 0755) < 0 || limit(group) < 0)
		return -1;
	snprintf(tasks, sizeof tasks, "%s/tasks", group->path);
	group->tasks = group->controllers[0] == 0 ? open(group->path, O_DIRECTORY | O_CLOEXEC)
						  : open(tasks, O_WRONLY | O_CLOEXEC);
	return group->tasks < 0 ? -1 : 0;
}

static int make_devices(void)
{
	static const struct {
		const char *path;
		unsigned major, minor;
	} nodes[] = {{"dev/null", 1, 3}, {"dev/zero", 1, 5},	{"dev/full", 1, 7},
		     {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0}};
	for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++)
		if (mknod(nodes[i].path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)))
			return -1;
	return 0;
}

static int mount_groups(const struct group *groups, size_t count)
{
	char path[PATH_BYTES];
	for (size_t i = 0; i < count; i++) {
		const char *name = strrchr(groups[i].mount, '/') + 1;
		int is_v2 = groups[i].controllers[0] == 0;
		snprintf(path, sizeof path, "sys/fs/cgroup/%s", name);
		if (mkdir(path, 0755) < 0 ||
		    mount("cgroup", path, is_v2 ? "cgroup2" : "cgroup", MS_RDONLY,
			  is_v2 ? NULL : groups[i].controllers) < 0)
			return -1;
	}
	return 0;
}

static int enter(const char *bundle, const char *lower, const struct group *groups, size_t count)
{
	char options[4 * PATH_BYTES];
	struct ifreq loopback = {.ifr_name = "lo"};
	int network = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	for (size_t i = 0; i < count; i++)
		if (groups[i].controllers[0] != 0 && write(groups[i].tasks, "0", 1) < 0)
			return -1;
	loopback.ifr_flags = IFF_UP | IFF_RUNNING;
	snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s/upper,workdir=%s/work,index=off",
		 lower, bundle, bundle);
	if (unshare(CLONE_NEWCGROUP) < 0 || ioctl(network, SIOCSIFFLAGS, &loopback) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("overlay", bundle, "overlay", 0, options) < 0 || chdir(bundle) < 0 ||
	    mount("proc", "proc", "proc", 0, NULL) < 0 ||
	    mount("tmpfs", "dev", "tmpfs", 0, "mode=755,size=65536k") < 0 || make_devices() < 0 ||
	    mkdir("dev/pts", 0755) < 0 || mkdir("dev/shm", 0755) < 0 ||
	    mkdir("dev/mqueue", 0755) < 0 ||
	    mount("devpts", "dev/pts", "devpts", 0, "newinstance,ptmxmode=0666,gid=5") < 0 ||
	    mount("shm", "dev/shm", "tmpfs", 0, "mode=1777,size=65536k") < 0 ||
	    mount("mqueue", "dev/mqueue", "mqueue", 0, NULL) < 0 ||
	    mount("sysfs", "sys", "sysfs", MS_RDONLY, NULL) < 0 ||
	    mount("tmpfs", "sys/fs/cgroup", "tmpfs", 0, "mode=755") < 0 ||
	    mount_groups(groups, count) < 0)
		return -1;
	if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0)
		return -1;
	return chdir("/");
}

static pid_t clone_into(const struct group *groups, size_t count)
{
	struct clone_args args = {.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS |
					   CLONE_NEWIPC | CLONE_NEWNET,
				  .exit_signal = SIGCHLD};
	for (size_t i = 0; i < count; i++)
		if (groups[i].controllers[0] == 0) {
			args.flags |= CLONE_INTO_CGROUP;
			args.cgroup = (uint64_t)groups[i].tasks;
		}
	return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

int kernel_part(const char *bundle, const char *lower, const char *id, char **words)
{
	struct group groups[GROUPS_MAX] = {0};
	size_t count = 0;
	int status = -1, failed = 0;
	for (char **word = words + 1; *word != NULL && count < GROUPS_MAX; word++) {
		char *mount = strrchr(*word, '=');
		*mount = 0;
		groups[count] = (struct group){.controllers = *word, .mount = mount + 1};
		failed |= make_group(&groups[count++], words[0], id);
	}
	pid_t pid = failed ? -1 : clone_into(groups, count);
	if (pid == 0) {
		char *const program[] = {"/bin/true", NULL};
		if (enter(bundle, lower, groups, count) == 0)
			execv(program[0], program);
		perror("kernelPart");
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		perror("kernelPart: cannot start");
	for (size_t i = 0; i < count; i++) {
		close(groups[i].tasks);
		for (int tries = 0; tries < REMOVE_TRIES && rmdir(groups[i].path) < 0; tries++)
			usleep(REMOVE_PAUSE_US);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}
