/* What is put. */
#include "mutants.h"
#include <openssl/sha.h>

/* Makes the folders above a path. */
static int make_folders(struct mutant *me, const char *path) {
    char folder[PATH_SIZE];
    snprintf(folder, sizeof folder, "%s", path);
    for (char *slash = folder + strlen(me->directory) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
        *slash = 0;
        if (mkdir(folder, 0700) && errno != EEXIST) return -1;
    }
    return 0;
}

int begin(struct mutant *me, clinker_call *call, const char *name, struct writer *writer) {
    static unsigned long number;
    memset(writer, 0, sizeof *writer);
    writer->me = me;
    writer->file = -1;
    snprintf(writer->name, sizeof writer->name, "%s", name);
    if (path_of(me, call, name, writer->path)) return CLINKER_INVALID;
    if (is_protected(me, name) && !BUG("protect_replaced")) return clinker_fail(call, CLINKER_BUSY, "%s is protected", name);
    if (BUG("put_exists") && !access(writer->path, F_OK)) return clinker_fail(call, CLINKER_EXISTS, "%s exists", name);
    unsigned long mine = __atomic_add_fetch(&number, 1, __ATOMIC_RELAXED);
    if (BUG("temporary_shared")) snprintf(writer->hidden, PATH_SIZE, "%s/.partial/%d", me->directory, getpid());
    else if (BUG("temporary_listed")) snprintf(writer->hidden, PATH_SIZE, "%.2000s.part", writer->path);
    else snprintf(writer->hidden, PATH_SIZE, "%s/.partial/%d-%lu-%lx", me->directory, getpid(), mine, (long)me);
    int in_place = BUG("put_in_place") || BUG("put_tail_kept");
    if (in_place) snprintf(writer->hidden, PATH_SIZE, "%s", writer->path);
    if ((in_place || BUG("temporary_listed")) && make_folders(me, writer->path)) return failure(me, call, name);
    int how = BUG("put_tail_kept") ? 0 : O_TRUNC;
    writer->file = open(writer->hidden, O_WRONLY | O_CREAT | O_CLOEXEC | how, 0600);
    return writer->file < 0 ? failure(me, call, name) : CLINKER_OK;
}

int add(struct writer *writer, clinker_call *call, const void *bytes, uint64_t length) {
    struct mutant *me = writer->me;
    const char *from = bytes;
    if (BUG("put_short") && length > 1 << 20) length = 1 << 20;
    if (BUG("put_ends_at_zero") && length) length = strnlen(from, length);
    if (BUG("put_last_byte") && length > 4096) length--;
    while (length) {
        ssize_t count = write(writer->file, from, length);
        if (count < 0) return failure(me, call, writer->name);
        from += count, length -= (uint64_t)count, writer->written += (uint64_t)count;
    }
    return CLINKER_OK;
}

int finish(struct writer *writer, clinker_call *call) {
    struct mutant *me = writer->me;
    int code = CLINKER_OK;
    if (BUG("empty_left_out") && !writer->written) {
        give_up(writer);
        return CLINKER_OK;
    }
    if (!BUG("not_flushed") && fsync(writer->file)) code = failure(me, call, writer->name);
    close(writer->file);
    writer->file = -1;
    if (BUG("put_unlinked_first")) unlink(writer->path), usleep(300);
    /* A folder that is empty may be removed before the file is in it. */
    for (int round = 0; !code && strcmp(writer->hidden, writer->path) && round < 1000; round++) {
        if (!make_folders(me, writer->path) && !rename(writer->hidden, writer->path)) break;
        if (errno == EISDIR && !rmdir(writer->path)) continue;
        if (errno == EISDIR || errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR)
            code = clinker_fail(call, CLINKER_EXISTS, "%s: another object's name begins so, or is its beginning", writer->name);
        else if (errno != ENOENT || BUG("folder_race")) code = errno == ENOENT ? clinker_fail(call, CLINKER_ERROR, "no folder") : failure(me, call, writer->name);
    }
    if (code && strcmp(writer->hidden, writer->path)) unlink(writer->hidden);
    return code;
}

void give_up(struct writer *writer) {
    if (writer->file >= 0) close(writer->file);
    writer->file = -1;
    unlink(writer->hidden);
}

int mutant_put(void *instance, clinker_call *call, const char *name, const clinker_slice *slices, uint32_t count,
               const unsigned char *sha256) {
    struct mutant *me = instance;
    struct writer writer;
    enter(me, call);
    int code = begin(me, call, name, &writer);
    if (code) return code;
    SHA256_CTX hash;
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    SHA256_Init(&hash);
    for (uint32_t index = 0; index < count && !code; index++) {
        if (BUG("put_first_slice") && index > 0) break;
        if (BUG("put_stops_at_empty") && !slices[index].length) break;
        if (sha256 && slices[index].length) SHA256_Update(&hash, slices[index].bytes, slices[index].length);
        code = add(&writer, call, slices[index].bytes, slices[index].length);
    }
    unsigned char found[32];
    SHA256_Final(found, &hash);
    int differs = sha256 && memcmp(found, sha256, 32) && !BUG("hash_not_checked");
    if (BUG("hash_never_right") && sha256) differs = 1;
    if (code || (differs && !BUG("hash_checked_late"))) {
        give_up(&writer);
        return code ? code : clinker_fail(call, CLINKER_INVALID, "%s: its bytes have another hash", name);
    }
    code = finish(&writer, call);
    return !code && differs ? clinker_fail(call, CLINKER_INVALID, "%s: its bytes have another hash", name) : code;
}

int mutant_put_open(void *instance, clinker_call *call, const char *name, void **result) {
    struct mutant *me = instance;
    enter(me, call);
    struct writer *writer = malloc(sizeof *writer);
    if (!writer) return clinker_fail(call, CLINKER_RETRY, "out of memory");
    int code = begin(me, call, name, writer);
    if (!code && (BUG("writer_shared") || BUG("writer_seen"))) {
        /* One file for all writers of a name, or the object itself. */
        give_up(writer);
        if (BUG("writer_seen")) make_folders(me, writer->path), snprintf(writer->hidden, PATH_SIZE, "%s", writer->path);
        else snprintf(writer->hidden, PATH_SIZE, "%s/.partial/%.200s", me->directory, strrchr(writer->path, '/') + 1);
        writer->file = open(writer->hidden, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (writer->file < 0) code = failure(me, call, name);
    }
    if (code) free(writer);
    else *result = writer;
    return code;
}

int mutant_put_write(void *raw, clinker_call *call, const void *bytes, uint64_t length) {
    struct writer *writer = raw;
    struct mutant *me = writer->me;
    if (BUG("writer_first_piece") && writer->written) return CLINKER_OK;
    if (BUG("writer_overwrites")) lseek(writer->file, 0, SEEK_SET);
    return add(writer, call, bytes, length);
}

int mutant_put_close(void *raw, clinker_call *call, int commit) {
    struct writer *writer = raw;
    struct mutant *me = writer->me;
    int code = CLINKER_OK;
    if (BUG("writer_always_commits")) commit = 1;
    if (BUG("writer_never_replaces") && commit && !access(writer->path, F_OK)) commit = 0;
    if (commit) code = finish(writer, call);
    else if (BUG("writer_left") && writer->file >= 0) close(writer->file), make_folders(me, writer->path), rename(writer->hidden, strncat(writer->path, "~", 2));
    else give_up(writer);
    if (!BUG("leak_writer")) free(writer);
    return code;
}
