/* Block handles. */
#include "mutants.h"

struct handle {
    struct mutant *me;
    int fd, is_writable;
    char path[PATH_SIZE];
    /* for one that keeps what it was given to itself */
    char *cache;
    uint64_t cached_at, cached;
    pthread_mutex_t mutex;
    unsigned under_way, requests;
    clinker_request last;
};

static int last_descriptor;

int mutant_open_handle(void *instance, clinker_call *call, uint32_t flags, void **handle) {
    struct mutant *me = instance;
    int is_snapshot = clinker_string(call, "snapshot.name") != NULL;
    struct handle *made = calloc(1, sizeof *made);
    if (!made) return clinker_fail(call, CLINKER_RETRY, "out of memory");
    enter(me, call);
    made->me = me;
    int code = path_of(me, call, is_snapshot ? "snapshot.name" : "volume.name", made->path);
    if (!code && is_snapshot && flags & CLINKER_HANDLE_WRITE && !BUG("snapshot_writes"))
        code = clinker_fail(call, CLINKER_INVALID, "a snapshot is not written");
    if (!code && BUG("data_needed") && !is_snapshot && !clinker_string(call, "volume.data"))
        code = clinker_fail(call, CLINKER_NOT_FOUND, "where it lies is not known");
    if (!code) {
        made->is_writable = flags & CLINKER_HANDLE_WRITE || BUG("handle_reading_writes") ||
                            (is_snapshot && BUG("snapshot_handle_writes"));
        made->fd = open(made->path, (made->is_writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | (BUG("handle_creates") ? O_CREAT : 0), 0600);
        if (made->fd < 0) code = failure(me, call, made->path);
    }
    if (code) {
        free(made);
        return code;
    }
    pthread_mutex_init(&made->mutex, NULL);
    last_descriptor = made->fd;
    *handle = made;
    return CLINKER_OK;
}

/* One descriptor for all handles, where they share what they must not. */
static int fd_of(struct handle *mine) { return bug(mine->me, "globals_handle") ? last_descriptor : mine->fd; }

static int write_cached(struct handle *mine) {
    int bad = mine->cached && pwrite(mine->fd, mine->cache, mine->cached, (off_t)mine->cached_at) != (ssize_t)mine->cached;
    mine->cached = 0;
    return bad;
}

void mutant_close_handle(void *handle) {
    struct handle *mine = handle;
    const struct mutant *me = mine->me;
    for (;;) { /* the host closes no handle with requests under way; one that does not wait for their ends would die here */
        pthread_mutex_lock(&mine->mutex);
        unsigned under_way = mine->under_way;
        pthread_mutex_unlock(&mine->mutex);
        if (!under_way) break;
        usleep(1000);
    }
    if (write_cached(mine)) abort();
    free(mine->cache);
    if (!BUG("leak_descriptor_handle") && !BUG("globals_handle")) close(mine->fd);
    if (!BUG("leak_memory_handle")) free(mine);
}

static uint64_t size_of(struct handle *mine) {
    struct stat info;
    return fstat(fd_of(mine), &info) ? 0 : (uint64_t)info.st_size;
}

int mutant_get_size(void *handle, clinker_call *call, uint64_t *bytes) {
    struct handle *mine = handle;
    (void)call;
    *bytes = size_of(mine);
    return CLINKER_OK;
}

int mutant_block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum) {
    const struct mutant *me = ((struct handle *)handle)->me;
    *minimum = BUG("block_size_odd") ? 3000 : (uint32_t)me->minimum;
    *preferred = 1 << 20;
    *maximum = BUG("block_size_none") ? 0 : (uint32_t)me->maximum;
    return CLINKER_OK;
}

