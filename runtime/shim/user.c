/* Resolves the container's user and groups; see user.h. */
#include "user.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel.h"

#define ACCOUNTS_MAX_BYTES (256u << 10)
#define FIELDS_MAX 7
#define NAME_MAX_BYTES 256

/* The file's text, NUL-terminated; empty when there is none. Given back by the caller. */
static char *read_accounts(const char *path)
{
	char *text = take_memory(ACCOUNTS_MAX_BYTES + 1);
	if (text == NULL)
		return NULL;
	/* The shim's descriptors are still open: no link of the image's may lead through them. */
	int fd = k_openat2(AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0,
			   K_RESOLVE_NO_MAGICLINKS);
	struct stat status;
	if (fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
		size_t used = 0;
		ssize_t got;
		while (used < ACCOUNTS_MAX_BYTES &&
		       (got = read(fd, text + used, ACCOUNTS_MAX_BYTES - used)) > 0)
			used += (size_t)got;
	}
	close_fd(&fd);
	return text;
}

/* Splits the line at *at into fields in place; their number, -1 at the end of the text. */
static int next_line(char **at, char *fields[FIELDS_MAX])
{
	if (**at == 0)
		return -1;
	char *line = *at;
	char *end = strchr(line, '\n');
	*at = end != NULL ? end + 1 : line + strlen(line);
	if (end != NULL)
		*end = 0;
	int count = 0;
	while (line != NULL && count < FIELDS_MAX) {
		fields[count++] = line;
		line = strchr(line, ':');
		if (line != NULL)
			*line++ = 0;
	}
	return count;
}

static int parse_id(const char *text, uint32_t *id)
{
	uint64_t value;
	if (!read_number(&text, &value) || *text != 0 || value >= UINT32_MAX)
		return -1;
	*id = (uint32_t)value;
	return 0;
}

/* The passwd line whose name or number is `wanted`; fills user and name. 0 found, 1 not. */
static int find_passwd(struct user *user, const char *wanted, char name[NAME_MAX_BYTES])
{
	char *text = read_accounts("/etc/passwd");
	uint32_t number = 0;
	int is_number = parse_id(wanted, &number) == 0;
	int found = 1;
	char *fields[FIELDS_MAX];
	int count;
	char *at = text;
	while (at != NULL && found != 0 && (count = next_line(&at, fields)) >= 0) {
		uint32_t uid, gid;
		if (count < 4 || parse_id(fields[2], &uid) < 0 || parse_id(fields[3], &gid) < 0)
			continue;
		if (strcmp(fields[0], wanted) != 0 && !(is_number && uid == number))
			continue;
		if (strlen(fields[0]) >= NAME_MAX_BYTES)
			continue;
		user->uid = uid;
		user->gid = gid;
		strcpy(name, fields[0]);
		if (count >= 6 && strlen(fields[5]) < USER_HOME_MAX)
			strcpy(user->home, fields[5]);
		found = 0;
	}
	give_memory(text, ACCOUNTS_MAX_BYTES + 1);
	return found;
}

static void add_group(struct user *user, gid_t gid)
{
	for (size_t i = 0; i < user->group_count; i++)
		if (user->groups[i] == gid)
			return;
	if (user->group_count < USER_GROUPS_MAX)
		user->groups[user->group_count++] = gid;
}

static int is_member(char *members, const char *name)
{
	char *rest = members;
	for (char *one = strtok_r(members, ",", &rest); one; one = strtok_r(NULL, ",", &rest))
		if (strcmp(one, name) == 0)
			return 1;
	return 0;
}

/* The number of the group named or numbered `wanted`. */
static int find_group(const char *wanted, gid_t *gid)
{
	char *text = read_accounts("/etc/group");
	char *fields[FIELDS_MAX];
	int count, found = -1;
	char *at = text;
	while (at != NULL && found < 0 && (count = next_line(&at, fields)) >= 0) {
		uint32_t number;
		if (count >= 3 && strcmp(fields[0], wanted) == 0 &&
		    parse_id(fields[2], &number) == 0) {
			*gid = number;
			found = 0;
		}
	}
	give_memory(text, ACCOUNTS_MAX_BYTES + 1);
	uint32_t number;
	if (found < 0 && parse_id(wanted, &number) == 0) {
		*gid = number;
		found = 0;
	}
	return found;
}

