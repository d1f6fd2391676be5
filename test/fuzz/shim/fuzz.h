/*
 * What the shim's fuzz targets share. A target is one file that defines LLVMFuzzerTestOneInput over
 * the shim's own sources; it is linked with libFuzzer, or with driver.c where there is no clang.
 * A broken property aborts, which both report as a crash with its input.
 */
#ifndef TSSWARM_FUZZ_H
#define TSSWARM_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);     \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* The input, taken from the front; past its end there are zeros. */
struct input {
	const uint8_t *at;
	size_t left;
};

static inline uint32_t take(struct input *input, size_t bytes)
{
	uint32_t value = 0;
	for (size_t i = 0; i < bytes && input->left > 0; i++, input->left--)
		value |= (uint32_t)*input->at++ << (8 * i);
	return value;
}

/* A copy of exactly `size` bytes, so that one byte beyond it is seen. */
static inline uint8_t *copy_of(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size);
	MUST(copy != NULL || size == 0);
	if (size > 0)
		memcpy(copy, data, size);
	return copy;
}

#endif
