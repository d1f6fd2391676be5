/*
 * The program inside the containers of the tests: static, several commands in one, each showing
 * one thing that a container has or lacks. Prints to standard output.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static volatile sig_atomic_t got_signal;

static void on_signal(int number)
{
	got_signal = number;
}

static int show(const char *path)
{
	char buffer[4096];
	int fd = open(path, O_RDONLY);
	if (fd < 0) {
		printf("%s: %s\n", path, strerror(errno));
		return 1;
	}
	ssize_t got;
	while ((got = read(fd, buffer, sizeof buffer)) > 0)
		fwrite(buffer, 1, (size_t)got, stdout);
	close(fd);
	return 0;
}

static int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0 || write(fd, text, strlen(text)) < 0) {
		printf("%s: %s\n", path, strerror(errno));
		return 1;
	}
	close(fd);
	return 0;
}

/* Lines of `width` letters, numbered, as fast as they go. */
static int lines(int count, int width)
{
	char *line = malloc((size_t)width + 32);
	for (int i = 0; i < count; i++) {
		int used = sprintf(line, "%08d ", i);
		memset(line + used, 'a' + i % 26, (size_t)width);
		line[used + width] = '\n';
		if (fwrite(line, 1, (size_t)(used + width + 1), stdout) == 0)
			return 1;
	}
	return 0;
}

/* Megabytes of lines of so many bytes, in large writes, as fast as they are taken. */
static int flood(int megabytes, int width)
{
	static char block[1 << 16];
	size_t used = sizeof block / (size_t)width * (size_t)width;
	for (size_t i = 0; i < used; i++)
		block[i] = (i + 1) % (size_t)width == 0 ? '\n' : (char)('a' + i % 26);
	for (long long left = megabytes * 1000000LL; left > 0;) {
		ssize_t wrote = write(1, block, left < (long long)used ? (size_t)left : used);
		if (wrote < 0)
			return 1;
		left -= wrote;
	}
	return 0;
}

static int fork_many(int count)
{
	int made = 0;
	for (; made < count; made++) {
		pid_t pid = fork();
		if (pid < 0)
			break;
		if (pid == 0) {
			pause();
			_exit(0);
		}
	}
	printf("%d of %d %s\n", made, count, made < count ? strerror(errno) : "");
	return 0;
}

static int allocate(size_t megabytes)
{
	for (size_t i = 0; i < megabytes; i++) {
		char *block = malloc(1 << 20);
		if (block == NULL)
			return 3;
		memset(block, (int)i, 1 << 20);
	}
	printf("allocated %zu MiB\n", megabytes);
	return 0;
}

static int call_refused(const char *name)
{
	long result = 0;
	if (strcmp(name, "keyctl") == 0)
		result = syscall(SYS_keyctl, 0, 0, 0, 0, 0);
	else if (strcmp(name, "mount") == 0)
		result = mount("none", "/tmp", "tmpfs", 0, NULL);
	else if (strcmp(name, "unshare") == 0)
		result = syscall(SYS_unshare, 0x10000000);
	else if (strcmp(name, "clone3") == 0)
		result = syscall(435, 0, 0);
	else if (strcmp(name, "young") == 0)
		result = syscall(900);
	else if (strcmp(name, "alg") == 0)
		result = socket(38, SOCK_SEQPACKET, 0);
	else if (strcmp(name, "inet") == 0)
		result = socket(AF_INET, SOCK_STREAM, 0);
	printf("%s: %s\n", name, result < 0 ? strerror(errno) : "allowed");
	return 0;
}

static int device(const char *path)
{
	struct stat status;
	int fd = open(path, O_RDWR);
	if (stat(path, &status) < 0) {
		printf("%s: %s\n", path, strerror(errno));
		return 0;
	}
	printf("%s %s %u:%u %o %s\n", path, S_ISCHR(status.st_mode) ? "char" : "other",
	       major(status.st_rdev), minor(status.st_rdev), status.st_mode & 07777,
	       fd >= 0 ? "opens" : strerror(errno));
	return 0;
}

static int make_device(unsigned major_number, unsigned minor_number)
{
	int made = mknod("/tmp/device", S_IFCHR | 0666, makedev(major_number, minor_number));
	int fd = made < 0 ? -1 : open("/tmp/device", O_RDWR);
	printf("mknod %s open %s\n", made < 0 ? strerror(errno) : "done",
	       fd < 0 ? strerror(errno) : "done");
	return 0;
}

/* "<mode> <uid>:<gid> <path>" of each, links not followed. */
static int show_owner(const char *path)
{
	struct stat status;
	if (lstat(path, &status) < 0)
		printf("%s: %s\n", path, strerror(errno));
	else
		printf("%o %u:%u %s\n", status.st_mode & 07777, status.st_uid, status.st_gid, path);
	return 0;
}

