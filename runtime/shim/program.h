/*
 * The program itself: its arguments and variables as the specification lists them, where it is
 * found, and its execution.
 */
#ifndef TSSWARM_PROGRAM_H
#define TSSWARM_PROGRAM_H

#include "spec.h"

/* Default actions, nothing blocked: as a program expects it. */
void program_reset_signals(void);
/* The strings of all records of `tag`, with one free place and a NULL behind them; or NULL. */
char **program_list(const struct spec *spec, unsigned tag);
/* What follows "name=", or NULL. */
const char *program_variable(char **env, const char *name);
/* Whether it can be executed, as far as can be told before: for a failure in good time. */
int program_check(char **args, char **env, struct failure *failure);
/* execvp over the container's PATH. Returns only when nothing could be executed. */
int program_execute(char **args, char **env, struct failure *failure);

#endif
