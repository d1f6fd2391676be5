/*
 * New file systems, made by descriptor and attached nowhere, so that nothing in an image can cover
 * them or be covered by them.
 */
#ifndef TSSWARM_NEWFS_H
#define TSSWARM_NEWFS_H

#include "kernel.h"
#include "spec.h"

/* For what is opened in a procfs of our own. */
#define PROC_PLAIN                                                                                 \
	((uint64_t)(K_RESOLVE_BENEATH | K_RESOLVE_NO_XDEV | K_RESOLVE_NO_MAGICLINKS |              \
		    K_RESOLVE_NO_SYMLINKS))

struct newfs {
	const char *type, *source; /* source: only for show, or "" */
	struct k_mount_attr own;
};

/* A mount's record: target, source, type; and its options. NULL when there are no more. */
const char *mount_string(const struct record *record, unsigned index);
const char *mount_option(const struct record *record, unsigned index);

/* With the record's options. `place`: a directory in a namespace of ours. -1 and errno. */
int newfs_open(const struct newfs *asked, const struct record *record, const char *place);
/* One option, `key=value` or `flag`, of what is made or changed. -1 and errno. */
int newfs_option(int fs, const char *option);
/* A procfs of this process's: of the pid namespace it is in, or was in when one was kept. */
int newfs_proc(struct failure *failure);
/* Keeps one for later, when this process may make none any more. */
int newfs_keep_proc(struct failure *failure);
/* Those that are mounted from now on are of the pid namespace `pids`, somebody else's. */
void newfs_use_pids(int pids);
int newfs_has_foreign_pids(void);
/* Makes `root`, attached in a mount namespace of ours, the root, and lets go of the old one. */
int newfs_enter(int root, struct failure *failure);
/* An empty tmpfs with one option; -1 and errno. */
int newfs_tmpfs(const char *key, const char *value, unsigned attributes);

#endif
