/*
 * A line of Docker's json-file log: {"log":"...","stream":"stdout","attrs":{...},"time":"..."}
 * and a newline. The text keeps its own newline, unless the line goes on. Bytes that are no UTF-8
 * become U+FFFD. Attributes come as they stand in the specification, JSON already.
 */
#ifndef TSSWARM_JSON_H
#define TSSWARM_JSON_H

#include "util.h"

/* The most that a record of `bytes` of text takes, with its tail but without its attributes. */
#define JSON_RECORD_MAX(bytes) ((bytes) * 6 + 128)
/* The most that a tail takes, besides its attributes. */
#define JSON_TAIL_MAX 96

/*
 * Writes what stands behind the text in each record of one stream and one moment, and returns its
 * size: many lines share it. No attributes: "".
 */
size_t json_tail(uint8_t *at, const char *stream, uint64_t now_ns, const char *attributes);
/* Writes the record to `at` and returns its size. */
size_t json_record(uint8_t *at, int partial, const uint8_t *text, size_t bytes, const uint8_t *tail,
		   size_t tail_bytes);

#endif