/* OK if the range lies in the volume, and the sizes are kept that this driver has asked for. */
static int range(struct handle *mine, clinker_call *call, uint64_t offset, uint64_t length, int is_writing) {
    const struct mutant *me = mine->me;
    uint64_t size = size_of(mine);
    if (is_writing && !mine->is_writable) return clinker_fail(call, CLINKER_INVALID, "the handle is for reading");
    if (length > (uint64_t)me->maximum) return clinker_fail(call, CLINKER_INVALID, "%llu bytes at once", (unsigned long long)length);
    if ((offset | length) & (uint64_t)(me->minimum - 1)) return clinker_fail(call, CLINKER_INVALID, "not in whole blocks");
    if (offset > size || length > size - offset) {
        if (is_writing ? BUG("write_past_end") : BUG("read_past_end")) return CLINKER_OK;
        return clinker_fail(call, CLINKER_INVALID, "behind the end");
    }
    return CLINKER_OK;
}

int mutant_read(void *handle, clinker_call *call, void *buffer, uint64_t offset, uint64_t length) {
    struct handle *mine = handle;
    struct mutant *me = mine->me;
    int code = range(mine, call, offset, length, 0);
    if (code) return code;
    if (BUG("offset_32_bits")) offset = (uint32_t)offset;
    if (BUG("read_short") && length > 1 << 20) length = 1 << 20;
    if (BUG("read_stale") && mine->requests++ && mine->last.length == length) return memcpy(buffer, me->shared, length), CLINKER_OK;
    void *target = BUG("threads_buffer") && length <= sizeof me->shared ? me->shared : buffer;
    ssize_t count = pread(fd_of(mine), target, length, (off_t)offset);
    if (BUG("read_past_end") && count >= 0 && (uint64_t)count < length) memset((char *)target + count, 0, length - (uint64_t)count);
    else if (count != (ssize_t)length) return failure(me, call, "read");
    if (target != buffer) usleep(100), memcpy(buffer, target, length);
    if (mine->cached && offset < mine->cached_at + mine->cached && mine->cached_at < offset + length) {
        uint64_t from = offset > mine->cached_at ? offset : mine->cached_at;
        uint64_t to = offset + length < mine->cached_at + mine->cached ? offset + length : mine->cached_at + mine->cached;
        memcpy((char *)buffer + (from - offset), mine->cache + (from - mine->cached_at), to - from);
    }
    if (BUG("read_stale") && length <= sizeof me->shared) mine->last.length = length, memcpy(me->shared, buffer, length);
    return CLINKER_OK;
}

int mutant_write(void *handle, clinker_call *call, const void *buffer, uint64_t offset, uint64_t length) {
    struct handle *mine = handle;
    struct mutant *me = mine->me;
    int code = range(mine, call, offset, length, 1);
    if (code) return code;
    if (BUG("offset_32_bits")) offset = (uint32_t)offset;
    if (BUG("write_short") && length > 1 << 20) length = 1 << 20;
    if (BUG("write_lost") && mine->requests++ % 97 == 96) return CLINKER_OK;
    if (BUG("write_rounded") && length > 4096) length = length / 4096 * 4096;
    if (BUG("flush_nothing")) {
        if (write_cached(mine)) return failure(me, call, "write");
        char *cache = realloc(mine->cache, length);
        if (!cache) return clinker_fail(call, CLINKER_RETRY, "out of memory");
        mine->cache = memcpy(cache, buffer, length);
        mine->cached = length, mine->cached_at = offset;
        return CLINKER_OK;
    }
    if (BUG("threads_buffer") && length <= sizeof me->shared) buffer = memcpy(me->shared, buffer, length), usleep(100);
    return pwrite(fd_of(mine), buffer, length, (off_t)offset) == (ssize_t)length ? CLINKER_OK : failure(me, call, "write");
}

static int punch(struct handle *mine, clinker_call *call, uint64_t offset, uint64_t length) {
    int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    return length && fallocate(fd_of(mine), mode, (off_t)offset, (off_t)length) ? failure(mine->me, call, "zero") : CLINKER_OK;
}

