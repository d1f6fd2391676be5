/*
 * Giving up what the container may not have: capabilities, the root user, system calls. The shim's
 * own bounding set is the upper limit: a capability this host does not have is never asked for.
 */
#ifndef TSSWARM_PRIVILEGE_H
#define TSSWARM_PRIVILEGE_H

#include "user.h"

/*
 * Bounding set, seccomp (unless no_new_privs does it later), groups, user, capabilities. A seccomp
 * listener goes out through the `attendant`.
 */
int privilege_drop(const struct spec *spec, const struct user *user, int attendant,
		   struct failure *failure);
/* Right before execve: seccomp where no_new_privs is set. */
int privilege_finish(const struct spec *spec, int attendant, struct failure *failure);
/* For an init, which executes nothing that would take them away: none but to signal others. */
int privilege_leave(void);

#endif
