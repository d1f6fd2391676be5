/* Moves a root over the host's; see moveroot.h. */
#include "moveroot.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "kernel.h"

#define MOUNTS_MAX_BYTES (1u << 20)
#define MOUNT_POINT_FIELD 5

/* Field `number` of a line that is cut there; spaces in it are written "\040". */
static char *field_of(char *line, int number)
{
	char *end;
	for (; number > 1 && line != NULL; number--)
		line = (line = strchr(line, ' ')) == NULL ? NULL : line + 1;
	if (line == NULL || (end = strchr(line, ' ')) == NULL)
		return NULL;
	*end = 0;
	char *to = line;
	for (const char *from = line; *from != 0; to++) {
		int is_code = from[0] == '\\' && from[1] != 0 && from[2] != 0 && from[3] != 0;
		*to = is_code ? (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + from[3] - '0')
			      : *from;
		from += is_code ? 4 : 1;
	}
	*to = 0;
	return line;
}

static int is_below(const char *path, const char *place)
{
	size_t length = strlen(place);
	return strncmp(path, place, length) == 0 && (path[length] == 0 || path[length] == '/');
}

/* Gone, or covered where it may not go. */
static int hide(const char *path, struct failure *failure)
{
	if (umount2(path, MNT_DETACH) == 0 || errno == ENOENT)
		return 0;
	if ((errno == EINVAL || errno == EPERM) && mount("tmpfs", path, "tmpfs", 0, NULL) == 0)
		return 0;
	return fail(failure, errno, "cannot hide the host's %s", path);
}

static int hide_all(char *text, const char *place, struct failure *failure)
{
	char *rest = text;
	for (char *line = strtok_r(text, "\n", &rest); line != NULL;
	     line = strtok_r(NULL, "\n", &rest)) {
		const char *type = strstr(line, " - ");
		if (type == NULL ||
		    (strncmp(type + 3, "proc ", 5) != 0 && strncmp(type + 3, "sysfs ", 6) != 0))
			continue;
		const char *path = field_of(line, MOUNT_POINT_FIELD);
		if (path != NULL && !is_below(path, place) && hide(path, failure) < 0)
			return -1;
	}
	return 0;
}

static int hide_kernel_files(const char *place, struct failure *failure)
{
	char *text = take_memory(MOUNTS_MAX_BYTES);
	int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	size_t used = 0;
	ssize_t got = -1;
	while (text != NULL && fd >= 0 && used < MOUNTS_MAX_BYTES - 1 &&
	       (got = read(fd, text + used, MOUNTS_MAX_BYTES - 1 - used)) > 0)
		used += (size_t)got;
	int result = got == 0 ? hide_all(text, place, failure)
			      : fail(failure, errno, "cannot read the host's mounts");
	close_fd(&fd);
	give_memory(text, MOUNTS_MAX_BYTES);
	return result;
}

int moveroot_enter(int root, const char *place, struct failure *failure)
{
	if (hide_kernel_files(place, failure) < 0)
		return -1;
	int slash = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int result = 0;
	if (slash < 0 || k_move_mount(root, slash) < 0 || fchdir(root) < 0 || chroot(".") < 0 ||
	    chdir("/") < 0)
		result = fail(failure, errno, "cannot move to the container's root");
	close_fd(&slash);
	return result;
}