int mutant_zero(void *handle, clinker_call *call, uint64_t offset, uint64_t length) {
    struct handle *mine = handle;
    const struct mutant *me = mine->me;
    int code = range(mine, call, offset, length, 1);
    if (code || BUG("zero_nothing")) return code;
    uint64_t first = offset, last = offset + length;
    if (BUG("zero_outwards")) first = first / 4096 * 4096, last = (last + 4095) / 4096 * 4096;
    if (BUG("zero_inwards")) first = (first + 4095) / 4096 * 4096, last = last / 4096 * 4096;
    if (BUG("zero_large") && length > 16 << 20) last = first + (16 << 20);
    return first < last ? punch(mine, call, first, last - first) : CLINKER_OK;
}

int mutant_discard(void *handle, clinker_call *call, uint64_t offset, uint64_t length) {
    struct handle *mine = handle;
    const struct mutant *me = mine->me;
    int code = range(mine, call, offset, length, 1);
    if (code) return code;
    /* Whole blocks within the range: what is left of it keeps its bytes. */
    uint64_t first = (offset + 4095) / 4096 * 4096, last = (offset + length) / 4096 * 4096;
    if (BUG("discard_outwards")) first = offset / 4096 * 4096, last = (offset + length + 4095) / 4096 * 4096;
    if (BUG("discard_junk")) {
        char junk[4096];
        memset(junk, 0x5A, sizeof junk);
        for (; first < last; first += sizeof junk)
            if (pwrite(mine->fd, junk, sizeof junk, (off_t)first) < 0) return failure(me, call, "discard");
    }
    return first < last ? punch(mine, call, first, last - first) : CLINKER_OK;
}

int mutant_flush(void *handle, clinker_call *call) {
    struct handle *mine = handle;
    const struct mutant *me = mine->me;
    if (BUG("flush_nothing") || BUG("flush_not_synced")) return CLINKER_OK;
    return fdatasync(fd_of(mine)) ? failure(me, call, "flush") : CLINKER_OK;
}

int mutant_extents(void *handle, clinker_call *call, uint64_t offset, uint64_t length, clinker_extent_function each, void *opaque) {
    struct handle *mine = handle;
    const struct mutant *me = mine->me;
    if (offset + length > size_of(mine)) return clinker_fail(call, CLINKER_INVALID, "behind the end");
    int code = CLINKER_OK;
    uint64_t position = offset, end = offset + length;
    while (position < end && !code) {
        off_t data = lseek(mine->fd, (off_t)position, SEEK_DATA);
        uint64_t next = data < 0 || (uint64_t)data > end ? end : (uint64_t)data;
        if (next > position && !BUG("extents_gap"))
            code = each(opaque, position, next - position, CLINKER_EXTENT_ZERO | CLINKER_EXTENT_HOLE);
        if (code && !BUG("extents_unstopped")) return code;
        code = 0, position = next;
        if (position >= end) break;
        off_t hole = lseek(mine->fd, (off_t)position, SEEK_HOLE);
        next = hole < 0 || (uint64_t)hole > end ? end : (uint64_t)hole;
        uint32_t flags = BUG("extents_small_zero") && next - position < 65536 ? CLINKER_EXTENT_ZERO : CLINKER_EXTENT_DATA;
        if (BUG("extents_beyond")) next = hole < 0 ? next : (uint64_t)hole;
        code = each(opaque, position, next - position, flags);
        if (code && !BUG("extents_unstopped")) return code;
        code = 0, position = next;
        if (BUG("extents_first")) break;
    }
    return CLINKER_OK;
}

/* The first byte of data of either file from the position on. */
static uint64_t next_data(int a, int b, uint64_t position, uint64_t end) {
    enum { piece = 65536 };
    uint64_t start = position;
    off_t one = lseek(a, (off_t)position, SEEK_DATA), other = lseek(b, (off_t)position, SEEK_DATA);
    uint64_t next = end;
    if (one >= 0 && (uint64_t)one < next) next = (uint64_t)one;
    if (other >= 0 && (uint64_t)other < next) next = (uint64_t)other;
    /* Whole pieces. */
    return next / piece * piece > start ? next / piece * piece : next == end ? end : start;
}

