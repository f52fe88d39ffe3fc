/* example: a store of backups for Clinker. It keeps objects as files of a directory in this machine's memory, so that all of it
 * works before you put your own storage in its place. */
#define _GNU_SOURCE
#include <clinker/driver.h>
#include <dirent.h>
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

enum { PATH_SIZE = 2048 };

/* What errno means for the host: it decides by the code what to do next. */
static int failure(clinker_call *call, const char *what) {
    int code = errno == ENOENT || errno == ENOTDIR                      ? CLINKER_NOT_FOUND
               : errno == ENOSPC || errno == EDQUOT                     ? CLINKER_NO_SPACE
               : errno == EACCES || errno == EPERM || errno == EROFS    ? CLINKER_BAD_CONFIGURATION
               : errno == EISDIR || errno == EEXIST || errno == ENOTEMPTY ? CLINKER_EXISTS
               : errno == ENAMETOOLONG                                  ? CLINKER_INVALID
                                                                        : CLINKER_ERROR;
    return clinker_fail(call, code, "%s: %s", what, strerror(errno));
}

static int example_open(clinker_call *call, void **instance) {
    const char *directory = clinker_string(call, "directory"); /* an option of the store's section */
    struct example *me = calloc(1, sizeof *me);
    char hidden[600];
    if (!me) return clinker_fail(call, CLINKER_RETRY, "out of memory");
    snprintf(me->directory, sizeof me->directory, "%s", directory ? directory : "/dev/shm/clinker-example");
    snprintf(hidden, sizeof hidden, "%s/.partial", me->directory);
    if ((mkdir(me->directory, 0700) && errno != EEXIST) || (mkdir(hidden, 0700) && errno != EEXIST)) {
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
    call->host->set_boolean(call, "consistent_list", 1);
    return CLINKER_OK;
}

static int example_stats(void *instance, clinker_call *call) {
    struct statvfs info;
    if (statvfs(((struct example *)instance)->directory, &info)) return failure(call, "capacity");
    double block = (double)info.f_frsize / (1 << 30);
    call->host->set_real(call, "total_capacity_gb", (double)info.f_blocks * block);
    call->host->set_real(call, "free_capacity_gb", (double)info.f_bavail * block);
    return CLINKER_OK;
}

/* Names come from the host, yet none may lead elsewhere: the rule of the header. */
static int path_of(struct example *me, clinker_call *call, const char *name, char *path) {
    size_t length = strlen(name), word = 0, words = 1;
    int is_bad = length == 0 || length > 1024;
    for (size_t index = 0; index <= length && !is_bad; index++) {
        unsigned char byte = (unsigned char)name[index];
        if (byte == '/' || byte == 0) {
            is_bad = word == 0 || word > 255;
            words += byte == '/';
            word = 0;
        } else {
            is_bad = byte < 0x20 || byte == 0x7F || (byte == '.' && word == 0);
            word++;
        }
    }
    if (is_bad || words > 64) return clinker_fail(call, CLINKER_INVALID, "that is no name of an object");
    snprintf(path, PATH_SIZE, "%s/%s", me->directory, name);
    return CLINKER_OK;
}

/* -- an object that is being written: a hidden file, which gets its name when it is whole ----------------------------- */

struct writer {
    struct example *me;
    char path[PATH_SIZE], hidden[PATH_SIZE];
    int file;
};

static int example_put_open(void *instance, clinker_call *call, const char *name, void **result) {
    struct writer *writer = calloc(1, sizeof *writer);
    if (!writer) return clinker_fail(call, CLINKER_RETRY, "out of memory");
    writer->me = instance;
    snprintf(writer->hidden, PATH_SIZE, "%s/.partial/XXXXXX", writer->me->directory);
    int code = path_of(writer->me, call, name, writer->path);
    if (!code && (writer->file = mkostemp(writer->hidden, O_CLOEXEC)) < 0) code = failure(call, name);
    if (code) free(writer);
    else *result = writer;
    return code;
}

static int example_put_write(void *raw, clinker_call *call, const void *bytes, uint64_t length) {
    struct writer *writer = raw;
    for (const char *from = bytes; length;) {
        ssize_t count = write(writer->file, from, length);
        if (count < 0) return failure(call, "write");
        from += count, length -= (uint64_t)count;
    }
    return CLINKER_OK;
}

/* Renames the file; the folders of its name are made, and may be removed by others before there is a file in them. */
static int give_name(struct writer *writer, clinker_call *call) {
    for (int round = 0; round < 1000; round++) {
        for (char *slash = writer->path + strlen(writer->me->directory) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
            *slash = 0;
            mkdir(writer->path, 0700); /* if it cannot be made, the rename says why */
        }
        if (!rename(writer->hidden, writer->path)) return CLINKER_OK;
        if (errno == ENOTDIR) return clinker_fail(call, CLINKER_EXISTS, "an object has the name of a folder");
        if (errno != ENOENT && !(errno == EISDIR && !rmdir(writer->path))) return failure(call, "rename");
    }
    return clinker_fail(call, CLINKER_RETRY, "the folder is removed as often as it is made");
}

static int example_put_close(void *raw, clinker_call *call, int commit) {
    struct writer *writer = raw;
    int code = !commit ? CLINKER_OK : fsync(writer->file) ? failure(call, "fsync") : give_name(writer, call);
    if (!commit || code) unlink(writer->hidden);
    close(writer->file);
    free(writer);
    return code;
}

static int example_put(void *instance, clinker_call *call, const char *name, const clinker_slice *slices, uint32_t count,
                       const unsigned char *sha256) {
    void *writer;
    (void)sha256;
    int code = example_put_open(instance, call, name, &writer);
    if (code) return code;
    for (uint32_t index = 0; index < count && !code; index++)
        code = example_put_write(writer, call, slices[index].bytes, slices[index].length);
    if (!code) return example_put_close(writer, call, 1);
    example_put_close(writer, call, 0);
    return code;
}

/* -- reading ---------------------------------------------------------------------------------------------------------- */

static int example_stat_object(void *instance, clinker_call *call, const char *name, clinker_object *object) {
    char path[PATH_SIZE];
    struct stat info;
    if (path_of(instance, call, name, path)) return CLINKER_INVALID;
    if (lstat(path, &info)) return failure(call, name);
    if (!S_ISREG(info.st_mode)) return clinker_fail(call, CLINKER_NOT_FOUND, "there is no object %s", name);
    object->length = (uint64_t)info.st_size;
    object->modified = info.st_mtime;
    return CLINKER_OK;
}

static int example_get(void *instance, clinker_call *call, const char *name, void *buffer, uint64_t offset, uint64_t length,
                       uint64_t *done) {
    char path[PATH_SIZE];
    clinker_object object = {.size = sizeof object};
    int code = example_stat_object(instance, call, name, &object);
    if (code) return code;
    if (path_of(instance, call, name, path)) return CLINKER_INVALID;
    int file = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (file < 0) return failure(call, name);
    for (*done = 0; *done < length && !code;) {
        ssize_t count = pread(file, (char *)buffer + *done, length - *done, (off_t)(offset + *done));
        if (count < 0) code = failure(call, name);
        if (count <= 0) break;
        *done += (uint64_t)count;
    }
    close(file);
    return code;
}

struct listing {
    struct example *me;
    const char *prefix, *after;
    clinker_object_function each;
    void *opaque;
};

/* A folder comes where its name with a slash does. */
static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Walks a folder, whose name is empty or ends with a slash, in the order of names; other than 0 ends it. */
static int walk(const struct listing *list, const char *folder) {
    char path[PATH_SIZE], **names = NULL;
    size_t count = 0, room = 0;
    int stop = 0;
    snprintf(path, sizeof path, "%s/%s", list->me->directory, folder);
    DIR *directory = opendir(path);
    if (!directory) return 0; /* removed meanwhile */
    for (struct dirent *entry; (entry = readdir(directory));) {
        char name[PATH_SIZE];
        struct stat info;
        if (entry->d_name[0] == '.' || fstatat(dirfd(directory), entry->d_name, &info, AT_SYMLINK_NOFOLLOW)) continue;
        int is_folder = S_ISDIR(info.st_mode);
        if (!is_folder && !S_ISREG(info.st_mode)) continue;
        if (snprintf(name, sizeof name, "%s%s%s", folder, entry->d_name, is_folder ? "/" : "") >= (int)sizeof name) continue;
        if (count == room && !(names = realloc(names, (room = room ? 2 * room : 64) * sizeof *names))) abort();
        if (!(names[count++] = strdup(name))) abort();
    }
    closedir(directory);
    if (count) qsort(names, count, sizeof *names, by_name);
    for (size_t index = 0; index < count; index++) {
        char *name = names[index];
        struct stat info;
        size_t length = strlen(name), wanted = strlen(list->prefix);
        if (!stop && name[length - 1] == '/') {
            if (!strncmp(name, list->prefix, length < wanted ? length : wanted)) stop = walk(list, name);
        } else if (!stop && !strncmp(name, list->prefix, wanted) && strcmp(name, list->after) > 0) {
            snprintf(path, sizeof path, "%s/%s", list->me->directory, name);
            clinker_object object = {.size = sizeof object, .name = name};
            if (!lstat(path, &info)) {
                object.length = (uint64_t)info.st_size;
                object.modified = info.st_mtime;
                stop = list->each(list->opaque, &object);
            }
        }
        free(name);
    }
    free(names);
    return stop;
}

static int example_list(void *instance, clinker_call *call, const char *prefix, const char *after, clinker_object_function each,
                        void *opaque) {
    struct listing list = {instance, prefix, after, each, opaque};
    if (access(list.me->directory, R_OK | X_OK)) return clinker_fail(call, CLINKER_BAD_CONFIGURATION, "the directory is gone");
    return walk(&list, "");
}

static int example_remove(void *instance, clinker_call *call, const char *const *names, uint32_t count) {
    int first = CLINKER_OK;
    size_t root = strlen(((struct example *)instance)->directory);
    for (uint32_t index = 0; index < count; index++) {
        char path[PATH_SIZE];
        int code = path_of(instance, call, names[index], path);
        /* A folder is no object. */
        if (!code && unlink(path) && errno != ENOENT && errno != ENOTDIR && errno != EISDIR) code = failure(call, names[index]);
        /* Folders that became empty. */
        for (char *slash; !code && (slash = strrchr(path, '/')) > path + root;) {
            *slash = 0;
            if (rmdir(path)) break;
        }
        if (code && !first) first = code;
    }
    return first;
}

static const clinker_store store = {
    .abi = CLINKER_DRIVER_ABI, .size = sizeof(clinker_store), .name = "example", .version = "0.1", .vendor = "You",
    .kind = CLINKER_BACKUP_DRIVER, .threads = CLINKER_THREADS_PARALLEL, .open = example_open, .close = example_close,
    .capabilities = example_capabilities, .stats = example_stats, .put = example_put, .get = example_get,
    .stat_object = example_stat_object, .list = example_list, .remove = example_remove, .put_open = example_put_open,
    .put_write = example_put_write, .put_close = example_put_close,
};
CLINKER_STORE(store)
