/* Connections: a link for each host that is connected, by which it reaches the volume. */
#include "mutants.h"
#include <dirent.h>

static int link_of(struct mutant *me, clinker_call *call, const char *host, char *link) {
    const char *name = clinker_string(call, "volume.name");
    if (strchr(host, '/') || strlen(host) > 100) return clinker_fail(call, CLINKER_INVALID, "no name of a host");
    snprintf(link, PATH_SIZE, "%s/.connections/%s@%s", me->directory, name, host);
    return CLINKER_OK;
}

/* Ends the connections of the volume, of all hosts. */
static void end_all(struct mutant *me, const char *name) {
    char path[PATH_SIZE];
    size_t length = strlen(name);
    snprintf(path, sizeof path, "%s/.connections", me->directory);
    DIR *listing = opendir(path);
    for (struct dirent *entry; listing && (entry = readdir(listing));)
        if (!strncmp(entry->d_name, name, length) && entry->d_name[length] == '@') unlinkat(dirfd(listing), entry->d_name, 0);
    if (listing) closedir(listing);
}

int mutant_export_volume(void *instance, clinker_call *call) {
    struct mutant *me = instance;
    char path[PATH_SIZE], marker[PATH_SIZE + 16];
    enter(me, call);
    if (path_of(me, call, "volume.name", path)) return CLINKER_INVALID;
    if (access(path, F_OK)) return failure(me, call, path);
    if (BUG("export_again")) {
        snprintf(marker, sizeof marker, "%s/.connections/%s", me->directory, strrchr(path, '/') + 1);
        int fd = open(marker, O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0) return failure(me, call, marker);
        close(fd);
    }
    return CLINKER_OK;
}

int mutant_ensure_export(void *instance, clinker_call *call) {
    struct mutant *me = instance;
    char path[PATH_SIZE];
    enter(me, call);
    if (path_of(me, call, "volume.name", path)) return CLINKER_INVALID;
    return access(path, F_OK) ? failure(me, call, path) : CLINKER_OK;
}

int mutant_unexport_volume(void *instance, clinker_call *call) {
    struct mutant *me = instance;
    char path[PATH_SIZE], marker[PATH_SIZE + 16];
    enter(me, call);
    if (path_of(me, call, "volume.name", path)) return CLINKER_INVALID;
    if (BUG("unexport_deletes")) unlink(path);
    snprintf(marker, sizeof marker, "%s/.connections/%s", me->directory, strrchr(path, '/') + 1);
    if (unlink(marker) && BUG("unexport_again")) return failure(me, call, marker);
    end_all(me, strrchr(path, '/') + 1);
    return CLINKER_OK;
}

int mutant_connect_volume(void *instance, clinker_call *call) {
    struct mutant *me = instance;
    char path[PATH_SIZE], link[PATH_SIZE], secret[64];
    enter(me, call);
    const char *host = clinker_string(call, "connector.host"), *mode = clinker_string(call, "mode");
    if (path_of(me, call, "volume.name", path)) return CLINKER_INVALID;
    if (BUG("connector_trusted") && !clinker_string(call, "connector.initiator")) raise(SIGSEGV), abort();
    if (!host) return clinker_fail(call, CLINKER_INVALID, "the connector names no host");
    if (access(path, F_OK) && !BUG("connect_missing")) return failure(me, call, path);
    if (link_of(me, call, host, link)) return CLINKER_INVALID;
    if (BUG("connect_one_host")) end_all(me, clinker_string(call, "volume.name"));
    if (symlink(path, link) && errno != EEXIST) return failure(me, call, link);
    snprintf(secret, sizeof secret, "secret-of-%s", host);
    if (BUG("connect_changes")) snprintf(link + strlen(link), 20, "-%ld", me->calls), (void)!symlink(path, link);
    if (BUG("secret_logged")) {
        char line[128];
        snprintf(line, sizeof line, "%s connects with the password %s", host, secret);
        clinker_log(call, CLINKER_DEBUG, line);
    }
    if (BUG("connect_nowhere")) snprintf(link, sizeof link, "/dev/disk/by-path/of-nothing");
    if (!BUG("connect_kind_missing")) call->host->set_string(call, "driver_volume_type", "local");
    call->host->begin_object(call, "data");
    if (!BUG("connect_empty")) {
        call->host->set_string(call, "device_path", link);
        call->host->set_string(call, "access_mode", BUG("mode_ignored") ? "rw" : mode ? mode : "rw");
        call->host->set_secret(call, "auth_password", secret);
    }
    call->host->end(call);
    return CLINKER_OK;
}

int mutant_disconnect_volume(void *instance, clinker_call *call) {
    struct mutant *me = instance;
    char path[PATH_SIZE], link[PATH_SIZE];
    enter(me, call);
    if (path_of(me, call, "volume.name", path)) return CLINKER_INVALID;
    const char *host = clinker_string(call, "connector.host");
    if (!host || BUG("disconnect_others")) return end_all(me, strrchr(path, '/') + 1), CLINKER_OK;
    if (BUG("disconnect_nothing")) return CLINKER_OK;
    for (int64_t index = 0; index < call->host->length(call, "attachments") && !BUG("disconnect_shared"); index++) {
        char name[64];
        snprintf(name, sizeof name, "attachments.%lld.connector.host", (long long)index);
        const char *other = clinker_string(call, name);
        if (other && !strcmp(other, host)) return CLINKER_OK; /* another attachment of the host needs it still */
    }
    if (link_of(me, call, host, link)) return CLINKER_INVALID;
    if (unlink(link) && (errno != ENOENT || BUG("disconnect_again"))) return failure(me, call, link);
    return CLINKER_OK;
}