int mutant_changed(void *handle, clinker_call *call, uint64_t offset, uint64_t length, clinker_extent_function each, void *opaque) {
    enum { piece = 65536 };
    struct handle *mine = handle;
    struct mutant *me = mine->me;
    char path[PATH_SIZE], now[piece], then[piece];
    int code = path_of(me, call, "since.name", path);
    if (code) return code;
    int since = open(path, O_RDONLY | O_CLOEXEC);
    if (since < 0) return BUG("changed_since_nothing") ? CLINKER_OK : failure(me, call, path);
    uint64_t end = offset + length;
    for (uint64_t position = next_data(mine->fd, since, offset, end); position < end && !code;) {
        uint64_t next = position / piece * piece + piece;
        size_t count = (next < end ? next : end) - position;
        memset(now, 0, piece), memset(then, 0, piece);
        if (pread(mine->fd, now, count, (off_t)position) < 0 || pread(since, then, count, (off_t)position) < 0) {
            code = failure(me, call, path);
            break;
        }
        size_t seen = BUG("changed_half") ? (count > piece / 2 ? piece / 2 : count) : count;
        int is_zero = now[0] == 0 && !memcmp(now, now + 1, count - 1);
        int differs = memcmp(now, then, seen) && !(BUG("changed_no_zeroes") && is_zero);
        if (differs && !BUG("changed_none")) code = each(opaque, position, seen, is_zero ? CLINKER_EXTENT_ZERO : CLINKER_EXTENT_DATA);
        position = next_data(mine->fd, since, next, end);
    }
    close(since);
    return code;
}

struct order {
    struct handle *handle;
    clinker_request *request;
};

static void *serve(void *opaque) {
    struct order *order = opaque;
    struct handle *mine = order->handle;
    const struct mutant *me = mine->me;
    clinker_request *request = order->request, copy = *request;
    if (BUG("submit_swaps")) usleep(500), copy.offset = mine->last.offset;
    uint64_t size = size_of(mine);
    int code = CLINKER_OK;
    if (copy.offset > size || copy.length > size - copy.offset || copy.length > (uint64_t)me->maximum) code = CLINKER_INVALID;
    else if (copy.operation == 0)
        code = pread(mine->fd, copy.buffer, copy.length, (off_t)copy.offset) == (ssize_t)copy.length ? CLINKER_OK : CLINKER_ERROR;
    else if (copy.operation == 1 && BUG("submit_lost") && mine->requests++ % 8 == 7) code = CLINKER_OK;
    else if (copy.operation == 1)
        code = pwrite(mine->fd, copy.buffer, copy.length, (off_t)copy.offset) == (ssize_t)copy.length ? CLINKER_OK : CLINKER_ERROR;
    else code = CLINKER_UNSUPPORTED;
    if (BUG("submit_code")) code = code ? CLINKER_OK : CLINKER_ERROR;
    if (!BUG("submit_never") || copy.offset) request->complete(request, code);
    pthread_mutex_lock(&mine->mutex);
    mine->under_way--;
    pthread_mutex_unlock(&mine->mutex);
    free(order);
    return NULL;
}

int mutant_submit(void *handle, clinker_request *request) {
    struct handle *mine = handle;
    if (request->operation > 1) return CLINKER_UNSUPPORTED;
    struct order *order = malloc(sizeof *order);
    if (!order) return CLINKER_RETRY;
    *order = (struct order){mine, request};
    pthread_mutex_lock(&mine->mutex);
    mine->under_way++;
    mine->last.offset = request->offset;
    pthread_mutex_unlock(&mine->mutex);
    pthread_t thread;
    if (pthread_create(&thread, NULL, serve, order)) {
        pthread_mutex_lock(&mine->mutex);
        mine->under_way--;
        pthread_mutex_unlock(&mine->mutex);
        free(order);
        return CLINKER_RETRY;
    }
    pthread_detach(thread);
    return CLINKER_OK;
}
