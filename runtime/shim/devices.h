/*
 * Device files and links of the container. Who may use a device is the device cgroup's to say; here
 * is only what there is.
 */
#ifndef TSSWARM_DEVICES_H
#define TSSWARM_DEVICES_H

#include "spec.h"

/*
 * For a container with a user namespace, where none can be made: makes them as the host's root, in
 * a file system of their own, to be bound to their places. In a private mount namespace.
 */
int devices_open_as_host(const struct spec *spec, struct failure *failure);
/* Carries out the next TAG_DEVICE record, in their order. */
int devices_make(int root, const struct record *record, struct failure *failure);
int devices_link(int root, const struct record *record, struct failure *failure);

#endif
