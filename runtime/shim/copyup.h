/*
 * Fills a new file system with what the directory it is to cover holds: files, directories, links,
 * devices, with owners, modes and times. Never follows a link, never leaves the directory.
 */
#ifndef TSSWARM_COPYUP_H
#define TSSWARM_COPYUP_H

#include "spec.h"

/* `to` is a mounted root and stays as it is, `from` a directory (O_PATH does). -1 and errno. */
int copyup(int from, int to);
/*
 * A detached copy of the file or directory `source` is open on, in memory, with the owners that the
 * container's user namespace makes of them: for a file system that cannot be shown mapped (tmpfs
 * before Linux 6.3). In a private mount namespace, with the host's rights. -1 and errno.
 */
int copyup_shifted(const struct spec *spec, int source);

#endif
