/* The instance: what it says of itself, and bugs that every call may have. */
#include "mutants.h"
#include <dirent.h>
#include <sys/statvfs.h>

/* What instances share, where they must not. */
static char *one_directory;

int failure(const struct mutant *me, clinker_call *call, const char *what) {
    int code = errno == ENOENT ? CLINKER_NOT_FOUND : errno == ENOSPC ? CLINKER_NO_SPACE : CLINKER_ERROR;
    const char *why = strerror(errno);
    if (BUG("code_wrong") && code == CLINKER_NOT_FOUND) code = CLINKER_EXISTS;
    if (BUG("code_negative")) return clinker_fail(call, -2, "%s: %s", what, why), -2;
    if (BUG("code_unknown")) return clinker_fail(call, 99, "%s: %s", what, why), 99;
    if (BUG("fail_silent")) return code;
    if (BUG("fail_then_ok")) return clinker_fail(call, code, "%s: %s", what, why), CLINKER_OK;
    if (BUG("fail_other_code")) return clinker_fail(call, code, "%s: %s", what, why), CLINKER_RETRY;
    return clinker_fail(call, code, "%s: %s", what, why);
}

static void *for_ever(void *nothing) {
    for (;;) pause();
    return nothing;
}

static void nothing(int signal) { (void)signal; }

void enter(struct mutant *me, clinker_call *call) {
    me->calls++;
    if (BUG("leak_memory_call")) {
        char *leaked = malloc(4096);
        if (leaked) memset(leaked, 1, 4096);
        *(char *volatile *)&leaked = NULL;
    }
    if (BUG("leak_descriptor_call") && open("/dev/null", O_RDONLY | O_CLOEXEC) < 0) abort();
    if (BUG("umask")) umask(0);
    if (BUG("directory_changed") && chdir(me->directory)) abort();
    if (BUG("signal_ignored")) signal(SIGCHLD, SIG_IGN);
    if (BUG("signal_handler")) signal(SIGTERM, nothing);
    if (BUG("environment")) setenv("LC_ALL", "de_DE", 1);
    if (BUG("noise_stdout")) printf("volume call %ld\n", me->calls), fflush(stdout);
    if (BUG("child_left") && !fork()) sleep(30), _exit(0);
    if (BUG("zombie") && !fork()) _exit(0);
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
    me->minimum = clinker_integer(call, "minimum", 1);
    me->maximum = clinker_integer(call, "maximum", 32 << 20);
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/.connections", directory);
    if ((mkdir(directory, 0700) && errno != EEXIST) || (mkdir(path, 0700) && errno != EEXIST)) {
        int code = failure(me, call, directory);
        free(me);
        return code;
    }
    me->kept = directory;
    free(one_directory);
    one_directory = strdup(directory);
    if (BUG("leak_descriptor_instance") && open("/dev/null", O_RDONLY | O_CLOEXEC) < 0) abort();
    if (BUG("leak_thread_instance")) {
        pthread_t thread;
        if (!pthread_create(&thread, NULL, for_ever, NULL)) pthread_detach(thread);
    }
    *instance = me;
    return CLINKER_OK;
}

static void mutant_close(void *instance) {
    struct mutant *me = instance;
    if (BUG("globals_closed")) free(one_directory), one_directory = NULL;
    if (!BUG("leak_memory_instance")) free(me);
}

int path_of(struct mutant *me, clinker_call *call, const char *argument, char *path) {
    const char *name = clinker_string(call, argument);
    int is_bad = !name || !*name || *name == '.' || strchr(name, '/') || strlen(name) > 200;
    if (BUG("names_escape") && name && *name) is_bad = 0;
    if (BUG("name_overflow") && name && strlen(name) > 200) raise(SIGSEGV), abort();
    if (is_bad) return clinker_fail(call, CLINKER_INVALID, "%s is no name of a volume", argument);
    if (BUG("names_cut")) return snprintf(path, PATH_SIZE, "%s/%.40s", me->directory, name), CLINKER_OK;
    if (BUG("string_kept")) return snprintf(path, PATH_SIZE, "%s/%s", me->kept, name), CLINKER_OK;
    if (BUG("globals_closed")) return snprintf(path, PATH_SIZE, "%s/%s", one_directory ? one_directory : "/nowhere", name), CLINKER_OK;
    if (BUG("threads_path")) {
        static char shared[PATH_SIZE];
        snprintf(shared, sizeof shared, "%s/%s", me->directory, name);
        usleep(500);
        return memcpy(path, shared, PATH_SIZE), CLINKER_OK;
    }
    snprintf(path, PATH_SIZE, "%s/%s", me->directory, name);
    return CLINKER_OK;
}

