/*
 * The program's AppArmor profile or SELinux label, for its execution. Written through a /proc of
 * our own, never the container's; refused by name where the kernel has no such module.
 */
#ifndef TSSWARM_LABEL_H
#define TSSWARM_LABEL_H

#include "spec.h"

/* While the host's file systems are still there. */
int label_set(const struct spec *spec, struct failure *failure);

#endif
