/*
 * A hostile program in a container of the tests: tries what leads out of one, and says of each
 * attempt what the kernel answered. Static; one command a run. What it prints is compared whole.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NEW_USER 0x10000000
#define NEW_NS 0x00020000
#define ENOUGH 20
#define MILLISECOND_NS 1000000L

static const char *told(long result)
{
	static const struct {
		int number;
		const char *name;
	} names[] = {{EPERM, "EPERM"},	 {EACCES, "EACCES"}, {ENOSYS, "ENOSYS"},
		     {EROFS, "EROFS"},	 {ENOENT, "ENOENT"}, {EINVAL, "EINVAL"},
		     {ENXIO, "ENXIO"},	 {ENODEV, "ENODEV"}, {EAFNOSUPPORT, "EAFNOSUPPORT"},
		     {EISDIR, "EISDIR"}, {EIO, "EIO"},	     {EBADF, "EBADF"},
		     {EFAULT, "EFAULT"}, {ELOOP, "ELOOP"},   {ENOTDIR, "ENOTDIR"}};
	if (result >= 0)
		return "allowed";
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (names[i].number == errno)
			return names[i].name;
	return strerror(errno);
}

static void say(const char *name, long result)
{
	printf("%s %s\n", name, told(result));
}

static long in_clone(unsigned long flags)
{
	long pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
	if (pid == 0)
		_exit(0);
	if (pid > 0)
		waitpid((pid_t)pid, NULL, 0);
	return pid;
}

/* Each call as a program without privileges or with Docker's would make it to get out. */
static int calls(void)
{
	char buffer[64] = {0};
	say("clone(NEWUSER)", in_clone(NEW_USER));
	say("clone(NEWNS)", in_clone(NEW_NS));
	say("clone(NEWNET)", in_clone(0x40000000));
	say("clone(NEWCGROUP)", in_clone(0x02000000));
	say("clone3", syscall(435, buffer, sizeof buffer));
	say("unshare(NEWUSER)", syscall(SYS_unshare, NEW_USER));
	say("unshare(NEWNS)", syscall(SYS_unshare, NEW_NS));
	say("setns", syscall(SYS_setns, open("/proc/1/ns/mnt", O_RDONLY), 0));
	say("keyctl", syscall(SYS_keyctl, 0, -3, 0, 0, 0));
	say("add_key", syscall(SYS_add_key, "user", "a", "b", 1, -3));
	say("request_key", syscall(SYS_request_key, "user", "a", NULL, -3));
	say("bpf", syscall(SYS_bpf, 0, buffer, sizeof buffer));
	say("perf_event_open", syscall(SYS_perf_event_open, buffer, 0, -1, -1, 0));
	say("userfaultfd", syscall(SYS_userfaultfd, 0));
	say("io_uring_setup", syscall(425, 1, buffer));
	say("io_uring_enter", syscall(426, 0, 0, 0, 0, 0, 0));
	say("io_uring_register", syscall(427, 0, 0, 0, 0));
	say("socket(VSOCK)", socket(40, SOCK_STREAM, 0));
	say("socket(ALG)", socket(38, SOCK_SEQPACKET, 0));
	say("socket(PACKET)", socket(17, SOCK_DGRAM, 0) < 0 ? -1 : 0);
	say("mount", mount("none", "/tmp", "tmpfs", 0, NULL));
	say("remount /", mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL));
	say("umount2", umount2("/proc/kcore", MNT_DETACH));
	say("pivot_root", syscall(SYS_pivot_root, "/tmp", "/tmp"));
	say("open_tree", syscall(428, AT_FDCWD, "/proc", 1));
	say("move_mount", syscall(429, -1, "", -1, "", 0));
	say("fsopen", syscall(430, "tmpfs", 0));
	say("fsconfig", syscall(431, -1, 0, 0, 0, 0));
	say("fsmount", syscall(432, -1, 0, 0));
	say("fspick", syscall(433, AT_FDCWD, "/", 0));
	say("mount_setattr", syscall(442, AT_FDCWD, "/", 0, buffer, 32));
	say("open_by_handle_at", syscall(SYS_open_by_handle_at, AT_FDCWD, buffer, O_RDONLY));
	say("kexec_load", syscall(SYS_kexec_load, 0, 0, NULL, 0));
	say("kexec_file_load", syscall(SYS_kexec_file_load, -1, -1, 0, NULL, 0));
	say("init_module", syscall(SYS_init_module, buffer, 0, ""));
	say("finit_module", syscall(SYS_finit_module, -1, "", 0));
	say("delete_module", syscall(SYS_delete_module, "none", 0));
	say("reboot", syscall(SYS_reboot, 0, 0, 0, NULL));
	say("swapon", syscall(SYS_swapon, "/tmp/none", 0));
	say("acct", syscall(SYS_acct, "/tmp/none"));
	say("quotactl", syscall(SYS_quotactl, 0, NULL, 0, NULL));
	say("iopl", syscall(SYS_iopl, 3));
	say("ioperm", syscall(SYS_ioperm, 0, 1, 1));
	say("settimeofday", syscall(SYS_settimeofday, NULL, NULL));
	say("syslog", syscall(SYS_syslog, 10, NULL, 0));
	say("sethostname", sethostname("h", 1));
	say("personality", syscall(SYS_personality, 0x0040000 | 0x8));
	say("number 900", syscall(900));
	return 0;
}

