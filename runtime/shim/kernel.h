/*
 * Kernel interfaces newer than the C libraries this is built with: numbers, structures and thin
 * wrappers. Wrappers return what the system call returns (-1 and errno on failure).
 */
#ifndef TSSWARM_KERNEL_H
#define TSSWARM_KERNEL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* One table for all architectures since Linux 5.1. */
#define NR_pidfd_send_signal 424
#define NR_open_tree 428
#define NR_move_mount 429
#define NR_fsopen 430
#define NR_fsconfig 431
#define NR_fsmount 432
#define NR_fspick 433
#define NR_pidfd_open 434
#define NR_clone3 435
#define NR_close_range 436
#define NR_openat2 437
#define NR_pidfd_getfd 438
#define NR_mount_setattr 442

#define K_RESOLVE_NO_XDEV 0x01
#define K_RESOLVE_NO_MAGICLINKS 0x02
#define K_RESOLVE_NO_SYMLINKS 0x04
#define K_RESOLVE_BENEATH 0x08
#define K_RESOLVE_IN_ROOT 0x10

#define K_OPEN_TREE_CLONE 1
#define K_AT_RECURSIVE 0x8000
#define K_AT_EMPTY_PATH 0x1000
#define K_AT_SYMLINK_NOFOLLOW 0x100

#define K_MOVE_MOUNT_F_EMPTY_PATH 0x04
#define K_MOVE_MOUNT_T_EMPTY_PATH 0x40

#define K_FSOPEN_CLOEXEC 1
#define K_FSMOUNT_CLOEXEC 1
#define K_FSPICK_CLOEXEC 1
#define K_FSPICK_EMPTY_PATH 8
#define K_FSCONFIG_SET_FLAG 0
#define K_FSCONFIG_SET_STRING 1
#define K_FSCONFIG_CMD_CREATE 6
#define K_FSCONFIG_CMD_RECONFIGURE 7

#define K_MOUNT_ATTR_RDONLY 0x01
#define K_MOUNT_ATTR_ATIME 0x70 /* a field of several values */
#define K_MOUNT_ATTR_IDMAP 0x100000

#define K_CLONE_PIDFD 0x1000ULL
#define K_CLONE_INTO_CGROUP 0x200000000ULL
#define K_CLONE_NEWCGROUP 0x02000000
#define K_CLONE_NEWTIME 0x80

#define K_NS_GET_USERNS 0xb701
#define K_NS_GET_NSTYPE 0xb703

struct k_open_how {
	uint64_t flags, mode, resolve;
};

struct k_mount_attr {
	uint64_t attr_set, attr_clr, propagation, userns_fd;
};

struct k_clone_args {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
		set_tid_size, cgroup;
};

static inline int k_openat2(int dir, const char *path, uint64_t flags, uint64_t mode,
			    uint64_t resolve)
{
	struct k_open_how how = {flags, mode, resolve};
	return (int)syscall(NR_openat2, dir, path, &how, sizeof how);
}

static inline int k_open_tree(int dir, const char *path, unsigned flags)
{
	return (int)syscall(NR_open_tree, dir, path, flags);
}

/* Attaches the mount `from` on what `to` is open on. */
static inline int k_move_mount(int from, int to)
{
	return (int)syscall(NR_move_mount, from, "", to, "",
			    K_MOVE_MOUNT_F_EMPTY_PATH | K_MOVE_MOUNT_T_EMPTY_PATH);
}

static inline int k_fsopen(const char *type)
{
	return (int)syscall(NR_fsopen, type, K_FSOPEN_CLOEXEC);
}

static inline int k_fsconfig(int fs, unsigned command, const char *key, const char *value)
{
	return (int)syscall(NR_fsconfig, fs, command, key, value, 0);
}

static inline int k_fsmount(int fs, unsigned attributes)
{
	return (int)syscall(NR_fsmount, fs, K_FSMOUNT_CLOEXEC, attributes);
}

static inline int k_mount_setattr(int dir, const char *path, unsigned flags, uint64_t set,
				  uint64_t propagation)
{
	struct k_mount_attr attr = {.attr_set = set, .propagation = propagation};
	return (int)syscall(NR_mount_setattr, dir, path, flags, &attr, sizeof attr);
}

/* What takes more than attributes to set. */
static inline int k_mount_change(int mount, unsigned flags, struct k_mount_attr *attr)
{
	return (int)syscall(NR_mount_setattr, mount, "", K_AT_EMPTY_PATH | flags, attr,
			    sizeof *attr);
}

static inline int k_fspick(int mount)
{
	return (int)syscall(NR_fspick, mount, "", K_FSPICK_CLOEXEC | K_FSPICK_EMPTY_PATH);
}

static inline int k_close_range(unsigned first, unsigned last)
{
	return (int)syscall(NR_close_range, first, last, 0);
}

static inline int k_pidfd_send_signal(int pidfd, int signal)
{
	return (int)syscall(NR_pidfd_send_signal, pidfd, signal, NULL, 0);
}

/* Like fork, with clone3's arguments: 0 in the child, the pid in the parent. */
static inline pid_t k_clone3(struct k_clone_args *args)
{
	return (pid_t)syscall(NR_clone3, args, sizeof *args);
}

#endif
