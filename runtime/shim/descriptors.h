/*
 * Which descriptors a program's process has: standard input, output and errors, those preserved for
 * its program, and the launcher's few that it still needs. All others are really closed, at once
 * rather than on execution: the program's own path may lead through /proc/self/fd/<directory of the
 * host's>/.., and an init never executes anything.
 */
#ifndef TSSWARM_DESCRIPTORS_H
#define TSSWARM_DESCRIPTORS_H

#include "spec.h"

/* The launch specification and the control socket, or the caller's: for the launcher alone. */
#define SPEC_FD 3
#define CONTROL_FD 4
/* The launcher's own descriptors end here; preserved ones follow. */
#define PRESERVED_FD 6u
#define PRESERVED_MAX 1024u

/* In the launcher, before it opens anything: closes what was not meant for it. */
int descriptors_inherit(const struct spec *spec, struct failure *failure);
/* In the launcher: it needs the preserved ones no longer. */
void descriptors_release(const struct spec *spec);
/* Closes all from `from` on but `kept` (-1 for none). -1 and errno on failure. */
int descriptors_close_others(unsigned from, int *const kept[], size_t count);
/* The same of all but these, standard streams, and what is meant for the program of `spec`. */
int descriptors_keep(const struct spec *spec, int *const kept[], size_t count);
/*
 * In the process: the preserved ones become 3 and following, `kept` (each -1 or changed to where it
 * is now) are above, all else is closed.
 */
int descriptors_settle(const struct spec *spec, int *kept[], size_t count,
		       struct failure *failure);

#endif
