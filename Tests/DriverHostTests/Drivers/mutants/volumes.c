/* Volumes and snapshots: files that come into being under another name, and get their own when they are whole. */
#include "mutants.h"

int begin_file(const struct mutant *me, clinker_call *call, const char *path, char *temporary) {
    const char *base = strrchr(path, '/') + 1;
    if (BUG("debris")) snprintf(temporary, PATH_SIZE, "%s/%s.%d", me->directory, base, getpid());
    else snprintf(temporary, PATH_SIZE, "%s/.%s.partial", me->directory, base);
    int fd = open(temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return clinker_fail(call, CLINKER_ERROR, "%s: %s", temporary, strerror(errno)), -1;
    if (BUG("debris")) usleep(20000);
    return fd;
}

int finish_file(const struct mutant *me, clinker_call *call, int fd, const char *temporary, const char *path) {
    int bad = (!BUG("not_synced") && fsync(fd)) || rename(temporary, path);
    int code = bad ? failure(me, call, path) : CLINKER_OK;
    close(fd);
    return code;
}

int copy_data(struct mutant *me, clinker_call *call, int from, int to, unsigned delay) {
    static const size_t piece = 1 << 20;
    char *buffer = malloc(piece);
    if (!buffer) return clinker_fail(call, CLINKER_RETRY, "out of memory");
    off_t start = 0, end;
    int code = CLINKER_OK;
    while (!code && (start = lseek(from, start, SEEK_DATA)) >= 0) {
        if ((end = lseek(from, start, SEEK_HOLE)) < 0) break;
        if (BUG("clone_half") && start >= 512 << 20) break;
        while (!code && start < end) {
            size_t count = (size_t)(end - start) < piece ? (size_t)(end - start) : piece;
            if (clinker_cancelled(call) && !BUG("cancel_ignored")) code = clinker_fail(call, CLINKER_CANCELLED, "cancelled");
            else if (pread(from, buffer, count, start) != (ssize_t)count || pwrite(to, buffer, count, start) != (ssize_t)count)
                code = failure(me, call, "copy");
            start += (off_t)count;
            if (delay) usleep(delay);
        }
    }
    free(buffer);
    return code;
}

static int64_t size_of(const char *path) {
    struct stat info;
    return stat(path, &info) ? -1 : (int64_t)info.st_size;
}

/* Gives the path a file with the bytes of another one, or with none, of so many bytes (0: as many as that one has). */
static int make(struct mutant *me, clinker_call *call, const char *path, const char *source, uint64_t bytes, int is_clone) {
    char temporary[PATH_SIZE];
    int from = source ? open(source, O_RDONLY | O_CLOEXEC) : -1;
    if (source && from < 0) return failure(me, call, source);
    /* Half of it under its own name, should the process die. */
    int is_direct = is_clone && BUG("clone_direct");
    int fd = is_direct ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : begin_file(me, call, path, temporary);
    int code = fd < 0 ? CLINKER_ERROR : CLINKER_OK;
    if (!code && source) code = copy_data(me, call, from, fd, is_direct ? 5000 : 0);
    if (!code && source && !bytes) bytes = (uint64_t)size_of(source);
    if (!code && ftruncate(fd, (off_t)bytes)) code = failure(me, call, path);
    if (!code && is_clone && BUG("clone_junk") && bytes > (uint64_t)size_of(source))
        code = pwrite(fd, "junk", 4, (off_t)(size_of(source) + (64 << 20) + 4096)) == 4 ? CLINKER_OK : failure(me, call, path);
    if (!code && is_clone && BUG("clone_last_block") &&
        fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(size_of(source) - 4096), 4096))
        code = failure(me, call, path);
    if (from >= 0) close(from);
    if (code) {
        if (fd >= 0) close(fd);
        return code;
    }
    if (is_direct) return close(fd), CLINKER_OK;
    return finish_file(me, call, fd, temporary, path);
}

