/* What is read, listed and removed. */
#include "mutants.h"

int mutant_get(void *instance, clinker_call *call, const char *name, void *buffer, uint64_t offset, uint64_t length, uint64_t *done) {
    struct mutant *me = instance;
    char path[PATH_SIZE];
    enter(me, call);
    if (path_of(me, call, name, path)) return CLINKER_INVALID;
    if (BUG("list_locks")) pthread_mutex_lock(&me->lock), pthread_mutex_unlock(&me->lock);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    if (file < 0 && BUG("missing_empty")) return *done = 0, CLINKER_OK;
    if (file < 0) return failure(me, call, name);
    if (fstat(file, &info) || !S_ISREG(info.st_mode)) {
        close(file);
        errno = ENOENT;
        return failure(me, call, name);
    }
    if (BUG("get_offset_32_bits")) offset = (uint32_t)offset;
    if (BUG("get_short") && length > 65536) length = 65536;
    if (BUG("get_whole_blocks")) offset &= ~(uint64_t)511;
    int code = CLINKER_OK;
    uint64_t read = 0;
    while (read < length) {
        ssize_t count = pread(file, (char *)buffer + read, length - read, (off_t)(offset + read));
        if (count < 0) code = failure(me, call, name);
        if (count <= 0) break;
        read += (uint64_t)count;
    }
    if (BUG("get_behind_refused") && offset > (uint64_t)info.st_size) code = clinker_fail(call, CLINKER_INVALID, "behind the end");
    if (!BUG("leak_descriptor_get")) close(file);
    *done = BUG("get_done_asked") ? length : BUG("get_done_too_many") ? length + 1 : read;
    return code;
}

int mutant_stat_object(void *instance, clinker_call *call, const char *name, clinker_object *object) {
    struct mutant *me = instance;
    char path[PATH_SIZE];
    struct stat info;
    enter(me, call);
    if (path_of(me, call, name, path)) return CLINKER_INVALID;
    if (stat(path, &info)) return failure(me, call, name);
    if (!S_ISREG(info.st_mode) && !BUG("stat_folders")) {
        errno = ENOENT;
        return failure(me, call, name);
    }
    object->length = BUG("stat_blocks") ? ((uint64_t)info.st_size + 511) / 512 * 512 : (uint64_t)info.st_size;
    object->modified = BUG("stat_milliseconds") ? (int64_t)info.st_mtim.tv_sec * 1000 : (int64_t)info.st_mtim.tv_sec;
    return CLINKER_OK;
}

/* Every name, collected: a store of a few thousand objects. */
struct names {
    char **items;
    size_t count, room;
};

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }
static int by_words(const void *a, const void *b) {
    const unsigned char *x = *(unsigned char *const *)a, *y = *(unsigned char *const *)b;
    while (*x && *x == *y) x++, y++;
    return (*x == '/' ? 1 : *x) - (*y == '/' ? 1 : *y);
}

static int collect(struct mutant *me, const char *place, struct names *names) {
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/%s", me->directory, place);
    DIR *listing = opendir(path);
    if (!listing) return errno == ENOENT ? 0 : -1;
    int bad = 0;
    for (struct dirent *entry; !bad && (entry = readdir(listing));) {
        struct stat info;
        int is_hidden = entry->d_name[0] == '.';
        if (is_hidden && !(BUG("list_hidden") && entry->d_name[1] && entry->d_name[1] != '.' && strcmp(entry->d_name, ".protected"))) continue;
        if (fstatat(dirfd(listing), entry->d_name, &info, AT_SYMLINK_NOFOLLOW)) continue;
        char name[PATH_SIZE];
        if (snprintf(name, sizeof name, "%s%s%s", place, *place ? "/" : "", entry->d_name) >= (int)sizeof name) continue;
        if (S_ISDIR(info.st_mode)) {
            bad = collect(me, name, names);
            continue;
        }
        if (names->count == names->room) {
            names->room = names->room ? 2 * names->room : 256;
            names->items = realloc(names->items, names->room * sizeof *names->items);
            if (!names->items) abort();
        }
        names->items[names->count++] = strdup(name);
    }
    closedir(listing);
    return bad;
}

