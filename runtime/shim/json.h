/*
 * A line of Docker's json-file log: {"log":"...","stream":"stdout","attrs":{...},"time":"..."}
 * and a newline. The text keeps its own newline, unless the line goes on. Bytes that are no UTF-8
 * become U+FFFD. Attributes come as they stand in the specification, JSON already.
 */
#ifndef TSSWARM_JSON_H
#define TSSWARM_JSON_H

#include "util.h"

/* The most that a record of `bytes` of text takes, besides its attributes. */
#define JSON_RECORD_MAX(bytes) ((bytes) * 6 + 128)

/* Writes the record to `at` and returns its size. No attributes: "". */
size_t json_record(uint8_t *at, const char *stream, uint64_t now_ns, int partial,
		   const char *attributes, const uint8_t *text, size_t bytes);

#endif
