/* example: a storage driver for Clinker. It keeps volumes in this machine's memory, so that all of it works before you put
 * your own storage in its place. What it leaves out (clones, for one) the host does over its block handles. */
#define _GNU_SOURCE
#include <clinker/driver.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* An instance: no globals, for one process may open several. */
struct example {
    char directory[512];
};

/* What errno means for the host: it decides by the code what to do next. */
static int failure(clinker_call *call, const char *what) {
    int code = errno == ENOENT ? CLINKER_NOT_FOUND : errno == ENOSPC ? CLINKER_NO_SPACE : CLINKER_ERROR;
    return clinker_fail(call, code, "%s: %s", what, strerror(errno));
}

static int example_open(clinker_call *call, void **instance) {
    const char *directory = clinker_string(call, "directory"); /* an option of the backend's section */
    struct example *me = calloc(1, sizeof *me);
    if (!me) return clinker_fail(call, CLINKER_RETRY, "out of memory");
    snprintf(me->directory, sizeof me->directory, "%s", directory ? directory : "/dev/shm/clinker-example");
    if (mkdir(me->directory, 0700) && errno != EEXIST) {
        int code = clinker_fail(call, CLINKER_BAD_CONFIGURATION, "directory: %s: %s", me->directory, strerror(errno));
        free(me);
        return code;
    }
    *instance = me;
    return CLINKER_OK;
}

static void example_close(void *instance) { free(instance); }

static int example_capabilities(void *instance, clinker_call *call) {
    (void)instance;
    call->host->set_string(call, "storage_protocol", "memory");
    call->host->set_boolean(call, "thin_provisioning_support", 1);
    return CLINKER_OK;
}

static int example_stats(void *instance, clinker_call *call) {
    struct statvfs info;
    if (statvfs(((struct example *)instance)->directory, &info)) return failure(call, "capacity");
    double block = (double)info.f_frsize / (1 << 30);
    call->host->begin_list(call, "pools");
    call->host->begin_object(call, NULL);
    call->host->set_string(call, "name", "example");
    call->host->set_real(call, "total_capacity_gb", (double)info.f_blocks * block);
    call->host->set_real(call, "free_capacity_gb", (double)info.f_bavail * block);
    call->host->end(call);
    call->host->end(call);
    return CLINKER_OK;
}

/* Names come from the host, yet none may lead elsewhere. */
static int path_of(void *instance, clinker_call *call, char *path, size_t size) {
    const char *name = clinker_string(call, "volume.name");
    if (!name || !*name || *name == '.' || strchr(name, '/')) return clinker_fail(call, CLINKER_INVALID, "no name of a volume");
    snprintf(path, size, "%s/%s", ((struct example *)instance)->directory, name);
    return CLINKER_OK;
}

/* May be called again after a crash: what has its size already stays as it is. */
static int size_file(void *instance, clinker_call *call, const char *argument, int flags) {
    char path[1024];
    off_t wanted = (off_t)clinker_integer(call, argument, 0) << 30;
    if (path_of(instance, call, path, sizeof path)) return CLINKER_INVALID;
    if (wanted <= 0) return clinker_fail(call, CLINKER_INVALID, "%s must be a number of GiB", argument);
    int fd = open(path, O_RDWR | O_CLOEXEC | flags, 0600);
    if (fd < 0) return failure(call, path);
    struct stat info;
    int bad = fstat(fd, &info) || (info.st_size < wanted && ftruncate(fd, wanted));
    int code = bad ? failure(call, path) : CLINKER_OK;
    close(fd);
    return code;
}

static int example_create_volume(void *me, clinker_call *call) { return size_file(me, call, "volume.size", O_CREAT); }
static int example_extend_volume(void *me, clinker_call *call) { return size_file(me, call, "new_size", 0); }

static int example_delete_volume(void *instance, clinker_call *call) {
    char path[1024];
    if (path_of(instance, call, path, sizeof path)) return CLINKER_INVALID;
    return unlink(path) && errno != ENOENT ? failure(call, path) : CLINKER_OK;
}