/* Every descriptor there is, with where it leads. */
static int descriptors(void)
{
	for (int fd = 0; fd < 4096; fd++) {
		char path[64], target[512];
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		ssize_t length = readlink(path, target, sizeof target - 1);
		if (length < 0)
			continue;
		target[length] = 0;
		char *number = strchr(target, '[');
		if (number != NULL)
			strcpy(number, "");
		printf("%d %s\n", fd, target);
	}
	return 0;
}

static int try_write(int count, char **paths)
{
	for (int i = 0; i < count; i++) {
		int fd = open(paths[i], O_WRONLY);
		long result = fd < 0 ? fd : write(fd, "1", 1);
		say(paths[i], result);
	}
	return 0;
}

static int try_read(int count, char **paths)
{
	for (int i = 0; i < count; i++) {
		char buffer[64];
		struct stat status;
		int fd = open(paths[i], O_RDONLY | O_NONBLOCK);
		if (fd >= 0 && fstat(fd, &status) == 0 && S_ISDIR(status.st_mode)) {
			int entries = 0;
			DIR *dir = fdopendir(fd);
			while (readdir(dir) != NULL)
				entries++;
			printf("%s %d entries\n", paths[i], entries - 2);
			continue;
		}
		long got = fd < 0 ? fd : read(fd, buffer, sizeof buffer);
		printf("%s %s\n", paths[i], got < 0 ? told(got) : got == 0 ? "empty" : "content");
	}
	return 0;
}

/* "c1:1" or "b8:0": made where nobody forbids that, and opened. */
static int devices(int count, char **names)
{
	for (int i = 0; i < count; i++) {
		unsigned one = 0, two = 0;
		sscanf(names[i] + 1, "%u:%u", &one, &two);
		unlink("/tmp/node");
		mode_t kind = names[i][0] == 'b' ? S_IFBLK : S_IFCHR;
		long made = mknod("/tmp/node", kind | 0666, makedev(one, two));
		if (made < 0) {
			printf("%s mknod %s\n", names[i], told(made));
			continue;
		}
		printf("%s %s", names[i], told(open("/tmp/node", O_RDONLY | O_NONBLOCK)));
		printf(" %s\n", told(open("/tmp/node", O_WRONLY | O_NONBLOCK)));
	}
	return 0;
}

static int is_own_kind(int pid, char target[512])
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/exe", pid);
	ssize_t length = readlink(path, target, 511);
	if (length < 0 && errno == ENOENT)
		return 1; /* it is gone, or a thread of the kernel */
	if (length < 0) {
		target[0] = '?';
		length = 1;
	}
	target[length] = 0;
	return strcmp(target, "/bin/prober") == 0;
}

static int open_any_way(const char *path, int only_to_write)
{
	int fd = open(path, O_RDWR | O_NONBLOCK);
	if (fd < 0)
		fd = open(path, O_WRONLY | O_NONBLOCK);
	return fd < 0 && !only_to_write ? open(path, O_RDONLY | O_NONBLOCK) : fd;
}

/* Opened, and not only because the process had become a program of the container by then. */
static int is_reached(int pid, int fd, const char *way)
{
	char target[512];
	struct stat root, own;
	if (way[0] == '!' || !is_own_kind(pid, target))
		return 1;
	return strcmp(way, "root") == 0 && fstat(fd, &root) == 0 && stat("/", &own) == 0 &&
	       (root.st_dev != own.st_dev || root.st_ino != own.st_ino);
}

