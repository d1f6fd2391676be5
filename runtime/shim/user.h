/*
 * Who the container runs as: Docker's "user[:group]" against the container's own /etc/passwd and
 * /etc/group, read after the root was changed, so no path can lead outside. The files are
 * untrusted: only regular files, bounded, lines that do not parse are passed over. With flag 65536
 * user and groups are numbers and stand as they are; only the home directory is looked up.
 */
#ifndef TSSWARM_USER_H
#define TSSWARM_USER_H

#include "spec.h"

#define USER_GROUPS_MAX 64
#define USER_HOME_MAX 256

struct user {
	uid_t uid;
	gid_t gid;
	size_t group_count;
	gid_t groups[USER_GROUPS_MAX];
	char home[USER_HOME_MAX];
};

/* Resolves TAG_USER and the TAG_GROUP records. Names that do not exist are a failure. */
int user_resolve(struct user *user, const struct spec *spec, struct failure *failure);

#endif
