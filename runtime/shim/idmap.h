/*
 * Maps of user and group ids, as user namespaces have them: read from the specification, written
 * for a user namespace that has no other purpose, or one the container is to live in.
 */
#ifndef TSSWARM_IDMAP_H
#define TSSWARM_IDMAP_H

#include "spec.h"

/* The kernel takes a map of at most a page. */
#define IDMAP_TEXT_MAX 4096

struct idmap {
	size_t used[2]; /* of users, of groups */
	char text[2][IDMAP_TEXT_MAX];
};

/* Adds the range at `offset` of a record: u32 inside, u32 outside, u32 count. */
int idmap_add(struct idmap *map, int is_group, const struct record *record, size_t offset,
	      struct failure *failure);
/* Adds the records of `tag` from *at on, in which a kind precedes the range. */
int idmap_read(struct idmap *map, const struct spec *spec, unsigned tag, struct failure *failure);
/* The container's own: TAG_UID_MAP and TAG_GID_MAP. */
int idmap_read_own(struct idmap *map, const struct spec *spec, struct failure *failure);
/* Where the container's root is on the host; false when its map does not say. */
int idmap_root(const struct spec *spec, uid_t *uid, gid_t *gid);
/* Where `inside` is on the host by the records of `tag`; what is not mapped is root's. */
uint32_t idmap_outside(const struct spec *spec, unsigned tag, uint32_t inside);
/* A new user namespace with this map; a descriptor. Needs the host's rights. */
int idmap_namespace(const struct idmap *map, struct failure *failure);

#endif