/* Every group that lists `name` as a member. */
static void add_memberships(struct user *user, const char *name)
{
	char *text = read_accounts("/etc/group");
	char *fields[FIELDS_MAX];
	int count;
	char *at = text;
	while (at != NULL && (count = next_line(&at, fields)) >= 0) {
		uint32_t gid;
		if (count >= 4 && parse_id(fields[2], &gid) == 0 && is_member(fields[3], name))
			add_group(user, gid);
	}
	give_memory(text, ACCOUNTS_MAX_BYTES + 1);
}

/* "uid" or "uid:gid", and groups, as they are: what an OCI configuration says. */
static int resolve_numbers(struct user *user, const struct spec *spec, struct failure *failure)
{
	const char *at = spec_string(spec, TAG_USER, "0:0");
	char digits[16], name[NAME_MAX_BYTES] = "";
	uint64_t uid = 0, gid = 0;
	int is_good = read_number(&at, &uid) && uid < UINT32_MAX;
	if (is_good && *at == ':') {
		at++;
		is_good = read_number(&at, &gid) && gid < UINT32_MAX;
	}
	if (!is_good || *at != 0)
		return fail(failure, 0, "the user is not two numbers");
	format_text(digits, sizeof digits, "%u", (uint32_t)uid);
	(void)find_passwd(user, digits, name); /* for its home; who is not there has / */
	user->uid = (uid_t)uid;
	user->gid = (gid_t)gid;
	struct record record;
	for (size_t at_record = 0; spec_next(spec, &at_record, TAG_GROUP, &record);) {
		const char *group = record_string(&record, 0, 0);
		uint32_t number;
		if (group == NULL || parse_id(group, &number) < 0)
			return fail(failure, 0, "the group %s is not a number", group ? group : "");
		if (user->group_count == USER_GROUPS_MAX)
			return fail(failure, 0, "more than %d groups", USER_GROUPS_MAX);
		add_group(user, number);
	}
	return 0;
}

int user_resolve(struct user *user, const struct spec *spec, struct failure *failure)
{
	memset(user, 0, sizeof *user);
	if (spec_u32(spec, TAG_FLAGS, 0) & SPEC_NUMERIC_USER)
		return resolve_numbers(user, spec, failure);
	const char *wanted = spec_string(spec, TAG_USER, "");
	char who[NAME_MAX_BYTES], name[NAME_MAX_BYTES] = "";
	const char *colon = strchr(wanted, ':');
	size_t who_bytes = colon != NULL ? (size_t)(colon - wanted) : strlen(wanted);
	if (who_bytes >= sizeof who)
		return fail(failure, 0, "the user name is too long");
	memcpy(who, wanted, who_bytes);
	who[who_bytes] = 0;
	if (find_passwd(user, who_bytes == 0 ? "0" : who, name) != 0 && who_bytes != 0) {
		uint32_t uid;
		if (parse_id(who, &uid) < 0)
			return fail(failure, 0, "unable to find user %s: no matching entries in "
						"the image's /etc/passwd", who);
		user->uid = uid;
	}
	if (colon != NULL && colon[1] != 0) {
		if (find_group(colon + 1, &user->gid) < 0)
			return fail(failure, 0, "unable to find group %s: no matching entries in "
						"the image's /etc/group", colon + 1);
	} else if (name[0] != 0) {
		add_memberships(user, name);
	}
	add_group(user, user->gid);
	struct record record;
	for (size_t at = 0; spec_next(spec, &at, TAG_GROUP, &record);) {
		const char *group = record_string(&record, 0, 0);
		gid_t gid;
		if (group == NULL || find_group(group, &gid) < 0)
			return fail(failure, 0, "unable to find group %s: no matching entries in "
						"the image's /etc/group", group ? group : "");
		add_group(user, gid);
	}
	return 0;
}
