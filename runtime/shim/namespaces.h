/*
 * The container's namespaces as the specification names them: new, joined by path, or (not named)
 * the shim's own. All but these are simple: new ones come with clone3, others are joined by the
 * child itself. A user or time namespace, and a joined pid or mount namespace, need a process
 * between shim and container, the stage (stage.h).
 */
#ifndef TSSWARM_NAMESPACES_H
#define TSSWARM_NAMESPACES_H

#include "spec.h"

#define NAMESPACES_MAX 8

struct namespaces {
	uint32_t created, joined; /* CLONE_NEW* */
	size_t count;
	uint32_t kinds[NAMESPACES_MAX]; /* of those joined */
	int fds[NAMESPACES_MAX];
};

/* Reads the records and opens what is to be joined. */
int namespaces_open(struct namespaces *namespaces, const struct spec *spec,
		    struct failure *failure);
void namespaces_close(struct namespaces *namespaces);
static inline int namespaces_have(const struct namespaces *namespaces, uint32_t kind)
{
	return ((namespaces->created | namespaces->joined) & kind) != 0;
}
/* Whether it takes a stage. */
int namespaces_staged(const struct namespaces *namespaces);
/* The descriptor of the one of `kind` to be joined, -1 for none. */
int namespaces_joined(const struct namespaces *namespaces, uint32_t kind);
/* Whether the namespace behind `fd` belongs to the user namespace behind `user`. */
int namespaces_is_owner(int user, int fd);
/* Joins those of `kinds` that are to be joined. */
int namespaces_join(const struct namespaces *namespaces, uint32_t kinds, struct failure *failure);
/* After a user namespace was entered: its root, with nothing of the host's groups left. */
int namespaces_become_root(struct failure *failure);

#endif
