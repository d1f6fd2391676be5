/*
 * All of the shim that walks a specification's records, over records of any content, with the
 * kernel played: calls succeed with descriptors of /dev/null or fail by chance, drawn from the
 * input. Each input has a process of its own, without privileges and in namespaces of its own, so
 * that a call which is not played harms nobody.
 */
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../runtime/shim/attendant.h"
#include "../../../runtime/shim/cgroup.h"
#include "../../../runtime/shim/devices.h"
#include "../../../runtime/shim/gate.h"
#include "../../../runtime/shim/hooks.h"
#include "../../../runtime/shim/idmap.h"
#include "../../../runtime/shim/label.h"
#include "../../../runtime/shim/layers.h"
#include "../../../runtime/shim/limits.h"
#include "../../../runtime/shim/mounts.h"
#include "../../../runtime/shim/namespaces.h"
#include "../../../runtime/shim/privilege.h"
#include "../../../runtime/shim/rootfs.h"
#include "../../../runtime/shim/scheduling.h"
#include "../../../runtime/shim/target.h"
#include "../../../runtime/shim/user.h"

#define CHILD_SECONDS 8
#define LOWEST_FAKE_FD 100

static int is_played, null_fd = -1;
static uint64_t state;
static jmp_buf ended;

static int refuse(void)
{
	static const int errors[] = {EPERM, ENOENT, EINVAL, ENOSYS, EACCES, EEXIST, ELOOP, ENOTDIR};
	state = state * 6364136223846793005ULL + 1442695040888963407ULL;
	if ((state >> 33) % 40 != 0)
		return 0;
	errno = errors[(state >> 40) % 8];
	return 1;
}

static int fake_fd(void)
{
	return refuse() ? -1 : fcntl(null_fd, F_DUPFD_CLOEXEC, LOWEST_FAKE_FD);
}

/* Plays `name` when it is the shim's, else calls it. */
#define PLAY(type, name, parameters, arguments, answer)                                            \
	type __real_##name parameters;                                                             \
	type __wrap_##name parameters;                                                             \
	type __wrap_##name parameters                                                              \
	{                                                                                          \
		return is_played ? (answer) : __real_##name arguments;                             \
	}
#define RESULT (refuse() ? -1 : 0)

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
	return is_played ? fake_fd() : __real_open(path, flags, 0644);
}

int __real_openat(int dir, const char *path, int flags, ...);
int __wrap_openat(int dir, const char *path, int flags, ...);
int __wrap_openat(int dir, const char *path, int flags, ...)
{
	return is_played ? fake_fd() : __real_openat(dir, path, flags, 0644);
}

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
	va_list list;
	long one[6];
	va_start(list, number);
	for (int i = 0; i < 6; i++)
		one[i] = va_arg(list, long);
	va_end(list);
	return is_played ? fake_fd()
			 : __real_syscall(number, one[0], one[1], one[2], one[3], one[4], one[5]);
}

PLAY(int, mount, (const char *a, const char *b, const char *c, unsigned long d, const void *e),
     (a, b, c, d, e), RESULT)
PLAY(int, umount2, (const char *a, int b), (a, b), RESULT)
PLAY(int, mkdirat, (int a, const char *b, mode_t c), (a, b, c), RESULT)
PLAY(int, mkdir, (const char *a, mode_t b), (a, b), RESULT)
PLAY(int, symlinkat, (const char *a, int b, const char *c), (a, b, c), RESULT)
PLAY(int, mknodat, (int a, const char *b, mode_t c, dev_t d), (a, b, c, d), RESULT)
PLAY(int, fchownat, (int a, const char *b, uid_t c, gid_t d, int e), (a, b, c, d, e), RESULT)
PLAY(int, fchmodat, (int a, const char *b, mode_t c, int d), (a, b, c, d), RESULT)
PLAY(int, unlinkat, (int a, const char *b, int c), (a, b, c), RESULT)
PLAY(int, renameat, (int a, const char *b, int c, const char *d), (a, b, c, d), RESULT)
PLAY(int, setns, (int a, int b), (a, b), RESULT)
PLAY(int, unshare, (int a), (a), RESULT)
PLAY(int, chroot, (const char *a), (a), RESULT)
PLAY(int, chdir, (const char *a), (a), RESULT)
PLAY(int, fchdir, (int a), (a), RESULT)
PLAY(int, fork, (void), (), (errno = EAGAIN, -1))
PLAY(int, execve, (const char *a, char *const b[], char *const c[]), (a, b, c),
     (errno = ENOENT, -1))
