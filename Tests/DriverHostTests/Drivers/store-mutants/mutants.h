/* store-mutants: the objects of backups as files of a directory, done right, and wrong in one way that the option `bug` names: what
 * the conformance suite for stores must find. MUTANTS.tsv says which case finds which.
 * Options: directory (absolute), bug (a name, or none).
 *     cc -std=c11 -Wall -Wextra -Werror -fPIC -shared -pthread -I<Clinker>/Sources/CDriver/include -o clinker-store-mutants.so \
 *        store-mutants/[a-z]*.c -lcrypto */
#ifndef STORE_MUTANTS_H
#define STORE_MUTANTS_H
#define _GNU_SOURCE
#include <clinker/driver.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_SIZE = 2048 };

struct mutant {
    char directory[512], bug[64];
    clinker_call *call; /* for one that keeps what is not its own */
    long calls;
    pthread_mutex_t lock;
};

/* Whether this is the bug that was asked for. */
static inline int bug(const struct mutant *me, const char *name) { return !strcmp(me->bug, name); }
#define BUG(name) bug(me, name)

/* What errno means. */
int failure(const struct mutant *me, clinker_call *call, const char *what);
/* What every call does first: nothing, in a store without bugs. */
void enter(struct mutant *me, clinker_call *call);
/* The path of an object, or INVALID. */
int path_of(struct mutant *me, clinker_call *call, const char *name, char *path);
/* Whether an object is protected now. */
int is_protected(struct mutant *me, const char *name);

/* An object that is being written. */
struct writer {
    struct mutant *me;
    char name[PATH_SIZE], path[PATH_SIZE], hidden[PATH_SIZE];
    int file;
    uint64_t written;
};
int begin(struct mutant *me, clinker_call *call, const char *name, struct writer *writer);
int add(struct writer *writer, clinker_call *call, const void *bytes, uint64_t length);
int finish(struct writer *writer, clinker_call *call);
void give_up(struct writer *writer);

int mutant_put(void *, clinker_call *, const char *name, const clinker_slice *, uint32_t count, const unsigned char *sha256);
int mutant_put_open(void *, clinker_call *, const char *name, void **writer);
int mutant_put_write(void *, clinker_call *, const void *bytes, uint64_t length);
int mutant_put_close(void *, clinker_call *, int commit);
int mutant_get(void *, clinker_call *, const char *name, void *buffer, uint64_t offset, uint64_t length, uint64_t *done);
int mutant_stat_object(void *, clinker_call *, const char *name, clinker_object *);
int mutant_list(void *, clinker_call *, const char *prefix, const char *after, clinker_object_function each, void *opaque);
int mutant_remove(void *, clinker_call *, const char *const *names, uint32_t count);
int mutant_protect(void *, clinker_call *, const char *name, int64_t until);
#endif