/* How a client on the connector's host gets at the volume: what os-brick is given. */
static int example_connect_volume(void *instance, clinker_call *call) {
    char path[1024];
    if (path_of(instance, call, path, sizeof path)) return CLINKER_INVALID;
    if (access(path, F_OK)) return failure(call, path);
    call->host->set_string(call, "driver_volume_type", "local");
    call->host->begin_object(call, "data");
    call->host->set_string(call, "device_path", path);
    call->host->end(call);
    return CLINKER_OK;
}

/* Block handles: with these the host clones, and copies between backends. */
static int example_open_handle(void *instance, clinker_call *call, uint32_t flags, void **handle) {
    char path[1024];
    if (path_of(instance, call, path, sizeof path)) return CLINKER_INVALID;
    int fd = open(path, (flags & CLINKER_HANDLE_WRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (fd < 0) return failure(call, path);
    *handle = (void *)(intptr_t)(fd + 1); /* never NULL */
    return CLINKER_OK;
}

static int fd_of(void *handle) { return (int)(intptr_t)handle - 1; }
static void example_close_handle(void *handle) { close(fd_of(handle)); }

static int example_get_size(void *handle, clinker_call *call, uint64_t *bytes) {
    struct stat info;
    if (fstat(fd_of(handle), &info)) return failure(call, "size");
    *bytes = (uint64_t)info.st_size;
    return CLINKER_OK;
}

/* A file would grow with what is written behind its end; a volume does not. */
static int check_range(void *handle, clinker_call *call, uint64_t offset, uint64_t length) {
    uint64_t size = 0;
    if (example_get_size(handle, call, &size)) return CLINKER_ERROR;
    if (offset <= size && length <= size - offset) return CLINKER_OK;
    return clinker_fail(call, CLINKER_INVALID, "the volume ends at %llu", (unsigned long long)size);
}

static int example_read(void *handle, clinker_call *call, void *buffer, uint64_t offset, uint64_t length) {
    if (check_range(handle, call, offset, length)) return CLINKER_INVALID;
    errno = EIO; /* of a short one, which sets none */
    return pread(fd_of(handle), buffer, length, (off_t)offset) == (ssize_t)length ? CLINKER_OK : failure(call, "read");
}

static int example_write(void *handle, clinker_call *call, const void *buffer, uint64_t offset, uint64_t length) {
    if (check_range(handle, call, offset, length)) return CLINKER_INVALID;
    errno = ENOSPC;
    return pwrite(fd_of(handle), buffer, length, (off_t)offset) == (ssize_t)length ? CLINKER_OK : failure(call, "write");
}

static int example_zero(void *handle, clinker_call *call, uint64_t offset, uint64_t length) {
    int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    return fallocate(fd_of(handle), mode, (off_t)offset, (off_t)length) ? failure(call, "zero") : CLINKER_OK;
}

/* What `clinker config check` and `clinker driver check` know misspelt names by. */
static const clinker_option options[] = {{.name = "directory", .help = "Where the volumes are."}};

static const clinker_driver driver = {
    .abi = CLINKER_DRIVER_ABI, .size = sizeof(clinker_driver), .name = "example", .version = "0.1", .vendor = "You",
    .kind = CLINKER_VOLUME_DRIVER, .threads = CLINKER_THREADS_PARALLEL, .open = example_open, .close = example_close,
    .capabilities = example_capabilities, .stats = example_stats, .create_volume = example_create_volume,
    .delete_volume = example_delete_volume, .extend_volume = example_extend_volume, .connect_volume = example_connect_volume,
    .open_handle = example_open_handle, .close_handle = example_close_handle, .get_size = example_get_size,
    .read = example_read, .write = example_write, .zero = example_zero,
    .options = options, .option_count = sizeof options / sizeof *options, .option_size = sizeof *options,
};
CLINKER_DRIVER(driver)
