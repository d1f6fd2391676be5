/* Makes a program's terminal; see terminal.h. */
#include "terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel.h"
#include "status.h"

#define IOCTL_GET_PTY_PEER 0x5441 /* TIOCGPTPEER */

static const char MASTER_NAME[] = "/dev/ptmx"; /* what who receives it may call it */

static int set_size(int master, const struct spec *spec)
{
	struct record record;
	for (size_t at = 0; spec_next(spec, &at, TAG_TERMINAL, &record);) {
		struct winsize size = {.ws_row = (unsigned short)record_u32(&record, 0),
				       .ws_col = (unsigned short)record_u32(&record, 4)};
		if (ioctl(master, TIOCSWINSZ, &size) < 0)
			return -1;
	}
	return 0;
}

/* The file /dev/console, made or found; never through a link. */
static int open_console(int dev)
{
	struct stat status;
	int fd = openat(dev, "console", O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd >= 0 || errno != EEXIST)
		return fd;
	fd = openat(dev, "console", O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && (fstat(fd, &status) < 0 || S_ISLNK(status.st_mode))) {
		close_fd(&fd);
		errno = ELOOP;
	}
	return fd;
}

static int bind_console(int dev, int peer)
{
	int console = open_console(dev);
	int copy = k_open_tree(peer, "", K_OPEN_TREE_CLONE | K_AT_EMPTY_PATH | O_CLOEXEC);
	int result = console < 0 || copy < 0 ? -1 : k_move_mount(copy, console);
	int error = errno;
	close_fd(&console);
	close_fd(&copy);
	errno = error;
	return result;
}

int terminal_open(const struct spec *spec, int root, int status, int is_console,
		  struct failure *failure)
{
	int unlocked = 0, peer = -1;
	int has_socket = spec_count(spec, TAG_CONSOLE) > 0;
	int dev = k_openat2(root, "/dev", O_PATH | O_DIRECTORY | O_CLOEXEC, 0,
			    K_RESOLVE_IN_ROOT | K_RESOLVE_NO_SYMLINKS);
	int master = k_openat2(root, "/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC, 0,
			       K_RESOLVE_IN_ROOT | K_RESOLVE_NO_SYMLINKS);
	if (dev < 0 || master < 0 || ioctl(master, TIOCSPTLCK, &unlocked) < 0 ||
	    set_size(master, spec) < 0)
		goto failed;
	peer = ioctl(master, IOCTL_GET_PTY_PEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (peer < 0 || (is_console && bind_console(dev, peer) < 0))
		goto failed;
	if ((has_socket ? send_descriptor(CONSOLE_FD, master, MASTER_NAME, sizeof MASTER_NAME - 1)
			: status_send_terminal(status, master)) < 0)
		goto failed;
	goto out;
failed:
	fail(failure, errno, "cannot make the container's terminal");
	close_fd(&peer);
out:
	close_fd(&master);
	close_fd(&dev);
	return peer;
}
