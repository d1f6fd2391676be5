/*
 * Programs that the specification has run at certain moments of a container's making. What a hook
 * reads on its standard input is the container's state; it has the arguments and variables it was
 * given and nothing else, its output only serves to say why it failed.
 */
#ifndef TSSWARM_HOOKS_H
#define TSSWARM_HOOKS_H

#include "spec.h"

enum hook_stage {
	HOOK_PRESTART = 0,
	HOOK_CREATE_RUNTIME = 1,   /* in the launcher's namespaces, before the root is changed */
	HOOK_CREATE_CONTAINER = 2, /* in the container's, before the root is changed */
	HOOK_START_CONTAINER = 3,  /* in the container, before its program is executed */
	HOOK_POSTSTART = 4,        /* in the launcher's, after it */
};

/* Whether there is any of `stage`. */
int hooks_has(const struct spec *spec, enum hook_stage stage);
/*
 * Runs all of `stage`, one after the other; the first that fails is the failure. `pid` is the
 * container's first process as the hooks see it. `watched`: a pidfd whose end ends the hook, or -1.
 */
int hooks_run(const struct spec *spec, enum hook_stage stage, const char *status, pid_t pid,
	      int watched, struct failure *failure);

#endif
