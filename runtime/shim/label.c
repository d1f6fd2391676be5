/* Applies security modules' labels; see label.h. */
#include "label.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/vfs.h>

#include "kernel.h"
#include "newfs.h"

#define SELINUX_MAGIC 0xf97cff8c
#define LABEL_MAX 4096

enum { APPARMOR = 1, SELINUX = 2 };

static int has_apparmor(void)
{
	char text[8];
	return read_file_at(AT_FDCWD, "/sys/module/apparmor/parameters/enabled", text,
			    sizeof text) > 0 && text[0] == 'Y';
}

static int has_selinux(void)
{
	struct statfs status;
	return statfs("/sys/fs/selinux", &status) == 0 &&
	       (uint32_t)status.f_type == SELINUX_MAGIC;
}

/* `name` below this thread's own attributes. "thread-self" is a link of procfs itself. */
static int write_attribute(int proc, const char *name, const char *value)
{
	char path[64];
	format_text(path, sizeof path, "thread-self/attr/%s", name);
	int fd = k_openat2(proc, path, O_WRONLY | O_CLOEXEC, 0,
			   K_RESOLVE_BENEATH | K_RESOLVE_NO_XDEV | K_RESOLVE_NO_MAGICLINKS);
	int result = fd < 0 ? -1 : write_all(fd, value, strlen(value));
	int error = errno;
	close_fd(&fd);
	errno = error;
	return result;
}

static int write_label(int proc, uint32_t module, const char *label)
{
	char text[LABEL_MAX];
	if (module == SELINUX)
		return write_attribute(proc, "exec", label);
	format_text(text, sizeof text, "exec %s", label);
	/* Where modules are stacked, each has its own file since Linux 5.8. */
	if (write_attribute(proc, "apparmor/exec", text) == 0)
		return 0;
	return errno == ENOENT ? write_attribute(proc, "exec", text) : -1;
}

int label_set(const struct spec *spec, struct failure *failure)
{
	struct record record;
	for (size_t at = 0; spec_next(spec, &at, TAG_LABEL, &record);) {
		uint32_t module = record_u32(&record, 0);
		const char *label = record_string(&record, 4, 0);
		const char *name = module == APPARMOR ? "AppArmor profile" : "SELinux label";
		if (label == NULL || (module != APPARMOR && module != SELINUX))
			return fail(failure, 0, "a label is malformed");
		if (!(module == APPARMOR ? has_apparmor() : has_selinux()))
			return fail(failure, 0, "cannot apply the %s \"%s\": this host's kernel has "
						"no %s", name, label,
				    module == APPARMOR ? "AppArmor" : "SELinux");
		int proc = newfs_proc(failure);
		if (proc < 0)
			return -1;
		int result = write_label(proc, module, label);
		int error = errno;
		close_fd(&proc);
		if (result < 0)
			return fail(failure, error, "cannot apply the %s \"%s\"", name, label);
	}
	return 0;
}