PLAY(int, kill, (pid_t a, int b), (a, b), RESULT)
PLAY(int, sethostname, (const char *a, size_t b), (a, b), RESULT)
PLAY(int, setdomainname, (const char *a, size_t b), (a, b), RESULT)
PLAY(int, setrlimit, (int a, const struct rlimit *b), (a, b), RESULT)
PLAY(int, setgroups, (size_t a, const gid_t *b), (a, b), RESULT)
PLAY(int, setresuid, (uid_t a, uid_t b, uid_t c), (a, b, c), RESULT)
PLAY(int, setresgid, (gid_t a, gid_t b, gid_t c), (a, b, c), RESULT)
PLAY(int, personality, (unsigned long a), (a), RESULT)
PLAY(int, dup2, (int a, int b), (a, b), b)
PLAY(int, close, (int a), (a), a < LOWEST_FAKE_FD ? 0 : __real_close(a))
PLAY(pid_t, waitpid, (pid_t a, int *b, int c), (a, b, c), (errno = ECHILD, -1))
PLAY(int, waitid, (idtype_t a, id_t b, siginfo_t *c, int d), (a, b, c, d), (errno = ECHILD, -1))

int __real_prctl(int option, ...);
int __wrap_prctl(int option, ...);
int __wrap_prctl(int option, ...)
{
	va_list list;
	unsigned long one[4];
	va_start(list, option);
	for (int i = 0; i < 4; i++)
		one[i] = va_arg(list, unsigned long);
	va_end(list);
	if (!is_played)
		return __real_prctl(option, one[0], one[1], one[2], one[3]);
	return option == PR_CAPBSET_READ ? (one[0] > 40 ? -1 : 1) : RESULT;
}

void __real__exit(int code) __attribute__((noreturn));
void __wrap__exit(int code) __attribute__((noreturn));
void __wrap__exit(int code)
{
	if (is_played)
		longjmp(ended, 1);
	__real__exit(code);
}

static void walk(const struct spec *spec)
{
	static struct idmap maps[3];
	static struct user user;
	static struct cgroups groups = {.v2 = -1, .memory = -1, .freezer = -1};
	struct failure failure = {0};
	struct namespaces namespaces = {0};
	uid_t uid;
	gid_t gid;
	int fd = -1;
	(void)idmap_read(&maps[0], spec, TAG_MOUNT_MAP, &failure);
	(void)idmap_read(&maps[1], spec, TAG_LAYER_MAP, &failure);
	(void)idmap_read_own(&maps[2], spec, &failure);
	(void)idmap_root(spec, &uid, &gid);
	(void)attendant_wanted(spec);
	for (int stage = 0; stage < 5; stage++)
		if (hooks_has(spec, (enum hook_stage)stage))
			(void)hooks_run(spec, (enum hook_stage)stage, "created", 1, -1, &failure);
	if (namespaces_open(&namespaces, spec, &failure) == 0) {
		(void)namespaces_staged(&namespaces);
		(void)namespaces_join(&namespaces, ~0u, &failure);
		namespaces_close(&namespaces);
	}
	(void)cgroups_create(&groups, spec, &failure);
	(void)cgroups_open(&groups, spec, &failure);
	(void)mounts_open_early(spec, -1, &failure);
	(void)devices_open_as_host(spec, &failure);
	int root = rootfs_build(spec, &failure);
	if (root >= 0) {
		(void)rootfs_sysctls(spec, SYSCTLS_ALL, &failure);
		(void)rootfs_seal(spec, root, &failure);
		(void)rootfs_enter(spec, root, &failure);
	}
	limits_raise(spec, null_fd);
	(void)limits_set(spec, null_fd, &failure);
	(void)limits_set_files(spec, null_fd, &failure);
	(void)scheduling_place(spec, AFFINITY_INITIAL, &failure);
	(void)scheduling_set(spec, &failure);
	(void)label_set(spec, &failure);
	(void)gate_open(spec, &fd, &failure);
	(void)target_open(spec, &fd, &failure);
	if (user_resolve(&user, spec, &failure) == 0) {
		(void)privilege_drop(spec, &user, -1, &failure);
		(void)privilege_finish(spec, -1, &failure);
	}
	MUST(memchr(failure.text, 0, sizeof failure.text) != NULL);
}

/* Nothing that could reach the machine, were a call not played. */
static void give_up_rights(void)
{
	struct {
		uint32_t version;
		int pid;
	} header = {0x20080522, 0};
	uint32_t none[6] = {0};
	alarm(CHILD_SECONDS);
	(void)unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS); /* if it may */
	MUST(syscall(SYS_capset, &header, none) == 0);
	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
}

static void run_one(const uint8_t *data, size_t size)
{
	struct spec spec = {.data = NULL};
	struct failure failure = {0};
	int fd = memfd_create("fuzz-spec", MFD_CLOEXEC);
	MUST(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	give_up_rights();
	if (spec_open(&spec, fd, &failure) < 0)
		return;
	for (size_t i = 0; i < size; i++)
		state = state * 31 + data[i];
	is_played = 1;
	if (setjmp(ended) == 0)
		walk(&spec);
	is_played = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int status = 0;
	if (null_fd < 0)
		null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	pid_t pid = fork();
	MUST(pid >= 0);
	if (pid == 0) {
		run_one(data, size);
		_exit(0);
	}
	MUST(waitpid(pid, &status, 0) == pid);
	MUST(status == 0);
	return 0;
}
