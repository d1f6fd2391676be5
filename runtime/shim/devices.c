/* Makes devices and links; see devices.h. */
#include "devices.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "beneath.h"
#include "idmap.h"
#include "mounts.h"

#define DEVICES_MAX 512
#define PATH_AT 20 /* in a device's record, behind its numbers */
#define NAME_MAX_BYTES 16

/* Made before, in the records' order. */
static int ready[DEVICES_MAX];
static size_t ready_count, ready_used;

static mode_t mode_of(const struct record *record)
{
	return (mode_t)record_u32(record, 0);
}

static dev_t number_of(const struct record *record)
{
	return makedev(record_u32(record, 4), record_u32(record, 8));
}

static int is_it(int fd, const struct record *record)
{
	struct stat status;
	return fstat(fd, &status) == 0 && status.st_rdev == number_of(record) &&
	       (status.st_mode & S_IFMT) == (mode_of(record) & S_IFMT);
}

/* The host's own, where none may be made: what is there by the same path, if it is the same. */
static int clone_host_device(const struct record *record)
{
	const char *path = record_string(record, PATH_AT, 0);
	int device = open(path, O_PATH | O_CLOEXEC);
	int copy = -1;
	if (device >= 0 && is_it(device, record))
		copy = k_open_tree(device, "", K_OPEN_TREE_CLONE | K_AT_EMPTY_PATH | O_CLOEXEC);
	else
		errno = EPERM;
	int error = errno;
	close_fd(&device);
	errno = error;
	return copy;
}

static int make_ready(int shelf, const char *name, const struct spec *spec,
		      const struct record *record)
{
	if (mknodat(shelf, name, mode_of(record), number_of(record)) < 0)
		return errno == EPERM ? clone_host_device(record) : -1;
	if (fchownat(shelf, name, idmap_outside(spec, TAG_UID_MAP, record_u32(record, 12)),
		     idmap_outside(spec, TAG_GID_MAP, record_u32(record, 16)), AT_SYMLINK_NOFOLLOW) < 0)
		return -1;
	return k_open_tree(shelf, name, K_OPEN_TREE_CLONE | O_CLOEXEC);
}

int devices_open_as_host(const struct spec *spec, struct failure *failure)
{
	struct record record;
	char name[NAME_MAX_BYTES];
	if (spec_count(spec, TAG_DEVICE) == 0)
		return 0;
	if (spec_count(spec, TAG_DEVICE) > DEVICES_MAX)
		return fail(failure, 0, "there are more than %d devices", DEVICES_MAX);
	int shelf = mounts_shelf(spec), result = 0;
	if (shelf < 0)
		result = fail(failure, errno, "cannot make a place for the container's devices");
	for (size_t at = 0; result == 0 && spec_next(spec, &at, TAG_DEVICE, &record);) {
		const char *path = record_string(&record, PATH_AT, 0);
		format_text(name, sizeof name, "%zu", ready_count);
		int device = path == NULL ? -1 : make_ready(shelf, name, spec, &record);
		if (device < 0)
			result = fail(failure, errno, "cannot make the device %s", path);
		else
			ready[ready_count++] = device;
	}
	if (shelf >= 0)
		mounts_leave_shelf(spec, &shelf);
	return result;
}

static int bind_device(int parent, const char *name, int device)
{
	int place = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			   0666);
	int result = place < 0 ? -1 : k_move_mount(device, place);
	int error = errno;
	close_fd(&place);
	errno = error;
	return result;
}

/* `device` is bound there; without one it is made there. */
static int make_at(int place, const char *name, int device, const struct record *record)
{
	if (device >= 0)
		return bind_device(place, name, device);
	if (mknodat(place, name, mode_of(record), number_of(record)) < 0)
		return -1;
	return fchownat(place, name, record_u32(record, 12), record_u32(record, 16),
			AT_SYMLINK_NOFOLLOW);
}

int devices_make(int root, const struct record *record, struct failure *failure)
{
	const char *path = record_string(record, PATH_AT, 0), *name;
	int device = ready_used < ready_count ? ready[ready_used++] : -1;
	if (path == NULL)
		return fail(failure, 0, "a device is malformed");
	int place = beneath_place(root, path, &name);
	int result = place < 0 ? -1 : make_at(place, name, device, record);
	/* One outside of /dev is still there from an earlier run. */
	if (place >= 0 && result < 0 && errno == EEXIST && unlinkat(place, name, 0) == 0)
		result = make_at(place, name, device, record);
	if (result < 0)
		fail(failure, errno, "cannot make the device %s", path);
	close_fd(&device);
	return result;
}

int devices_link(int root, const struct record *record, struct failure *failure)
{
	const char *target = record_string(record, 0, 0), *path = record_string(record, 0, 1);
	const char *name;
	if (target == NULL || path == NULL)
		return fail(failure, 0, "a link is malformed");
	int place = beneath_place(root, path, &name);
	if (place < 0 || (symlinkat(target, place, name) < 0 && errno != EEXIST))
		return fail(failure, errno, "cannot make the link %s", path);
	return 0;
}
