/*
 * What the container's root is made of: a given directory, or the image's layers and the writable
 * one by overlayfs. Mounts it, attached nowhere; puts nothing into it.
 */
#ifndef TSSWARM_LAYERS_H
#define TSSWARM_LAYERS_H

#include "spec.h"

/*
 * A descriptor of the root. Where the layers are shown with other ids (TAG_LAYER_MAP), their
 * directories are covered in this mount namespace, which is therefore a private one.
 */
int layers_open(const struct spec *spec, struct failure *failure);
/* The directory it is to be attached on. */
const char *layers_place(const struct spec *spec);

#endif
