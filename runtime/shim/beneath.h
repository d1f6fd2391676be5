/*
 * Paths inside the container's root, opened by openat2 so that nothing in the image leads out of
 * it: what is asked for ends below `root` whatever links are on the way. Nothing is mounted here.
 */
#ifndef TSSWARM_BENEATH_H
#define TSSWARM_BENEATH_H

#include <stdint.h>

#include "kernel.h"

/* Links on the way lead where they lead inside. */
#define IN_ROOT ((uint64_t)(K_RESOLVE_IN_ROOT | K_RESOLVE_NO_MAGICLINKS))
/* There may be none on the way. */
#define IN_ROOT_PLAIN ((uint64_t)(K_RESOLVE_IN_ROOT | K_RESOLVE_NO_SYMLINKS))

/* Opens `path` as a directory, making what is missing. -1 and errno, as all of these. */
int beneath_directory(int root, const char *path, uint64_t resolve);
/* Opens what is to be mounted on, a directory or (as_file) a file, making it if missing. */
int beneath_target(int root, const char *path, int as_file, uint64_t resolve);

/*
 * For what is ours, one after the other in the same directory, without links on the way: the
 * directory that holds `path`, which stays open for the next one and is not the caller's to close.
 * Whatever mounts elsewhere than in it has it forgotten, since it might cover it.
 */
int beneath_place(int root, const char *path, const char **name);
/* A directory in it, made if missing, to mount on; the caller's. */
int beneath_mount_point(int root, const char *path);
void beneath_forget(void);

#endif
