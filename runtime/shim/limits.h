/*
 * Resource limits and the OOM score. The process sets its own limits late, so that none of them
 * hampers what the launcher has to do. In a user namespace of its own it may raise nothing and not
 * write its score; so the launcher does that for it. What the host forbids (no CAP_SYS_RESOURCE) is
 * cut to what there is, and told.
 */
#ifndef TSSWARM_LIMITS_H
#define TSSWARM_LIMITS_H

#include "spec.h"

/* By the launcher, right after the clone: what only it may. Failing shows in limits_set. */
void limits_raise(const struct spec *spec, pid_t pid);
/* By the process, as root. What was cut goes to `status` as notes. */
int limits_set(const struct spec *spec, int status, struct failure *failure);

#endif
