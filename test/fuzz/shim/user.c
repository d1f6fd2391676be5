/*
 * The account files of an image, which are anybody's: user, groups and both files from the input,
 * apart by 0xff. Found or refused with a reason, within every array.
 */
#include "fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

#include "../../../runtime/shim/kernel.h"

enum { USER, GROUPS, PASSWD, GROUP_FILE, PARTS };

static struct input parts[PARTS];

/* The file as the image has it; some images have none. */
static int open_account(const char *path)
{
	struct input *part = &parts[strcmp(path, "/etc/group") == 0 ? GROUP_FILE : PASSWD];
	if (part->at == NULL)
		return -1;
	int fd = memfd_create("fuzz-accounts", MFD_CLOEXEC);
	MUST(fd >= 0 && pwrite(fd, part->at, part->left, 0) == (ssize_t)part->left);
	return fd;
}

#define k_openat2(dir, path, flags, mode, resolve) open_account(path)
#include "../../../runtime/shim/user.c"

#define SPEC_BYTES 8192

static size_t put_record(uint8_t *at, unsigned tag, const struct input *text)
{
	size_t length = text->left < 1000 ? text->left : 1000;
	put_u32(at, tag);
	put_u32(at + 4, (uint32_t)length + 1);
	if (length > 0)
		memcpy(at + 8, text->at, length);
	at[8 + length] = 0;
	return 9 + length;
}

static const char *text_of(size_t part, char text[1100])
{
	size_t length = parts[part].left < 1000 ? parts[part].left : 1000;
	if (length > 0)
		memcpy(text, parts[part].at, length);
	text[length] = 0;
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t bytes[SPEC_BYTES] = "TSSP\1\0\0";
	char text[1100];
	memset(parts, 0, sizeof parts);
	for (size_t part = 0; part < PARTS && data != NULL; part++) {
		const uint8_t *end = part == PARTS - 1 ? NULL : memchr(data, 0xff, size);
		parts[part] = (struct input){data, end != NULL ? (size_t)(end - data) : size};
		size -= parts[part].left + (end != NULL);
		data = end != NULL ? end + 1 : NULL;
	}
	size_t used = 16;
	if (parts[USER].left > 0)
		used += put_record(bytes + used, TAG_USER, &parts[USER]);
	for (char *rest = NULL, *one = strtok_r((char *)(uintptr_t)text_of(GROUPS, text), " ", &rest);
	     one != NULL && used < SPEC_BYTES - 1100; one = strtok_r(NULL, " ", &rest)) {
		struct input group = {(const uint8_t *)one, strlen(one)};
		used += put_record(bytes + used, TAG_GROUP, &group);
	}
	put_u32(bytes + 8, (uint32_t)used);
	int fd = memfd_create("fuzz-spec", MFD_CLOEXEC);
	MUST(fd >= 0 && write(fd, bytes, used) == (ssize_t)used);
	struct spec spec = {.data = NULL};
	struct failure failure = {0};
	MUST(spec_open(&spec, fd, &failure) == 0);
	close(fd);
	struct user *user = malloc(sizeof *user);
	if (user_resolve(user, &spec, &failure) == 0) {
		MUST(user->group_count >= 1 && user->group_count <= USER_GROUPS_MAX);
		MUST(memchr(user->home, 0, sizeof user->home) != NULL);
		MUST(user->uid != (uid_t)-1 && user->gid != (gid_t)-1);
		for (size_t i = 0; i < user->group_count; i++)
			MUST(user->groups[i] != (gid_t)-1);
	} else {
		MUST(failure.text[0] != 0 && memchr(failure.text, 0, sizeof failure.text) != NULL);
	}
	free(user);
	spec_close(&spec);
	return 0;
}
