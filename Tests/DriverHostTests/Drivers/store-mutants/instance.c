/* The instance: what it says of itself, names, and bugs that every call may have. */
#include "mutants.h"
#include <sys/statvfs.h>
#include <time.h>

/* What instances share, where they must not. */
static char *one_directory;

int failure(const struct mutant *me, clinker_call *call, const char *what) {
    int code = errno == ENOENT || errno == ENOTDIR ? CLINKER_NOT_FOUND : errno == ENOSPC ? CLINKER_NO_SPACE : CLINKER_ERROR;
    const char *why = strerror(errno);
    if (BUG("missing_error") && code == CLINKER_NOT_FOUND) code = CLINKER_ERROR;
    if (BUG("fail_silent")) return code;
    if (BUG("fail_then_ok")) return clinker_fail(call, code, "%s: %s", what, why), CLINKER_OK;
    if (BUG("code_unknown")) return clinker_fail(call, 99, "%s: %s", what, why), 99;
    return clinker_fail(call, code, "%s: %s", what, why);
}

void enter(struct mutant *me, clinker_call *call) {
    __atomic_add_fetch(&me->calls, 1, __ATOMIC_RELAXED);
    if (BUG("leak_memory_call")) {
        char *leaked = malloc(4096);
        if (leaked) memset(leaked, 1, 4096);
        *(char *volatile *)&leaked = NULL;
    }
    if (BUG("umask")) umask(0);
    if (BUG("directory_changed") && chdir(me->directory)) abort();
    if (BUG("noise_stdout")) printf("store call %ld\n", me->calls), fflush(stdout);
    if (BUG("call_kept")) {
        if (me->call) clinker_log(me->call, CLINKER_INFO, "the call before this one has ended");
        me->call = call;
    }
}

static int mutant_open(clinker_call *call, void **instance) {
    const char *directory = clinker_string(call, "directory"), *name = clinker_string(call, "bug");
    if (!directory || directory[0] != '/' || strlen(directory) >= sizeof((struct mutant *)0)->directory)
        return clinker_fail(call, CLINKER_BAD_CONFIGURATION, "directory must be an absolute path");
    struct mutant *me = calloc(1, sizeof *me);
    if (!me) return clinker_fail(call, CLINKER_RETRY, "out of memory");
    snprintf(me->directory, sizeof me->directory, "%s", directory);
    snprintf(me->bug, sizeof me->bug, "%s", name ? name : "none");
    pthread_mutex_init(&me->lock, NULL);
    char hidden[PATH_SIZE], protected[PATH_SIZE];
    snprintf(hidden, sizeof hidden, "%s/.partial", directory);
    snprintf(protected, sizeof protected, "%s/.protected", directory);
    if ((mkdir(directory, 0700) && errno != EEXIST) || (mkdir(hidden, 0700) && errno != EEXIST) ||
        (mkdir(protected, 0700) && errno != EEXIST)) {
        int code = failure(me, call, directory);
        free(me);
        return code;
    }
    free(one_directory);
    one_directory = strdup(directory);
    if (BUG("leak_descriptor_instance") && open("/dev/null", O_RDONLY | O_CLOEXEC) < 0) abort();
    *instance = me;
    return CLINKER_OK;
}

static void mutant_close(void *instance) {
    struct mutant *me = instance;
    if (BUG("globals_closed")) free(one_directory), one_directory = NULL;
    pthread_mutex_destroy(&me->lock);
    if (!BUG("leak_memory_instance")) free(me);
}

/* The rule of the header. */
static int is_name(struct mutant *me, const char *name) {
    size_t length = strlen(name), word = 0, words = 1;
    if (length > (BUG("name_long") ? 1100 : 1024) || length == 0) return 0;
    for (size_t index = 0; index <= length; index++) {
        unsigned char byte = (unsigned char)name[index];
        if (byte == '/' || byte == 0) {
            if (word == 0 && !(BUG("name_empty_word") && index > 0 && byte)) return 0;
            if (word > 255) return 0;
            words += byte == '/';
            word = 0;
            continue;
        }
        if (byte == '.' && word == 0 && !BUG("name_dots")) return 0;
        if ((byte < 0x20 && !BUG("name_control")) || byte == 0x7F) return 0;
        word++;
    }
    return words <= 64;
}