static int mutant_capabilities(void *instance, clinker_call *call) {
    struct mutant *me = instance;
    enter(me, call);
    static int times;
    if (!BUG("protocol_missing")) call->host->set_string(call, "storage_protocol", "file");
    call->host->set_boolean(call, "thin_provisioning_support", !BUG("neither_thin_nor_thick"));
    call->host->set_boolean(call, "multiattach", BUG("capabilities_change") ? ++times % 2 : 1);
    if (BUG("capability_text")) call->host->set_string(call, "online_extend_support", "maybe");
    else call->host->set_boolean(call, "online_extend_support", 1);
    if (BUG("utf8_capability")) call->host->set_string(call, "vendor_words", "\xff\xfe");
    return CLINKER_OK;
}

/* GiB that volumes may come to hold. */
static double provisioned(struct mutant *me) {
    DIR *listing = opendir(me->directory);
    double sum = 0;
    for (struct dirent *entry; listing && (entry = readdir(listing));) {
        struct stat info;
        if (entry->d_name[0] != '.' && !fstatat(dirfd(listing), entry->d_name, &info, 0)) sum += (double)info.st_size / (double)GIB;
    }
    if (listing) closedir(listing);
    return sum;
}

static int mutant_stats(void *instance, clinker_call *call) {
    struct mutant *me = instance;
    const clinker_host *host = call->host;
    enter(me, call);
    struct statvfs info;
    if (statvfs(me->directory, &info)) return failure(me, call, "capacity");
    double total = (double)info.f_blocks * (double)info.f_frsize / (double)GIB;
    double left = (double)info.f_bavail * (double)info.f_frsize / (double)GIB;
    int is_frozen = BUG("stats_frozen");
    host->begin_list(call, "pools");
    if (!BUG("stats_empty")) {
        host->begin_object(call, NULL);
        host->set_string(call, "name", BUG("stats_pool_unnamed") ? "" : "files");
        host->set_real(call, "total_capacity_gb", is_frozen ? 1000 : total);
        host->set_real(call, "free_capacity_gb", BUG("stats_more_free") ? total + 1 : is_frozen ? 500 : left);
        host->set_real(call, "provisioned_capacity_gb", is_frozen ? 0 : provisioned(me));
        if (BUG("stats_reserved")) host->set_integer(call, "reserved_percentage", 150);
        host->end(call);
    }
    host->end(call);
    return CLINKER_OK;
}

static const clinker_driver driver = {
    .abi = CLINKER_DRIVER_ABI, .size = sizeof(clinker_driver), .name = "mutants", .version = "1.0", .vendor = "Clinker",
    .kind = CLINKER_VOLUME_DRIVER, .threads = CLINKER_THREADS_PARALLEL, .open = mutant_open, .close = mutant_close,
    .capabilities = mutant_capabilities, .stats = mutant_stats, .create_volume = mutant_create_volume,
    .delete_volume = mutant_delete_volume, .extend_volume = mutant_extend_volume, .clone_volume = mutant_clone_volume,
    .create_snapshot = mutant_create_snapshot, .delete_snapshot = mutant_delete_snapshot,
    .create_volume_from_snapshot = mutant_create_volume_from_snapshot, .revert_to_snapshot = mutant_revert_to_snapshot,
    .export_volume = mutant_export_volume, .ensure_export = mutant_ensure_export, .unexport_volume = mutant_unexport_volume,
    .connect_volume = mutant_connect_volume, .disconnect_volume = mutant_disconnect_volume, .list_volumes = mutant_list_volumes,
    .manage_volume = mutant_manage_volume, .unmanage_volume = mutant_unmanage_volume, .open_handle = mutant_open_handle,
    .close_handle = mutant_close_handle, .get_size = mutant_get_size, .block_size = mutant_block_size, .read = mutant_read,
    .write = mutant_write, .zero = mutant_zero, .discard = mutant_discard, .flush = mutant_flush, .extents = mutant_extents,
    .changed = mutant_changed, .submit = mutant_submit, .manage_snapshot = mutant_manage_snapshot,
    .unmanage_snapshot = mutant_unmanage_snapshot,
};
CLINKER_DRIVER(driver)
