/* simple: volumes as files of a directory, in plain C. A driver as small as one can be: what it leaves out (clones, for
 * one) the host does over its block handles. Options: directory (absolute), delay_ms, connect_delay_ms (for tests).
 *     cc -std=c11 -Wall -Werror -fPIC -shared -I<Clinker>/Sources/CDriver/include -o clinker-simple.so simple.c */
#define _GNU_SOURCE
#include <clinker/driver.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct simple {
    char directory[512];
    unsigned delay_ms, connect_delay_ms;
};

static int failure(clinker_call *call, const char *what) {
    int code = errno == ENOENT ? CLINKER_NOT_FOUND : errno == ENOSPC ? CLINKER_NO_SPACE : CLINKER_ERROR;
    return clinker_fail(call, code, "%s: %s", what, strerror(errno));
}

static int simple_open(clinker_call *call, void **instance) {
    const char *directory = clinker_string(call, "directory");
    if (!directory || directory[0] != '/' || strlen(directory) >= sizeof((struct simple *)0)->directory)
        return clinker_fail(call, CLINKER_BAD_CONFIGURATION, "directory must be an absolute path");
    if (mkdir(directory, 0700) && errno != EEXIST) return failure(call, directory);
    struct simple *me = calloc(1, sizeof *me);
    if (!me) return clinker_fail(call, CLINKER_RETRY, "out of memory");
    strcpy(me->directory, directory);
    me->delay_ms = (unsigned)clinker_integer(call, "delay_ms", 0);
    me->connect_delay_ms = (unsigned)clinker_integer(call, "connect_delay_ms", 0);
    *instance = me;
    return CLINKER_OK;
}

static void simple_close(void *instance) { free(instance); }

static int simple_capabilities(void *instance, clinker_call *call) {
    (void)instance;
    call->host->set_string(call, "storage_protocol", "file");
    call->host->set_boolean(call, "thin_provisioning_support", 1);
    return CLINKER_OK;
}

static int simple_stats(void *instance, clinker_call *call) {
    (void)instance;
    const clinker_host *host = call->host;
    host->begin_list(call, "pools");
    host->begin_object(call, NULL);
    host->set_string(call, "name", "simple");
    host->set_real(call, "total_capacity_gb", 1000);
    host->set_real(call, "free_capacity_gb", 900);
    host->end(call);
    host->end(call);
    return CLINKER_OK;
}

/* Names come from the host, yet none may lead out of the directory. */
static int path_of(struct simple *me, clinker_call *call, char *path, size_t size) {
    const char *name = clinker_string(call, "volume.name");
    if (!name || !*name || *name == '.' || strchr(name, '/')) return clinker_fail(call, CLINKER_INVALID, "no name of a volume");
    snprintf(path, size, "%s/%s", me->directory, name);
    return CLINKER_OK;
}

static int size_file(void *instance, clinker_call *call, const char *argument, int flags) {
    char path[1024];
    off_t wanted = (off_t)clinker_integer(call, argument, 0) << 30;
    if (path_of(instance, call, path, sizeof path)) return CLINKER_INVALID;
    if (wanted <= 0) return clinker_fail(call, CLINKER_INVALID, "%s must be a number of GiB", argument);
    int fd = open(path, O_RDWR | O_CLOEXEC | flags, 0600);
    if (fd < 0) return failure(call, path);
    struct stat info;
    int bad = fstat(fd, &info) || (info.st_size < wanted && ftruncate(fd, wanted)) || fsync(fd);
    int code = bad ? failure(call, path) : CLINKER_OK;
    close(fd);
    return code;
}

static int simple_create_volume(void *instance, clinker_call *call) {
    usleep(((struct simple *)instance)->delay_ms * 1000);
    clinker_log(call, CLINKER_INFO, "making a file");
    return size_file(instance, call, "volume.size", O_CREAT);
}

static int simple_extend_volume(void *instance, clinker_call *call) { return size_file(instance, call, "new_size", 0); }

static int simple_delete_volume(void *instance, clinker_call *call) {
    char path[1024];
    if (path_of(instance, call, path, sizeof path)) return CLINKER_INVALID;
    return unlink(path) && errno != ENOENT ? failure(call, path) : CLINKER_OK;
}

static int simple_connect_volume(void *instance, clinker_call *call) {
    char path[1024];
    if (path_of(instance, call, path, sizeof path)) return CLINKER_INVALID;
    if (access(path, F_OK)) return failure(call, path);
    for (unsigned waited = 0; waited < ((struct simple *)instance)->connect_delay_ms; waited += 10) {
        if (clinker_cancelled(call)) return clinker_fail(call, CLINKER_CANCELLED, "cancelled after %u ms", waited);
        usleep(10000);
    }
    if (!clinker_string(call, "connector.host")) return clinker_fail(call, CLINKER_INVALID, "the connector names no host");
    call->host->set_string(call, "driver_volume_type", "local");
    call->host->begin_object(call, "data");
    call->host->set_string(call, "device_path", path);
    call->host->end(call);
    return CLINKER_OK;
}

static int simple_open_handle(void *instance, clinker_call *call, uint32_t flags, void **handle) {
    char path[1024];
    if (path_of(instance, call, path, sizeof path)) return CLINKER_INVALID;
    int fd = open(path, (flags & CLINKER_HANDLE_WRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (fd < 0) return failure(call, path);
    *handle = (void *)(intptr_t)(fd + 1); /* never NULL */
    return CLINKER_OK;
}

static int fd_of(void *handle) { return (int)(intptr_t)handle - 1; }
static void simple_close_handle(void *handle) { close(fd_of(handle)); }

static int simple_get_size(void *handle, clinker_call *call, uint64_t *bytes) {
    struct stat info;
    if (fstat(fd_of(handle), &info)) return failure(call, "size");
    *bytes = (uint64_t)info.st_size;
    return CLINKER_OK;
}

static int simple_read(void *handle, clinker_call *call, void *buffer, uint64_t offset, uint64_t length) {
    errno = EIO; /* of a short one, which sets none */
    return pread(fd_of(handle), buffer, length, (off_t)offset) == (ssize_t)length ? CLINKER_OK : failure(call, "read");
}

static int simple_write(void *handle, clinker_call *call, const void *buffer, uint64_t offset, uint64_t length) {
    struct stat info;
    if (fstat(fd_of(handle), &info)) return failure(call, "size");
    uint64_t size = (uint64_t)info.st_size;
    if (offset > size || length > size - offset) return clinker_fail(call, CLINKER_INVALID, "the volume ends here");
    return pwrite(fd_of(handle), buffer, length, (off_t)offset) == (ssize_t)length ? CLINKER_OK : failure(call, "write");
}

static int simple_flush(void *handle, clinker_call *call) { return fsync(fd_of(handle)) ? failure(call, "flush") : CLINKER_OK; }

static const clinker_driver driver = {
    .abi = CLINKER_DRIVER_ABI, .size = sizeof(clinker_driver), .name = "simple", .version = "1.0", .vendor = "Clinker",
    .kind = CLINKER_VOLUME_DRIVER, .threads = CLINKER_THREADS_PARALLEL, .open = simple_open, .close = simple_close,
    .capabilities = simple_capabilities, .stats = simple_stats, .create_volume = simple_create_volume,
    .delete_volume = simple_delete_volume, .extend_volume = simple_extend_volume, .connect_volume = simple_connect_volume,
    .open_handle = simple_open_handle, .close_handle = simple_close_handle, .get_size = simple_get_size, .read = simple_read,
    .write = simple_write, .flush = simple_flush,
};
CLINKER_DRIVER(driver)