static unsigned long long effective(int pid)
{
	char path[64], line[128];
	unsigned long long set = 0;
	snprintf(path, sizeof path, "/proc/%d/status", pid);
	FILE *file = fopen(path, "r");
	while (file != NULL && fgets(line, sizeof line, file) != NULL)
		sscanf(line, "CapEff: %llx", &set);
	if (file != NULL)
		fclose(file);
	return set;
}

/* Whether it may do, in this user namespace, what this program may not. */
static int has_more(int pid)
{
	char path[64], own[64], other[64];
	snprintf(path, sizeof path, "/proc/%d/ns/user", pid);
	ssize_t length = readlink("/proc/self/ns/user", own, sizeof own);
	unsigned long long more = effective(pid) & ~effective(getpid());
	return more != 0 && length > 0 && readlink(path, other, sizeof other) == length &&
	       memcmp(own, other, (size_t)length) == 0;
}

/*
 * Looks at every process that turns up in this pid namespace while the host puts programs into it.
 * Says which of `ways` below /proc/<pid> it could open of one that is not of its own kind; "+exe"
 * for writing only, "!root/path" for what is nowhere but on the host; "caps" is reached of one that
 * may do more than this program, as who may trace it then does.
 */
static int hunt(long milliseconds, int count, char **ways)
{
	struct timespec start, now;
	long looked = 0, others = 0, passed;
	clock_gettime(CLOCK_MONOTONIC, &start);
	printf("ready\n");
	fflush(stdout);
	do {
		DIR *dir = opendir("/proc");
		for (struct dirent *one; dir != NULL && (one = readdir(dir)) != NULL;) {
			char path[300], target[512];
			int pid = atoi(one->d_name);
			if (pid <= 0 || pid == getpid())
				continue;
			looked++;
			if (is_own_kind(pid, target))
				continue;
			others++;
			for (int i = 0; i < count; i++) {
				if (strcmp(ways[i], "caps") == 0) {
					if (has_more(pid))
						printf("reached caps of %s\n", target);
					continue;
				}
				int writes = ways[i][0] == '+';
				int skip = writes || ways[i][0] == '!';
				snprintf(path, sizeof path, "/proc/%d/%s", pid, ways[i] + skip);
				int fd = open_any_way(path, writes);
				if (fd >= 0 && is_reached(pid, fd, ways[i]))
					printf("reached %s of %s\n", ways[i], target);
				close(fd);
			}
		}
		if (dir != NULL)
			closedir(dir);
		clock_gettime(CLOCK_MONOTONIC, &now);
		passed = (now.tv_sec - start.tv_sec) * 1000 +
			 (now.tv_nsec - start.tv_nsec) / MILLISECOND_NS;
		/* Longer where the machine is so busy that there was nothing to see yet. */
	} while (passed < milliseconds || (others < ENOUGH && passed < 10 * milliseconds));
	fprintf(stderr, "looked %ld times\n", looked);
	printf("%ld foreign programs\n", others);
	return 0;
}

/* `path`, a directory, and a link to `target` change places for ever. */
static void swap(const char *path, const char *target)
{
	char other[300];
	snprintf(other, sizeof other, "%s.other", path);
	mkdir(path, 0755);
	unlink(other);
	if (symlink(target, other) < 0)
		say(other, -1);
	printf("ready\n");
	fflush(stdout);
	for (;;)
		syscall(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, other, 2);
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 65536);
	const char *command = argc > 1 ? argv[1] : "";
	if (strcmp(command, "calls") == 0)
		return calls();
	if (strcmp(command, "descriptors") == 0)
		return descriptors();
	if (strcmp(command, "write") == 0)
		return try_write(argc - 2, argv + 2);
	if (strcmp(command, "read") == 0)
		return try_read(argc - 2, argv + 2);
	if (strcmp(command, "devices") == 0)
		return devices(argc - 2, argv + 2);
	if (strcmp(command, "hunt") == 0 && argc > 2)
		return hunt(atol(argv[2]), argc - 3, argv + 3);
	if (strcmp(command, "swap") == 0 && argc > 3)
		swap(argv[2], argv[3]);
	if (strcmp(command, "where") == 0) {
		char path[4096];
		printf("%s\n", getcwd(path, sizeof path) != NULL ? path : told(-1));
		return 0;
	}
	fprintf(stderr, "prober: unknown command %s\n", command);
	return 2;
}