int path_of(struct mutant *me, clinker_call *call, const char *name, char *path) {
    const char *directory = BUG("globals_closed") ? (one_directory ? one_directory : "/nowhere") : me->directory;
    if (!BUG("name_escape") && !is_name(me, name)) return clinker_fail(call, CLINKER_INVALID, "that is no name of an object");
    if (strlen(name) + strlen(directory) + 2 > PATH_SIZE) return clinker_fail(call, CLINKER_INVALID, "the name is too long");
    snprintf(path, PATH_SIZE, "%s/%s", directory, name);
    char *words = path + strlen(directory) + 1;
    if (BUG("name_cut") && strlen(words) > 200) words[200] = 0;
    if (BUG("name_lower_case"))
        for (char *at = words; *at; at++) *at = (char)tolower((unsigned char)*at);
    if (BUG("name_flat"))
        for (char *at = words; *at; at++) *at = *at == '/' ? '-' : *at;
    if (BUG("name_unescaped"))
        for (char *at = words; (at = strchr(at, '%')) && at[1] && at[2]; at++) {
            char digits[3] = {at[1], at[2], 0};
            *at = (char)strtol(digits, NULL, 16);
            if (*at) memmove(at + 1, at + 3, strlen(at + 3) + 1);
        }
    if (BUG("name_space_lost"))
        for (char *at = words; (at = strchr(at, ' '));) *at = '_';
    return CLINKER_OK;
}

static int mutant_capabilities(void *instance, clinker_call *call) {
    struct mutant *me = instance;
    const clinker_host *host = call->host;
    static int times;
    enter(me, call);
    if (!BUG("protocol_missing")) host->set_string(call, "storage_protocol", "file");
    host->set_boolean(call, "consistent_list", BUG("capabilities_change") ? ++times % 2 : 1);
    if (BUG("capability_text")) host->set_string(call, "range_get", "yes");
    host->set_boolean(call, "checks_sha256", 1);
    host->set_boolean(call, "object_lock", 1);
    host->set_integer(call, "preferred_object_size", BUG("preferred_too_large") ? (int64_t)1 << 50 : 32 << 20);
    if (BUG("maximum_negative")) host->set_integer(call, "maximum_object_size", -1);
    else host->set_integer(call, "maximum_object_size", (int64_t)1 << 40);
    return CLINKER_OK;
}

static int mutant_stats(void *instance, clinker_call *call) {
    struct mutant *me = instance;
    const clinker_host *host = call->host;
    struct statvfs info;
    enter(me, call);
    if (statvfs(me->directory, &info)) return failure(me, call, "capacity");
    double unit = (double)info.f_frsize / (1 << 30), total = (double)info.f_blocks * unit;
    if (BUG("stats_text")) host->set_string(call, "total_capacity_gb", "unknown");
    else host->set_real(call, "total_capacity_gb", total);
    host->set_real(call, "free_capacity_gb", BUG("stats_more_free") ? total + 1 : (double)info.f_bavail * unit);
    if (BUG("problems_text")) host->set_string(call, "problems", "none");
    return CLINKER_OK;
}

/* -- protection: a file beside, which holds the time --------------------------------------------------------------- */

static void mark_of(struct mutant *me, const char *name, char *path) {
    snprintf(path, PATH_SIZE, "%s/.protected/%s", me->directory, name);
    for (char *at = path + strlen(me->directory) + strlen("/.protected/"); *at; at++) *at = *at == '/' ? '%' : *at;
}

static int64_t protected_until(struct mutant *me, const char *name) {
    char path[PATH_SIZE];
    long long until = 0;
    if (strlen(name) > 255) return 0;
    mark_of(me, name, path);
    FILE *file = fopen(path, "re");
    if (file) {
        if (fscanf(file, "%lld", &until) != 1) until = 0;
        fclose(file);
    }
    return until;
}

int is_protected(struct mutant *me, const char *name) { return !BUG("protect_ignored") && protected_until(me, name) > time(NULL); }

int mutant_protect(void *instance, clinker_call *call, const char *name, int64_t until) {
    struct mutant *me = instance;
    char path[PATH_SIZE];
    enter(me, call);
    if (path_of(me, call, name, path)) return CLINKER_INVALID;
    if (access(path, F_OK) && !BUG("protect_missing")) return failure(me, call, name);
    if (protected_until(me, name) >= until && !BUG("protect_shortens")) return CLINKER_OK;
    mark_of(me, name, path);
    FILE *file = fopen(path, "we");
    if (!file) return failure(me, call, "protection");
    fprintf(file, "%lld", (long long)until);
    return fclose(file) ? failure(me, call, "protection") : CLINKER_OK;
}

static const clinker_store store = {
    .abi = CLINKER_DRIVER_ABI, .size = sizeof(clinker_store), .name = "mutants", .version = "1.0", .vendor = "Clinker",
    .kind = CLINKER_BACKUP_DRIVER, .threads = CLINKER_THREADS_PARALLEL, .open = mutant_open, .close = mutant_close,
    .capabilities = mutant_capabilities, .stats = mutant_stats, .put = mutant_put, .get = mutant_get,
    .stat_object = mutant_stat_object, .list = mutant_list, .remove = mutant_remove,
#ifndef WITHOUT_WRITERS
    .put_open = mutant_put_open, .put_write = mutant_put_write, .put_close = mutant_put_close,
#endif
    .protect = mutant_protect,
};
CLINKER_STORE(store)
