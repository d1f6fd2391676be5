/*
 * Fills a new file system with what the directory it is to cover holds: files, directories, links,
 * devices, with owners, modes and times. Never follows a link, never leaves the directory.
 */
#ifndef TSSWARM_COPYUP_H
#define TSSWARM_COPYUP_H

/* `to` is a mounted root and stays as it is, `from` a directory (O_PATH does). -1 and errno. */
int copyup(int from, int to);

#endif