int mutant_create_volume(void *instance, clinker_call *call) {
    struct mutant *me = instance;
    char path[PATH_SIZE];
    enter(me, call);
    int64_t size = clinker_integer(call, "volume.size", 0);
    if (path_of(me, call, "volume.name", path)) return CLINKER_INVALID;
    if (size <= 0 && !BUG("size_none")) return clinker_fail(call, CLINKER_INVALID, "volume.size must be a number of GiB");
    if (size > 1 << 20) return clinker_fail(call, CLINKER_INVALID, "a volume of %lld GiB is too large", (long long)size);
    if (BUG("size_rounded")) size = (size + 1) / 2 * 2;
    uint64_t bytes = (uint64_t)size << 30;
    if (BUG("size_32_bits")) bytes = (uint32_t)bytes ? (uint32_t)bytes : bytes;
    if (BUG("size_short")) bytes -= 4096;
    if (BUG("data_long")) {
        char text[5000];
        memset(text, 'x', sizeof text - 1), text[sizeof text - 1] = 0;
        call->host->set_string(call, "data", text);
    } else call->host->set_string(call, "data", BUG("utf8_data") ? "share-\xc3\x28" : "share-1");
    if (BUG("lock_left")) {
        char lock[PATH_SIZE + 8];
        snprintf(lock, sizeof lock, "%s.lock", path);
        int fd = open(lock, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0) return clinker_fail(call, CLINKER_BUSY, "%s is locked", path);
        usleep(50000);
        close(fd), unlink(lock);
    }
    if (size_of(path) >= 0 && BUG("create_exists")) return clinker_fail(call, CLINKER_EXISTS, "%s exists", path);
    if (size_of(path) >= 0 && !BUG("create_wipes")) return CLINKER_OK;
    if (BUG("create_slot")) {
        /* Storage that gives what is free without clearing it. */
        char old[PATH_SIZE];
        snprintf(old, sizeof old, "%s/.deleted", me->directory);
        if (!rename(old, path)) return truncate(path, (off_t)bytes) ? failure(me, call, path) : CLINKER_OK;
    }
    return make(me, call, path, NULL, bytes, 0);
}

int mutant_delete_volume(void *instance, clinker_call *call) {
    struct mutant *me = instance;
    char path[PATH_SIZE], temporary[PATH_SIZE];
    enter(me, call);
    if (path_of(me, call, "volume.name", path)) return CLINKER_INVALID;
    if (BUG("delete_nothing")) return CLINKER_OK;
    if (BUG("create_slot")) {
        snprintf(temporary, sizeof temporary, "%s/.deleted", me->directory);
        return rename(path, temporary) && errno != ENOENT ? failure(me, call, path) : CLINKER_OK;
    }
    if (!BUG("debris")) {
        snprintf(temporary, sizeof temporary, "%s/.%s.partial", me->directory, strrchr(path, '/') + 1);
        unlink(temporary);
    }
    if (unlink(path) && (errno != ENOENT || BUG("delete_gone"))) return failure(me, call, path);
    return CLINKER_OK;
}

int mutant_extend_volume(void *instance, clinker_call *call) {
    struct mutant *me = instance;
    char path[PATH_SIZE];
    enter(me, call);
    if (path_of(me, call, "volume.name", path)) return CLINKER_INVALID;
    off_t wanted = (off_t)clinker_integer(call, "new_size", 0) << 30;
    int64_t now = size_of(path);
    if (now < 0) return failure(me, call, path);
    if (wanted <= 0) return clinker_fail(call, CLINKER_INVALID, "new_size must be a number of GiB");
    if (BUG("unsupported_after") && now < wanted) return truncate(path, wanted) ? failure(me, call, path) : CLINKER_UNSUPPORTED;
    if (BUG("extend_repeated") && now == wanted) return clinker_fail(call, CLINKER_INVALID, "it has that size");
    if (BUG("extend_nothing")) return CLINKER_OK;
    if (BUG("extend_short")) wanted -= 4096;
    if (now < wanted || BUG("extend_shrinks")) {
        if (truncate(path, wanted)) return failure(me, call, path);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        if (BUG("extend_last_block")) (void)!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, now - 4096, 4096);
        if (BUG("extend_junk")) (void)!pwrite(fd, "junk", 4, now + (128 << 20) + 512);
        if (fsync(fd)) abort();
        close(fd);
    }
    return CLINKER_OK;
}

