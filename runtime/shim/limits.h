/*
 * Resource limits and the OOM score. The limits are set late, so that none of them hampers what is
 * yet to be done. In a user namespace nothing may be raised and no score written: that is done
 * before, with the host's rights. What the host forbids (no CAP_SYS_RESOURCE) is cut to what there
 * is, and told.
 */
#ifndef TSSWARM_LIMITS_H
#define TSSWARM_LIMITS_H

#include "spec.h"

/*
 * With the host's rights: hard limits that are too low (failing shows in limits_set), and the OOM
 * score. What was left out goes to `status` as a note.
 */
void limits_raise(const struct spec *spec, int status);
/* As the container's root, all but the number of files. What was cut goes to `status` as notes. */
int limits_set(const struct spec *spec, int status, struct failure *failure);
/* That one: when no more are opened before the program is executed. */
int limits_set_files(const struct spec *spec, int status, struct failure *failure);

#endif
