/*
 * The launch specification: a flat list of records, made by runtime/container/encode.ts and
 * described in protocol.md. It is read where it lies; nothing is copied. Order matters: mounts,
 * devices and links are made in the order given.
 */
#ifndef TSSWARM_SPEC_H
#define TSSWARM_SPEC_H

#include "util.h"

enum tag {
	TAG_ID = 1,
	TAG_EXEC_DIR = 2,
	TAG_LOG_DIR = 3,
	TAG_LOG_LIMITS = 4,
	TAG_SHIM_CGROUP = 5,
	TAG_CGROUP = 6,
	TAG_CGROUP_WRITE = 7,
	TAG_DEVICE_PROGRAM = 8,
	TAG_LOWER = 9,
	TAG_UPPER = 10,
	TAG_FLAGS = 11,
	TAG_MOUNT = 13,
	TAG_MASK = 14,
	TAG_READONLY = 15,
	TAG_DEVICE = 16,
	TAG_SYMLINK = 17,
	TAG_SYSCTL = 18,
	TAG_HOSTNAME = 19,
	TAG_ARG = 20,
	TAG_ENV = 21,
	TAG_CWD = 22,
	TAG_USER = 23,
	TAG_GROUP = 24,
	TAG_CAPS = 25,
	TAG_SECCOMP = 26,
	TAG_RLIMIT = 27,
	TAG_OOM_SCORE = 28,
	TAG_DRAIN = 29,
	TAG_DOMAIN = 30,
	TAG_TERMINAL = 31,
	TAG_NAMESPACE = 32,
	TAG_UID_MAP = 33,
	TAG_GID_MAP = 34,
	TAG_TIME_OFFSET = 35,
	TAG_ROOT = 36,
	TAG_ROOT_PROPAGATION = 37,
	TAG_MOUNT_MAP = 38,
	TAG_LAYER_MAP = 39,
	TAG_UMASK = 40,
	TAG_PERSONALITY = 41,
	TAG_SCHEDULER = 42,
	TAG_IO_PRIORITY = 43,
	TAG_HOOK = 44,
	TAG_HOOK_STATE = 45,
	TAG_LABEL = 46,
	TAG_LISTENER = 47,
	TAG_PRESERVED = 48,
	TAG_CONSOLE = 49,
	TAG_GATE = 50,
	TAG_MEMORY_POLICY = 51,
	TAG_CPU_AFFINITY = 52,
	TAG_EXEC_TARGET = 53,
	TAG_LAST = 53,
};

enum spec_flag {
	SPEC_READONLY_ROOT = 1,
	SPEC_NO_NEW_PRIVILEGES = 2,
	SPEC_TTY = 4,
	SPEC_STDIN = 16,      /* standard input stays open for clients; else it is /dev/null */
	SPEC_STDIN_ONCE = 32, /* and ends with the first client's */
	SPEC_INIT = 64,       /* a reaper as the first process */
	SPEC_HOLD = 512, /* only the file system, for as long as the daemon wants it */
	SPEC_PASS_STREAMS = 4096,   /* standard streams are the shim's own: no copy, no log */
	SPEC_NO_SUPERVISOR = 8192,  /* the shim ends once the program is made */
	SPEC_KEEP_KEYRING = 16384,
	SPEC_NO_PIVOT = 32768,      /* a moved mount and chroot: the host's root is a ramfs */
	SPEC_NUMERIC_USER = 65536,  /* user and groups are numbers: no account file is read */
};

enum cgroup_flag {
	CGROUP_V2 = 1,
	CGROUP_MEMORY = 2,
	CGROUP_FREEZER = 4,
};

enum mount_flag {
	MOUNT_BIND = 1,     /* else a new file system */
	MOUNT_FILE = 2,     /* a missing target is made as an empty file */
	MOUNT_TRUSTED = 4,  /* one of ours: the target's path may hold no symbolic link */
	MOUNT_OPTIONAL = 8, /* left out when the kernel has no such file system */
	MOUNT_PLAIN = 16,   /* a bind without the mounts below it */
	MOUNT_OWN_MAP = 128,  /* shown with other ids: the TAG_MOUNT_MAP records that follow */
	MOUNT_USER_MAP = 256, /* the same, the user namespace's */
	MOUNT_MAP_BELOW = 512, /* the mounts below it, too */
	MOUNT_COPY_UP = 1024, /* filled with what its target holds */
	MOUNT_REMOUNT = 2048, /* changes what is mounted there already */
	MOUNT_RESOLVED = 4096, /* no link may be on the way to a bind's source */
	MOUNT_COPYABLE = 8192, /* what is only read and cannot be shown mapped may be a copy */
};

#define READONLY_IN_PLACE 1 /* the path is a mount of its own */

struct spec {
	const uint8_t *data;
	size_t size;
	/* Where the first record of each tag begins, 0 = there is none, and where the last one ends. */
	uint32_t first[TAG_LAST + 1], end[TAG_LAST + 1];
};

struct record {
	unsigned tag;
	const uint8_t *data;
	size_t size;
};

/* Maps and checks the specification behind `fd`. */
int spec_open(struct spec *spec, int fd, struct failure *failure);
/* Gives it back: whatever was found in it is gone, and nothing is found from now on. */
void spec_close(struct spec *spec);
/* The first record from *at on (0 at first) with `tag`, 0 = any; false when there is none. */
int spec_next(const struct spec *spec, size_t *at, unsigned tag, struct record *record);
/* The last record of `tag`; false when there is none. */
int spec_last(const struct spec *spec, unsigned tag, struct record *last);
/* The last record of `tag`'s string, or `absent`. */
const char *spec_string(const struct spec *spec, unsigned tag, const char *absent);
uint32_t spec_u32(const struct spec *spec, unsigned tag, uint32_t absent);
/* How many records of `tag` there are. */
size_t spec_count(const struct spec *spec, unsigned tag);
/* The NUL-terminated string number `index` at offset `offset` of a record; NULL when not there. */
const char *record_string(const struct record *record, size_t offset, unsigned index);
/* The numbers at the head of a record; 0 when it is too short. */
uint32_t record_u32(const struct record *record, size_t offset);
uint64_t record_u64(const struct record *record, size_t offset);

#endif