int mutant_list(void *instance, clinker_call *call, const char *prefix, const char *after, clinker_object_function each, void *opaque) {
    struct mutant *me = instance;
    struct names names = {0};
    enter(me, call);
    if (BUG("list_locks")) pthread_mutex_lock(&me->lock);
    int code = collect(me, "", &names) ? failure(me, call, "list") : CLINKER_OK, stopped = 0, told = 0;
    if (!BUG("list_unsorted") && names.count) qsort(names.items, names.count, sizeof *names.items, BUG("list_by_words") ? by_words : by_bytes);
    char folder[PATH_SIZE];
    snprintf(folder, sizeof folder, "%s%s", prefix, BUG("list_prefix_folder") && *prefix && prefix[strlen(prefix) - 1] != '/' ? "/" : "");
    for (size_t index = 0; index < names.count && !code; index++) {
        const char *name = names.items[index];
        if (strncmp(name, folder, strlen(folder)) && !(BUG("list_prefix_folder") && !strcmp(name, prefix))) continue;
        int order = strcmp(name, after);
        if ((BUG("list_after_included") && *after ? order < 0 : order <= 0) && !BUG("list_after_ignored")) continue;
        if (BUG("list_after_must_be") && *after && told == 0) {
            char path[PATH_SIZE];
            snprintf(path, sizeof path, "%s/%s", me->directory, after);
            if (access(path, F_OK)) break;
        }
        if ((stopped && !BUG("list_goes_on")) || (BUG("list_one_page") && told == 1000)) break;
        char path[PATH_SIZE];
        struct stat info;
        snprintf(path, sizeof path, "%s/%s", me->directory, name);
        if (stat(path, &info)) continue;
        clinker_object object = {.size = BUG("list_size_unset") ? 0 : sizeof object, .name = name, .length = (uint64_t)info.st_size};
        if (BUG("list_sizes")) object.length = 4096;
        for (int times = BUG("list_twice") ? 2 : 1; times-- && !(stopped && !BUG("list_goes_on"));) stopped = each(opaque, &object);
        told++;
    }
    for (size_t index = 0; index < names.count; index++) free(names.items[index]);
    free(names.items);
    if (BUG("list_locks")) pthread_mutex_unlock(&me->lock);
    return code ? code : stopped;
}

/* Removes what begins with a name. */
static void remove_all(struct mutant *me, const char *name) {
    struct names names = {0};
    collect(me, "", &names);
    for (size_t index = 0; index < names.count; index++) {
        char path[PATH_SIZE];
        size_t length = strlen(name);
        snprintf(path, sizeof path, "%s/%s", me->directory, names.items[index]);
        int is_below = names.items[index][length] == '/' || BUG("remove_prefix");
        if (!strncmp(names.items[index], name, length) && is_below) unlink(path);
        free(names.items[index]);
    }
    free(names.items);
}

int mutant_remove(void *instance, clinker_call *call, const char *const *names, uint32_t count) {
    struct mutant *me = instance;
    int first = CLINKER_OK;
    enter(me, call);
    for (uint32_t index = 0; index < count; index++) {
        char path[PATH_SIZE];
        int code = CLINKER_OK;
        if (BUG("remove_first") && index > 0) break;
        if (BUG("remove_hundred") && index == 100) break;
        if (BUG("remove_quiet") && (strstr(names[index], "..") || !*names[index])) continue;
        if (path_of(me, call, names[index], path)) code = CLINKER_INVALID;
        else if (is_protected(me, names[index])) code = clinker_fail(call, CLINKER_BUSY, "%s is protected", names[index]);
        else if (BUG("remove_nothing")) continue;
        else if (unlink(path) && errno != EISDIR && ((errno != ENOENT && errno != ENOTDIR) || BUG("remove_missing")))
            code = failure(me, call, names[index]);
        if (!code && (BUG("remove_prefix") || BUG("remove_folder"))) remove_all(me, names[index]);
        /* Folders that became empty. */
        for (char *slash; !code && (slash = strrchr(path, '/')) > path + strlen(me->directory); ) {
            *slash = 0;
            if (rmdir(path)) break;
        }
        if (code && !first) first = code;
        if (code && BUG("remove_stops")) break;
    }
    return first;
}