/* The clocks' seconds, and the host name's change. */
static int show_clocks(void)
{
	struct timespec monotonic, boot;
	clock_gettime(CLOCK_MONOTONIC, &monotonic);
	clock_gettime(CLOCK_BOOTTIME, &boot);
	printf("monotonic %lld boottime %lld\n", (long long)monotonic.tv_sec,
	       (long long)boot.tv_sec);
	return 0;
}

static long now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000L + now.tv_nsec / 1000000L;
}

/* Uses a processor for so long, as far as it gets one. */
static int spin(long ms)
{
	volatile unsigned long work = 0;
	printf("ready\n");
	for (long end = now_ms() + ms; ms == 0 || now_ms() < end;)
		for (int i = 0; i < 100000; i++)
			work++;
	return 0;
}

/* Past the page cache, in blocks of 16 KiB. */
static int move_blocks(const char *path, int kilobytes, int is_write)
{
	enum { BLOCK = 16384 };
	void *block = NULL;
	int fd = open(path, O_DIRECT | (is_write ? O_WRONLY : O_RDONLY));
	if (fd < 0 || posix_memalign(&block, 4096, BLOCK) != 0) {
		printf("%s: %s\n", path, strerror(errno));
		return 1;
	}
	memset(block, 0, BLOCK);
	long start = now_ms();
	for (int done = 0; done < kilobytes; done += BLOCK / 1024) {
		ssize_t moved = is_write ? write(fd, block, BLOCK) : read(fd, block, BLOCK);
		if (moved != BLOCK) {
			printf("%s: %s\n", path, strerror(errno));
			return 1;
		}
	}
	printf("%d KiB in %ld ms\n", kilobytes, now_ms() - start);
	close(fd);
	return 0;
}

/* Makes a file of so many MiB, as far as it gets. */
static int spend(const char *path, int mebibytes)
{
	static char block[1 << 20];
	memset(block, 'x', sizeof block);
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0644);
	long wanted = (long)mebibytes << 20, done = 0;
	while (fd >= 0 && done < wanted) {
		size_t left = sizeof block - (size_t)done % sizeof block;
		ssize_t written = write(fd, block, left);
		if (written < 0)
			break;
		done += written;
	}
	const char *error = done < wanted ? strerror(errno) : NULL;
	printf("%ld MiB%s%s\n", done >> 20, error ? ", then " : "", error ? error : "");
	return error != NULL;
}

/* Of 2 MiB each. */
static int huge_pages(int count)
{
	size_t size = (size_t)count << 21;
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	printf("%d huge pages: %s\n", count,
	       memory == MAP_FAILED ? strerror(errno) : "mapped");
	return 0;
}

