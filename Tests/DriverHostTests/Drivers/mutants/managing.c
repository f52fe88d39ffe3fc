/* What lies in the directory, taking it over and leaving it. */
#include "mutants.h"
#include <dirent.h>

int mutant_list_volumes(void *instance, clinker_call *call) {
    struct mutant *me = instance;
    enter(me, call);
    DIR *listing = opendir(me->directory);
    if (!listing) return failure(me, call, me->directory);
    call->host->begin_list(call, "volumes");
    for (struct dirent *entry; (entry = readdir(listing));) {
        struct stat info;
        if (entry->d_name[0] == '.' || fstatat(dirfd(listing), entry->d_name, &info, AT_SYMLINK_NOFOLLOW)) continue;
        if (!S_ISREG(info.st_mode)) continue;
        int64_t size = (int64_t)(((uint64_t)info.st_size + GIB - 1) / GIB);
        for (int times = BUG("list_twice") ? 2 : 1; times; times--) {
            call->host->begin_object(call, NULL);
            call->host->set_string(call, "name", entry->d_name);
            call->host->set_integer(call, "bytes", info.st_size);
            call->host->set_integer(call, "size", BUG("list_size") ? size | 1 : size);
            call->host->end(call);
        }
        if (BUG("list_first")) break;
    }
    call->host->end(call);
    if (!BUG("leak_descriptor_list")) closedir(listing);
    return CLINKER_OK;
}

static int take_over(struct mutant *me, clinker_call *call, const char *argument) {
    char path[PATH_SIZE], reference[PATH_SIZE];
    const char *by = clinker_string(call, "reference.source-name") ? "reference.source-name" : "reference.source-id";
    enter(me, call);
    if (path_of(me, call, argument, path)) return CLINKER_INVALID;
    const char *name = clinker_string(call, by);
    if (BUG("manage_anything") && name && *name == '/') snprintf(reference, sizeof reference, "%s", name);
    else if (BUG("manage_anything") && name && *name) snprintf(reference, sizeof reference, "%s/%s", me->directory, name);
    else if (path_of(me, call, by, reference)) return CLINKER_INVALID;
    if (strcmp(path, reference) && !access(reference, F_OK)) {
        if (!access(path, F_OK) && !BUG("manage_overwrites")) return clinker_fail(call, CLINKER_EXISTS, "%s exists", path);
        if ((BUG("manage_copies") ? link(reference, path) : rename(reference, path))) return failure(me, call, reference);
    } else if (access(path, F_OK) || BUG("manage_again")) return errno = ENOENT, failure(me, call, reference);
    struct stat info;
    if (stat(path, &info)) return failure(me, call, path);
    if (!BUG("manage_size_missing")) call->host->set_integer(call, "size", (int64_t)(((uint64_t)info.st_size + GIB - 1) / GIB));
    return CLINKER_OK;
}

int mutant_manage_volume(void *instance, clinker_call *call) { return take_over(instance, call, "volume.name"); }
int mutant_manage_snapshot(void *instance, clinker_call *call) { return take_over(instance, call, "snapshot.name"); }

int mutant_unmanage_volume(void *instance, clinker_call *call) {
    struct mutant *me = instance;
    char path[PATH_SIZE];
    enter(me, call);
    if (path_of(me, call, "volume.name", path)) return CLINKER_INVALID;
    if (BUG("unmanage_deletes")) unlink(path);
    return CLINKER_OK;
}

int mutant_unmanage_snapshot(void *instance, clinker_call *call) {
    (void)call;
    enter(instance, call);
    return CLINKER_OK;
}
