/* Looks at the seals of this process's executable; see sealed.h. */
#include "sealed.h"

#include <fcntl.h>

static const int WANTED = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

int sealed_check(struct failure *failure)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int seals = fd < 0 ? -1 : fcntl(fd, F_GET_SEALS); /* fails for what is no memory file */
	close_fd(&fd);
	if (seals >= 0 && (seals & WANTED) == WANTED)
		return 0;
	return fail(failure, 0, "the launcher must be executed from a sealed memory file");
}
