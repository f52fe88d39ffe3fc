/* mutants: volumes as sparse files of a directory, done right, and wrong in one way that the option `bug` names: what the
 * conformance suite must find. MUTANTS.tsv says which case finds which.
 * Options: directory (absolute), bug (a name, or none), minimum and maximum (of what block_size says: 1 and 32 MiB).
 *     cc -std=c11 -Wall -Wextra -Werror -fPIC -shared -pthread -I<Clinker>/Sources/CDriver/include -o clinker-mutants.so mutants/[a-z]*.c */
#ifndef MUTANTS_H
#define MUTANTS_H
#define _GNU_SOURCE
#include <clinker/driver.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GIB ((uint64_t)1 << 30)

struct mutant {
    char directory[512], bug[64];
    const char *kept; /* for one that keeps what is not its own */
    clinker_call *call;
    long calls;
    int64_t minimum, maximum; /* bytes of a request */
    char shared[1 << 20]; /* for one whose threads meet */
};

/* Whether this is the bug that was asked for. */
static inline int bug(const struct mutant *me, const char *name) { return !strcmp(me->bug, name); }
#define BUG(name) bug(me, name)

#define PATH_SIZE 1200

/* The path of the object that an argument names. */
int path_of(struct mutant *me, clinker_call *call, const char *argument, char *path);
/* What errno means. */
int failure(const struct mutant *me, clinker_call *call, const char *what);
/* What every call does first: nothing, in a driver without bugs. */
void enter(struct mutant *me, clinker_call *call);
/* Copies what is data; `delay` microseconds after each MiB. */
int copy_data(struct mutant *me, clinker_call *call, int from, int to, unsigned delay);
/* The new file of a path, under a name of its own until `finish`. */
int begin_file(const struct mutant *me, clinker_call *call, const char *path, char *temporary);
int finish_file(const struct mutant *me, clinker_call *call, int fd, const char *temporary, const char *path);

int mutant_create_volume(void *, clinker_call *);
int mutant_delete_volume(void *, clinker_call *);
int mutant_extend_volume(void *, clinker_call *);
int mutant_clone_volume(void *, clinker_call *);
int mutant_create_snapshot(void *, clinker_call *);
int mutant_delete_snapshot(void *, clinker_call *);
int mutant_create_volume_from_snapshot(void *, clinker_call *);
int mutant_revert_to_snapshot(void *, clinker_call *);
int mutant_export_volume(void *, clinker_call *);
int mutant_ensure_export(void *, clinker_call *);
int mutant_unexport_volume(void *, clinker_call *);
int mutant_connect_volume(void *, clinker_call *);
int mutant_disconnect_volume(void *, clinker_call *);
int mutant_list_volumes(void *, clinker_call *);
int mutant_manage_volume(void *, clinker_call *);
int mutant_unmanage_volume(void *, clinker_call *);
int mutant_manage_snapshot(void *, clinker_call *);
int mutant_unmanage_snapshot(void *, clinker_call *);
int mutant_open_handle(void *, clinker_call *, uint32_t flags, void **handle);
void mutant_close_handle(void *);
int mutant_get_size(void *, clinker_call *, uint64_t *bytes);
int mutant_block_size(void *, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum);
int mutant_read(void *, clinker_call *, void *buffer, uint64_t offset, uint64_t length);
int mutant_write(void *, clinker_call *, const void *buffer, uint64_t offset, uint64_t length);
int mutant_zero(void *, clinker_call *, uint64_t offset, uint64_t length);
int mutant_discard(void *, clinker_call *, uint64_t offset, uint64_t length);
int mutant_flush(void *, clinker_call *);
int mutant_extents(void *, clinker_call *, uint64_t offset, uint64_t length, clinker_extent_function each, void *opaque);
int mutant_changed(void *, clinker_call *, uint64_t offset, uint64_t length, clinker_extent_function each, void *opaque);
int mutant_submit(void *, clinker_request *);
#endif