int mutant_clone_volume(void *instance, clinker_call *call) {
    struct mutant *me = instance;
    char path[PATH_SIZE], source[PATH_SIZE];
    enter(me, call);
    if (path_of(me, call, "volume.name", path) || path_of(me, call, "source.name", source)) return CLINKER_INVALID;
    uint64_t bytes = (uint64_t)clinker_integer(call, "volume.size", 0) << 30;
    if (BUG("unsupported_clone")) return make(me, call, path, source, bytes, 1) ? CLINKER_ERROR : CLINKER_UNSUPPORTED;
    if (size_of(source) >= 0 && size_of(path) >= 0)
        return BUG("clone_exists") ? clinker_fail(call, CLINKER_EXISTS, "%s exists", path) : CLINKER_OK;
    if (BUG("clone_linked")) return link(source, path) ? failure(me, call, source) : CLINKER_OK;
    if (BUG("clone_moves")) return rename(source, path) ? failure(me, call, source) : CLINKER_OK;
    return make(me, call, path, source, BUG("clone_small") ? 0 : bytes, 1);
}

int mutant_create_snapshot(void *instance, clinker_call *call) {
    struct mutant *me = instance;
    char path[PATH_SIZE], source[PATH_SIZE];
    enter(me, call);
    if (path_of(me, call, "snapshot.name", path) || path_of(me, call, "volume.name", source)) return CLINKER_INVALID;
    if (size_of(path) >= 0 && !BUG("snapshot_again")) return CLINKER_OK;
    if (BUG("snapshot_live")) return link(source, path) ? failure(me, call, source) : CLINKER_OK;
    return make(me, call, path, source, 0, 0);
}

int mutant_delete_snapshot(void *instance, clinker_call *call) {
    struct mutant *me = instance;
    char path[PATH_SIZE], source[PATH_SIZE];
    enter(me, call);
    if (path_of(me, call, "snapshot.name", path) || path_of(me, call, "volume.name", source)) return CLINKER_INVALID;
    if (BUG("snapshot_orphaned") && size_of(source) < 0) return CLINKER_OK;
    return unlink(path) && errno != ENOENT ? failure(me, call, path) : CLINKER_OK;
}

int mutant_create_volume_from_snapshot(void *instance, clinker_call *call) {
    struct mutant *me = instance;
    char path[PATH_SIZE], source[PATH_SIZE];
    enter(me, call);
    const char *argument = BUG("from_volume") ? "source.name" : "snapshot.name";
    if (path_of(me, call, "volume.name", path) || path_of(me, call, argument, source)) return CLINKER_INVALID;
    if (size_of(path) >= 0) return CLINKER_OK;
    uint64_t bytes = (uint64_t)clinker_integer(call, "volume.size", 0) << 30;
    int code = make(me, call, path, source, bytes, 0);
    if (!code && BUG("from_snapshot_junk") && bytes > (uint64_t)size_of(source)) {
        int fd = open(path, O_RDWR | O_CLOEXEC);
        (void)!pwrite(fd, "junk", 4, (off_t)bytes - 4096);
        close(fd);
    }
    return code;
}

int mutant_revert_to_snapshot(void *instance, clinker_call *call) {
    struct mutant *me = instance;
    char path[PATH_SIZE], source[PATH_SIZE];
    enter(me, call);
    if (path_of(me, call, "volume.name", path) || path_of(me, call, "snapshot.name", source)) return CLINKER_INVALID;
    if (BUG("revert_nothing")) return CLINKER_OK;
    if (BUG("revert_moves")) return rename(source, path) ? failure(me, call, source) : CLINKER_OK;
    if (BUG("revert_first_wipes") && truncate(path, 0)) return failure(me, call, path);
    if (BUG("revert_half")) {
        /* What came after the snapshot stays where the snapshot has nothing. */
        int from = open(source, O_RDONLY | O_CLOEXEC), to = open(path, O_RDWR | O_CLOEXEC);
        int code = from < 0 || to < 0 ? failure(me, call, source) : copy_data(me, call, from, to, 0);
        if (from >= 0) close(from);
        if (to >= 0) close(to);
        return code;
    }
    return make(me, call, path, source, 0, 0);
}
