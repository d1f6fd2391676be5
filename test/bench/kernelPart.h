#ifndef TSSWARM_KERNEL_PART_H
#define TSSWARM_KERNEL_PART_H

/*
 * One run in `bundle`, which has upper and work; the exit code. `words`: the groups' parent, then
 * "<controllers>=<mount point>" of each hierarchy, without controllers for v2.
 */
int kernel_part(const char *bundle, const char *lower, const char *id, char **words);

#endif
