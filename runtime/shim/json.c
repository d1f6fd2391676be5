/* Writes lines of Docker's json-file log; see json.h. */
#include "json.h"

#include <string.h>

#define NS_PER_SECOND 1000000000ULL
#define SECONDS_PER_DAY 86400u
/* Days from 0000-03-01 to 1970-01-01, and in 400, 100, 4 and 1 years. */
#define EPOCH_DAYS 719468u
#define ERA_DAYS 146097u
#define CENTURY_DAYS 36524u
#define LEAP_DAYS 1460u
#define YEAR_DAYS 365u
/* A byte eight times. */
#define EACH(byte) ((uint64_t)(byte) * 0x0101010101010101u)

static uint8_t *put_bytes(uint8_t *at, const void *bytes, size_t length)
{
	memcpy(at, bytes, length);
	return at + length;
}

static uint8_t *put_text(uint8_t *at, const char *text)
{
	return put_bytes(at, text, strlen(text));
}

/* Of a literal: its size is known, so that no call is made for a few bytes. */
#define PUT(at, literal) put_bytes(at, literal, sizeof(literal) - 1)

static uint8_t *put_digits(uint8_t *at, uint64_t number, int digits)
{
	for (int i = digits - 1; i >= 0; i--, number /= 10)
		at[i] = (uint8_t)('0' + number % 10);
	return at + digits;
}

/* RFC 3339 in UTC; the calendar is counted from March, so that a leap day comes last. */
static uint8_t *put_time(uint8_t *at, uint64_t now_ns)
{
	uint64_t seconds = now_ns / NS_PER_SECOND;
	unsigned days = (unsigned)(seconds / SECONDS_PER_DAY) + EPOCH_DAYS;
	unsigned in_day = (unsigned)(seconds % SECONDS_PER_DAY);
	unsigned era = days / ERA_DAYS, in_era = days % ERA_DAYS;
	unsigned year = (in_era - in_era / LEAP_DAYS + in_era / CENTURY_DAYS -
			 in_era / (ERA_DAYS - 1)) / YEAR_DAYS;
	unsigned in_year = in_era - (YEAR_DAYS * year + year / 4 - year / 100);
	unsigned from_march = (5 * in_year + 2) / 153;
	unsigned day = in_year - (153 * from_march + 2) / 5 + 1;
	unsigned month = from_march < 10 ? from_march + 3 : from_march - 9;
	at = put_digits(at, year + era * 400 + (month <= 2), 4);
	*at++ = '-';
	at = put_digits(at, month, 2);
	*at++ = '-';
	at = put_digits(at, day, 2);
	*at++ = 'T';
	at = put_digits(at, in_day / 3600, 2);
	*at++ = ':';
	at = put_digits(at, in_day / 60 % 60, 2);
	*at++ = ':';
	at = put_digits(at, in_day % 60, 2);
	*at++ = '.';
	at = put_digits(at, now_ns % NS_PER_SECOND, 9);
	*at++ = 'Z';
	return at;
}

/* How many bytes the character at `text` has; 0 when it is none (RFC 3629). */
static size_t character(const uint8_t *text, size_t bytes)
{
	uint8_t first = text[0];
	size_t size = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3
		      : first < 0xf5 ? 4 : 0;
	if (size == 0 || size > bytes)
		return 0;
	for (size_t i = 1; i < size; i++)
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	if ((first == 0xe0 && text[1] < 0xa0) || (first == 0xed && text[1] > 0x9f) ||
	    (first == 0xf0 && text[1] < 0x90) || (first == 0xf4 && text[1] > 0x8f))
		return 0;
	return size;
}

static uint8_t *put_escaped(uint8_t *at, uint8_t byte)
{
	static const char hex[] = "0123456789abcdef";
	if (byte == '"' || byte == '\\') {
		*at++ = '\\';
		*at++ = byte;
	} else if (byte == '\n' || byte == '\r' || byte == '\t') {
		*at++ = '\\';
		*at++ = byte == '\n' ? 'n' : byte == '\r' ? 'r' : 't';
	} else {
		at = PUT(at, "\\u00");
		*at++ = (uint8_t)hex[byte >> 4];
		*at++ = (uint8_t)hex[byte & 15];
	}
	return at;
}

static int is_plain(uint8_t byte)
{
	/* Docker's own encoder also writes what HTML reads as code in numbers. */
	return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\' && byte != '<' &&
	       byte != '>' && byte != '&';
}

/* In the highest bit of each of the eight bytes, whether it is 0; none is missed. */
static uint64_t zeros(uint64_t bytes)
{
	return (bytes - EACH(1)) & ~bytes & EACH(0x80);
}

/* Whether one of the eight is not plain; '"' and '&' differ in one bit, '<' and '>' too. */
static int any_not_plain(uint64_t bytes)
{
	uint64_t control = (bytes - EACH(0x20)) & ~bytes & EACH(0x80);
	return ((bytes & EACH(0x80)) | control | zeros(bytes ^ EACH('\\')) |
		zeros((bytes | EACH('"' ^ '&')) ^ EACH('"' | '&')) |
		zeros((bytes | EACH('<' ^ '>')) ^ EACH('<' | '>'))) != 0;
}

/* Copies the beginning that is plain, most of most lines, and returns its size. */
static size_t put_plain(uint8_t *at, const uint8_t *text, size_t bytes)
{
	size_t i = 0;
	for (uint64_t eight; i + sizeof eight <= bytes; i += sizeof eight) {
		memcpy(&eight, text + i, sizeof eight);
		if (any_not_plain(eight))
			break;
		memcpy(at + i, &eight, sizeof eight);
	}
	for (; i < bytes && is_plain(text[i]); i++)
		at[i] = text[i];
	return i;
}

size_t json_tail(uint8_t *at, const char *stream, uint64_t now_ns, const char *attributes)
{
	uint8_t *start = at;
	at = PUT(at, "\",\"stream\":\"");
	at = put_text(at, stream);
	if (attributes[0] != 0) {
		at = PUT(at, "\",\"attrs\":");
		at = put_text(at, attributes);
	} else {
		*at++ = '"';
	}
	at = PUT(at, ",\"time\":\"");
	at = put_time(at, now_ns);
	at = PUT(at, "\"}\n");
	return (size_t)(at - start);
}

size_t json_record(uint8_t *at, int partial, const uint8_t *text, size_t bytes, const uint8_t *tail,
		   size_t tail_bytes)
{
	uint8_t *start = at;
	at = PUT(at, "{\"log\":\"");
	for (size_t i = 0;;) {
		size_t plain = put_plain(at, text + i, bytes - i);
		at += plain;
		i += plain;
		if (i == bytes)
			break;
		size_t size = character(text + i, bytes - i);
		if (size == 0) {
			at = PUT(at, "\\ufffd");
			i++;
		} else if (size == 1) {
			at = put_escaped(at, text[i++]);
		} else {
			memcpy(at, text + i, size);
			at += size;
			i += size;
		}
	}
	if (!partial)
		at = PUT(at, "\\n");
	memcpy(at, tail, tail_bytes);
	return (size_t)(at + tail_bytes - start);
}