static int wait_for_signal(int number)
{
	struct sigaction action = {.sa_handler = on_signal};
	sigaction(number, &action, NULL);
	printf("ready\n");
	while (got_signal == 0)
		pause();
	printf("signal %d\n", (int)got_signal);
	return 42;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 65536);
	const char *command = argc > 1 ? argv[1] : "";
	int number = argc > 2 ? atoi(argv[2]) : 0;
	if (strcmp(command, "mark") == 0 && argc > 3) {
		/* One more byte in a file for each time this runs; then the command that follows. */
		int fd = open(argv[2], O_WRONLY | O_CREAT | O_APPEND, 0644);
		if (fd < 0 || write(fd, "x", 1) != 1)
			printf("%s: %s\n", argv[2], strerror(errno));
		close(fd);
		return main(argc - 2, argv + 2);
	}
	if (strcmp(command, "echo") == 0) {
		for (int i = 2; i < argc; i++)
			printf("%s%s", i > 2 ? " " : "", argv[i]);
		printf("\n");
		return 0;
	}
	if (strcmp(command, "exit") == 0)
		return number;
	if (strcmp(command, "sleep") == 0) {
		sleep((unsigned)number);
		return 0;
	}
	if (strcmp(command, "env") == 0) {
		for (char **one = environ; *one != NULL; one++)
			printf("%s\n", *one);
		return 0;
	}
	if (strcmp(command, "whoami") == 0) {
		char where[4096], host[256];
		gid_t groups[64];
		int count = getgroups(64, groups);
		gethostname(host, sizeof host);
		printf("uid=%u gid=%u cwd=%s host=%s pid=%d groups=", getuid(), getgid(),
		       getcwd(where, sizeof where), host, getpid());
		for (int i = 0; i < count; i++)
			printf("%s%u", i > 0 ? "," : "", groups[i]);
		printf("\n");
		return 0;
	}
	if (strcmp(command, "cat") == 0) {
		int failed = 0;
		for (int i = 2; i < argc; i++)
			failed |= show(argv[i]);
		return failed;
	}
	if (strcmp(command, "write") == 0 && argc > 3)
		return put(argv[2], argv[3]);
	if (strcmp(command, "stderr") == 0) {
		for (int i = 2; i < argc; i++)
			fprintf(stderr, "%s\n", argv[i]);
		return 0;
	}
	if (strcmp(command, "lines") == 0)
		return lines(number, argc > 3 ? atoi(argv[3]) : 50);
	if (strcmp(command, "flood") == 0)
		return flood(number, argc > 3 ? atoi(argv[3]) : 100);
	if (strcmp(command, "ticks") == 0) {
		int pause_ms = argc > 3 ? atoi(argv[3]) : 10;
		for (int i = 0; number == 0 || i < number; i++) {
			struct timespec pause_for = {pause_ms / 1000, pause_ms % 1000 * 1000000};
			printf("tick %d\n", i);
			nanosleep(&pause_for, NULL);
		}
		return 0;
	}
	if (strcmp(command, "allocate") == 0)
		return allocate((size_t)number);
	if (strcmp(command, "forks") == 0)
		return fork_many(number);
	if (strcmp(command, "signal") == 0)
		return wait_for_signal(number);
	if (strcmp(command, "stubborn") == 0) {
		signal(SIGTERM, SIG_IGN);
		printf("ready\n");
		for (;;)
			pause();
	}
	if (strcmp(command, "call") == 0) {
		for (int i = 2; i < argc; i++)
			call_refused(argv[i]);
		return 0;
	}
	if (strcmp(command, "device") == 0) {
		for (int i = 2; i < argc; i++)
			device(argv[i]);
		return 0;
	}
	if (strcmp(command, "mknod") == 0 && argc > 3)
		return make_device((unsigned)number, (unsigned)atoi(argv[3]));
	if (strcmp(command, "orphan") == 0) {
		/* A child keeps standard output open after its parent has ended. */
		if (fork() == 0)
			for (;;)
				pause();
		printf("parent ends\n");
		return 0;
	}
	if (strcmp(command, "descriptors") == 0) {
		for (int fd = 0; fd < 1024; fd++)
			if (fcntl(fd, F_GETFD) >= 0)
				printf("%d ", fd);
		printf("\n");
		return 0;
	}
	if (strcmp(command, "copy") == 0) {
		char buffer[4096];
		ssize_t got;
		while ((got = read(0, buffer, sizeof buffer)) > 0)
			(void)write(1, buffer, (size_t)got);
		printf("end of input\n");
		return number;
	}
	if (strcmp(command, "size") == 0) {
		struct winsize size = {0}, before = {0};
		if (number == 0 && ioctl(0, TIOCGWINSZ, &size) == 0) /* as it is at first */
			printf("%d rows %d columns\n", size.ws_row, size.ws_col);
		for (int i = 0; i < number; i++) {
			while (memcmp(&size, &before, sizeof size) == 0) {
				usleep(2000);
				ioctl(0, TIOCGWINSZ, &size);
			}
			before = size;
			printf("%d rows %d columns\n", size.ws_row, size.ws_col);
		}
		return 0;
	}
	if (strcmp(command, "swap") == 0) {
		/* A directory and a link to / change places as fast as they can. */
		mkdir("/tmp/a", 0755);
		mkdir("/tmp/a/in", 0755);
		(void)symlink("/", "/tmp/b");
		printf("ready\n");
		for (;;)
			syscall(SYS_renameat2, AT_FDCWD, "/tmp/a", AT_FDCWD, "/tmp/b", 2);
	}
	if (strcmp(command, "limit") == 0) {
		struct rlimit limit;
		getrlimit(number, &limit);
		printf("%llu %llu\n", (unsigned long long)limit.rlim_cur,
		       (unsigned long long)limit.rlim_max);
		return 0;
	}
	if (strcmp(command, "daemon") == 0) {
		/* An orphan that outlives its parent by a moment: somebody has to reap it. */
		if (fork() == 0) {
			if (fork() == 0) {
				usleep(50000);
				_exit(0);
			}
			_exit(0);
		}
		wait(NULL);
		printf("ready %d\n", getpid());
		for (;;)
			pause();
	}
	if (strcmp(command, "stat") == 0) {
		for (int i = 2; i < argc; i++)
			show_owner(argv[i]);
		return 0;
	}
	if (strcmp(command, "chown") == 0 && argc > 4) {
		if (chown(argv[2], (uid_t)atoi(argv[3]), (gid_t)atoi(argv[4])) < 0)
			printf("%s: %s\n", argv[2], strerror(errno));
		return show_owner(argv[2]);
	}
	if (strcmp(command, "clocks") == 0)
		return show_clocks();
	if (strcmp(command, "spin") == 0)
		return spin(number);
	if (strcmp(command, "huge") == 0)
		return huge_pages(number);
	if ((strcmp(command, "read") == 0 || strcmp(command, "fill") == 0) && argc > 3)
		return move_blocks(argv[2], atoi(argv[3]), command[0] == 'f');
	if (strcmp(command, "spend") == 0 && argc > 3)
		return spend(argv[2], atoi(argv[3]));
	if (strcmp(command, "tty") == 0) {
		printf("%s %s\n", isatty(0) && isatty(1) && isatty(2) ? "terminal" : "none",
		       ttyname(1) != NULL ? ttyname(1) : "-");
		return 0;
	}
	fprintf(stderr, "probe: unknown command %s\n", command);
	return 2;
}
