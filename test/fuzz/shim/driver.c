/*
 * main() for a fuzz target where there is no libFuzzer: the corpus, then random mutations of it for
 * so many seconds, all from one seed. A crash or a hang leaves its input in a file and says which.
 *   target [-seconds=N] [-runs=N] [-seed=N] [-artifact=PREFIX] CORPUS...    (files or directories)
 */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define CORPUS_MAX 4096
#define INPUT_MAX (64u << 10)
#define HANG_SECONDS 10

void __sanitizer_set_death_callback(void (*callback)(void));
const char *__asan_default_options(void);

const char *__asan_default_options(void)
{
	return "handle_abort=1:detect_leaks=0:abort_on_error=0";
}

struct seed {
	uint8_t *data;
	size_t size;
};

static struct seed corpus[CORPUS_MAX];
static size_t corpus_count;
static uint8_t current[INPUT_MAX];
static size_t current_size;
static const char *artifact = "crash-";
static uint64_t state;

static uint32_t below(uint32_t bound)
{
	/* xorshift64*, Vigna 2016 */
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return bound == 0 ? 0 : (uint32_t)((state * 2685821657736338717ULL) >> 33) % bound;
}

static void keep_input(void)
{
	uint64_t hash = 14695981039346656037ULL;
	char path[512];
	for (size_t i = 0; i < current_size; i++)
		hash = (hash ^ current[i]) * 1099511628211ULL;
	snprintf(path, sizeof path, "%s%016llx", artifact, (unsigned long long)hash);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, current, current_size) != (ssize_t)current_size)
		fprintf(stderr, "the input could not be kept in %s\n", path);
	else
		fprintf(stderr, "its input: %s\n", path);
}

static void hang(int signal)
{
	(void)signal;
	static const char said[] = "no answer within the time of one input\n";
	(void)!write(2, said, sizeof said - 1);
	abort();
}

static void load(const char *path)
{
	struct stat status;
	if (stat(path, &status) < 0) {
		fprintf(stderr, "no corpus at %s\n", path);
		exit(2);
	}
	if (S_ISDIR(status.st_mode)) {
		DIR *dir = opendir(path);
		for (struct dirent *one; dir != NULL && (one = readdir(dir)) != NULL;) {
			char below_it[4096];
			snprintf(below_it, sizeof below_it, "%s/%s", path, one->d_name);
			if (one->d_name[0] != '.')
				load(below_it);
		}
		closedir(dir);
		return;
	}
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t size = (size_t)status.st_size < INPUT_MAX ? (size_t)status.st_size : INPUT_MAX;
	if (fd < 0 || corpus_count == CORPUS_MAX)
		return;
	struct seed *seed = &corpus[corpus_count++];
	seed->data = malloc(size + 1);
	ssize_t got = read(fd, seed->data, size);
	seed->size = got < 0 ? 0 : (size_t)got;
	close(fd);
}

static void run(void)
{
	uint8_t *exact = copy_of(current, current_size);
	alarm(HANG_SECONDS);
	(void)LLVMFuzzerTestOneInput(exact, current_size);
	alarm(0);
	free(exact);
}

static void put_number(void)
{
	static const uint32_t telling[] = {0, 1, 7, 8, 255, 256, 1023, 1024, 4095, 4096, 65535,
					   65536, 0x7fffffff, 0x80000000u, 0xfffffff8u, 0xffffffffu};
	uint32_t value = below(3) == 0 ? below(~0u) : telling[below(16)] + below(3) - 1;
	size_t width = 1u << below(3), at = below((uint32_t)current_size);
	for (size_t i = 0; i < width && at + i < current_size; i++)
		current[at + i] = (uint8_t)(value >> (8 * i));
}

static void insert(const uint8_t *data, size_t size)
{
	size_t at = below((uint32_t)current_size + 1);
	if (current_size + size > INPUT_MAX)
		return;
	memmove(current + at + size, current + at, current_size - at);
	memmove(current + at, data, size);
	current_size += size;
}

static void mutate(void)
{
	uint8_t piece[256];
	const struct seed *other = &corpus[below((uint32_t)corpus_count)];
	size_t at = below((uint32_t)current_size), size = 1 + below(sizeof piece);
	switch (below(8)) {
	case 0:
		if (current_size > 0)
			current[at] ^= (uint8_t)(1u << below(8));
		return;
	case 1:
		if (current_size > 0)
			current[at] = (uint8_t)below(256);
		return;
	case 2:
	case 3:
		if (current_size > 0)
			put_number();
		return;
	case 4:
		size = size < current_size - at ? size : current_size - at;
		memmove(current + at, current + at + size, current_size - at - size);
		current_size -= size;
		return;
	case 5:
		for (size_t i = 0; i < size; i++)
			piece[i] = (uint8_t)below(256);
		insert(piece, 1 + below((uint32_t)size));
		return;
	case 6:
		size = size < current_size - at ? size : current_size - at;
		memcpy(piece, current + at, size);
		insert(piece, size);
		return;
	default:
		if (other->size == 0)
			return;
		at = below((uint32_t)other->size);
		size = size < other->size - at ? size : other->size - at;
		insert(other->data + at, size);
	}
}

int main(int argc, char **argv)
{
	double seconds = 5;
	unsigned long most = ULONG_MAX;
	state = (uint64_t)time(NULL);
	for (int i = 1; i < argc; i++) {
		if (strncmp(argv[i], "-seconds=", 9) == 0)
			seconds = atof(argv[i] + 9);
		else if (strncmp(argv[i], "-runs=", 6) == 0)
			most = strtoul(argv[i] + 6, NULL, 10);
		else if (strncmp(argv[i], "-seed=", 6) == 0)
			state = strtoull(argv[i] + 6, NULL, 10);
		else if (strncmp(argv[i], "-artifact=", 10) == 0)
			artifact = argv[i] + 10;
		else
			load(argv[i]);
	}
	fprintf(stderr, "seed %llu, %zu inputs\n", (unsigned long long)state, corpus_count);
	state = state * 2862933555777941757ULL + 3037000493ULL;
	__sanitizer_set_death_callback(keep_input);
	signal(SIGALRM, hang);
	if (corpus_count == 0)
		corpus[corpus_count++] = (struct seed){calloc(1, 1), 1};
	for (size_t i = 0; i < corpus_count; i++) {
		memcpy(current, corpus[i].data, corpus[i].size);
		current_size = corpus[i].size;
		run();
	}
	struct timespec start, now;
	clock_gettime(CLOCK_MONOTONIC, &start);
	unsigned long count = corpus_count;
	for (double passed = 0; passed < seconds && count < most; count++) {
		const struct seed *seed = &corpus[below((uint32_t)corpus_count)];
		memcpy(current, seed->data, seed->size);
		current_size = seed->size;
		for (uint32_t turns = 1 + below(8); turns > 0; turns--)
			mutate();
		run();
		clock_gettime(CLOCK_MONOTONIC, &now);
		passed = (double)(now.tv_sec - start.tv_sec) +
			 (double)(now.tv_nsec - start.tv_nsec) / 1e9;
	}
	fprintf(stderr, "%lu executions\n", count);
	return 0;
}
