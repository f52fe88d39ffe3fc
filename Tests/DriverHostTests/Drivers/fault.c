/* fault: a driver around another one that fails on demand. Options: wrapped (path of the plugin), faults (a file), and
 * what the wrapped driver needs. The file holds lines "CALL ACTION COUNT"; the first line of a call's name applies as often
 * as COUNT says. Actions: a number (that error code, before the call), N! (the code after the call was done), hang, crash,
 * crash! (after), fork (dies while a child that is no program of its own holds all that it held), shout (5,000 lines for the log, then goes
 * on), print (lines on the standard output and error, then goes on), swell (takes 300 MiB of memory for 3 s, then goes on), long (fails with
 * a message of 10,000 bytes), noise (sets a result that is no UTF-8, then goes on), leave-S (dies while a program that it started runs on for so many seconds), core (kills the parent process), core! (after), service (kills the parent's parent), service! (after), delay-MS, lie (capacity of 1 GiB, in stats), ok (nothing:
 * a later call of the name is meant).
 * It is a store, too, around another one; the names of its calls begin with "store_".
 * Option emulate: clones are left to the host, over block handles, whose calls can go wrong too.
 * Option witness (a directory): every call holds a lock on what it works on, shared on a clone's source, exclusive on all
 * else; a call that finds another one's lock is written into the file VIOLATIONS, and the most clones at once into PEAK.
 *     cc -std=c11 -fPIC -shared -I<Clinker>/Sources/CDriver/include -o clinker-fault.so fault.c -ldl */
#define _GNU_SOURCE
#include <clinker/driver.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

struct fault {
    clinker_driver wrapped;
    void *instance;
    char faults[512], witness[512];
    int emulate;
};

/* Locks what an argument names, without waiting; the descriptor to close afterwards, or -1. */
static int lock(struct fault *me, clinker_call *call, const char *what, const char *argument, int mode) {
    const char *name = clinker_string(call, argument);
    char path[1200];
    if (!me->witness[0] || !name) return -1;
    snprintf(path, sizeof path, "%s/%s", me->witness, name);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && flock(fd, mode | LOCK_NB)) {
        snprintf(path, sizeof path, "%s/VIOLATIONS", me->witness);
        FILE *file = fopen(path, "a");
        if (file) fprintf(file, "%s %s\n", what, name), fclose(file);
    }
    return fd;
}

static void count_clones(struct fault *me, int change) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static int now, most;
    if (!me->witness[0]) return;
    pthread_mutex_lock(&mutex);
    now += change;
    if (now > most) {
        most = now;
        char path[600];
        snprintf(path, sizeof path, "%s/PEAK", me->witness);
        FILE *file = fopen(path, "w");
        if (file) fprintf(file, "%d", most), fclose(file);
    }
    pthread_mutex_unlock(&mutex);
}

/* Takes the action for a call out of the file; 0 if there is none. */
static int take(struct fault *me, const char *name, char *action, size_t size) {
    int fd = open(me->faults, O_RDWR | O_CLOEXEC), found = 0;
    if (fd < 0) return 0;
    flock(fd, LOCK_EX);
    char text[8192] = "", rest[8192] = "";
    ssize_t length = read(fd, text, sizeof text - 1);
    text[length > 0 ? length : 0] = 0;
    for (char *next = text, *line; (line = strsep(&next, "\n"));) {
        char call[64], what[64], entry[160];
        int count;
        if (sscanf(line, "%63s %63s %d", call, what, &count) != 3) continue;
        if (!found && !strcmp(call, name)) {
            found = 1;
            snprintf(action, size, "%s", what);
            count--;
        }
        if (count > 0) {
            snprintf(entry, sizeof entry, "%s %s %d\n", call, what, count);
            strcat(rest, entry);
        }
    }
    if (found && (ftruncate(fd, 0) || pwrite(fd, rest, strlen(rest), 0) < 0)) abort();
    close(fd); /* and its lock */
    return found;
}

static void die(void) { kill(getpid(), SIGKILL); }

/* Kills the parent, or its parent; nobody is left who hears of this call. */
static void orphan(const char *action) {
    int parent = getppid(), grandparent = 0;
    if (strncmp(action, "core", 4) && strncmp(action, "service", 7)) return;
    if (!strncmp(action, "service", 7)) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/stat", parent);
        FILE *file = fopen(path, "r");
        if (file && fscanf(file, "%*d (%*[^)]) %*c %d", &grandparent) == 1 && grandparent > 1) parent = grandparent;
        if (file) fclose(file);
    }
    kill(parent, SIGKILL), sleep(60);
}

/* The program keeps nothing of the host's but its process group. */
static void leave(const char *seconds) {
    if (!fork()) {
        for (int fd = 3; fd < 1024; fd++) close(fd);
        execlp("sleep", "sleep", seconds, (char *)NULL);
        _exit(127);
    }
    die();
}

static int fail_at_length(clinker_call *call) {
    char message[10001];
    memset(message, 'x', sizeof message - 1), message[sizeof message - 1] = 0;
    return call->host->fail(call, CLINKER_ERROR, message);
}

/* What is no fault of the call, yet more than a host should bear. */
static void speak(clinker_call *call, const char *action) {
    if (!strcmp(action, "shout")) {
        for (int line = 0; line < 5000; line++) clinker_log(call, CLINKER_INFO, "shouted");
        sleep(1);
        clinker_log(call, CLINKER_INFO, "said");
    }
    if (!strcmp(action, "print")) {
        printf("printed on the standard output\n"), fflush(stdout);
        fprintf(stderr, "printed on the standard error\n");
    }
    if (!strcmp(action, "swell")) {
        size_t size = 300 << 20;
        char *memory = malloc(size);
        if (memory) memset(memory, 1, size), sleep(3), free(memory);
    }
    if (!strcmp(action, "noise")) call->host->set_string(call, "provider_id", "\xff\xfe");
}

typedef int (*plain_call)(void *, clinker_call *);

static int act(struct fault *me, clinker_call *call, const char *name, plain_call wrapped);

static int faulty(struct fault *me, clinker_call *call, const char *name, plain_call wrapped) {
    int clones = !strcmp(name, "clone_volume");
    int target = lock(me, call, name, "volume.name", LOCK_EX), source = lock(me, call, name, "source.name", LOCK_SH);
    if (clones) count_clones(me, 1);
    int result = act(me, call, name, wrapped);
    if (clones) count_clones(me, -1);
    if (target >= 0) close(target);
    if (source >= 0) close(source);
    return result;
}

static int act(struct fault *me, clinker_call *call, const char *name, plain_call wrapped) {
    char action[64] = "";
    if (!take(me, name, action, sizeof action)) return wrapped ? wrapped(me->instance, call) : CLINKER_UNSUPPORTED;
    int after = strchr(action, '!') != NULL, code = atoi(action);
    if (!strncmp(action, "delay-", 6)) usleep((unsigned)atoi(action + 6) * 1000);
    if (!strcmp(action, "hang")) for (;;) pause();
    if (!strcmp(action, "crash")) raise(SIGSEGV), die();
    if (!strncmp(action, "leave-", 6)) leave(action + 6);
    if (!strcmp(action, "fork") && fork()) die();
    if (!strcmp(action, "fork")) setsid(), sleep(30), _exit(0);
    if (!strcmp(action, "long")) return fail_at_length(call);
    speak(call, action);
    if (!after) orphan(action);
    if (code && !after) return clinker_fail(call, code, "fault %s in %s", action, name);
    int result = wrapped ? wrapped(me->instance, call) : CLINKER_UNSUPPORTED;
    if (!strcmp(action, "crash!")) die();
    if (after) orphan(action);
    return code && after ? clinker_fail(call, code, "fault %s in %s", action, name) : result;
}

#define WRAP(name)                                                                                                     \
    static int fault_##name(void *instance, clinker_call *call) {                                                      \
        struct fault *me = instance;                                                                                   \
        return faulty(me, call, #name, me->wrapped.name);                                                              \
    }
WRAP(capabilities) WRAP(create_volume) WRAP(delete_volume) WRAP(extend_volume) WRAP(create_snapshot)
WRAP(delete_snapshot) WRAP(create_volume_from_snapshot) WRAP(revert_to_snapshot) WRAP(export_volume) WRAP(ensure_export)
WRAP(unexport_volume) WRAP(connect_volume) WRAP(disconnect_volume) WRAP(list_volumes)
WRAP(manage_volume) WRAP(unmanage_volume) WRAP(manage_snapshot) WRAP(unmanage_snapshot) WRAP(rename_volume)

static int fault_clone_volume(void *instance, clinker_call *call) {
    struct fault *me = instance;
    return me->emulate ? CLINKER_UNSUPPORTED : faulty(me, call, "clone_volume", me->wrapped.clone_volume);
}

/* A block handle of the wrapped driver. */
struct handle {
    struct fault *me;
    void *wrapped;
};

/* As act, for a call whose wrapped one is an expression. */
#define ACT(name, wrapped_call)                                                                                        \
    char action[64] = "";                                                                                              \
    if (!take(me, name, action, sizeof action)) return wrapped_call;                                                   \
    int after = strchr(action, '!') != NULL, code = atoi(action);                                                      \
    if (!strcmp(action, "hang")) for (;;) pause();                                                                     \
    if (!strcmp(action, "crash")) raise(SIGSEGV), die();                                                               \
    if (!after) orphan(action);                                                                                        \
    if (code && !after) return clinker_fail(call, code, "fault %s in %s", action, name);                               \
    int result = wrapped_call;                                                                                         \
    if (!strcmp(action, "crash!")) die();                                                                              \
    if (after) orphan(action);                                                                                         \
    return code && after ? clinker_fail(call, code, "fault %s in %s", action, name) : result;

static int open_wrapped(struct fault *me, clinker_call *call, uint32_t flags, void **handle) {
    struct handle *made = calloc(1, sizeof *made);
    if (!made) return CLINKER_RETRY;
    made->me = me;
    int code = me->wrapped.open_handle(me->instance, call, flags, &made->wrapped);
    if (code) free(made); else *handle = made;
    return code;
}
static int fault_open_handle(void *instance, clinker_call *call, uint32_t flags, void **handle) {
    struct fault *me = instance;
    ACT("open_handle", open_wrapped(me, call, flags, handle))
}
static void fault_close_handle(void *handle) {
    struct handle *mine = handle;
    mine->me->wrapped.close_handle(mine->wrapped);
    free(mine);
}
#define HANDLE struct handle *mine = handle; struct fault *me = mine->me;
static int fault_get_size(void *handle, clinker_call *call, uint64_t *bytes) {
    HANDLE ACT("get_size", me->wrapped.get_size(mine->wrapped, call, bytes))
}
static int fault_read(void *handle, clinker_call *call, void *buffer, uint64_t offset, uint64_t length) {
    HANDLE ACT("read", me->wrapped.read(mine->wrapped, call, buffer, offset, length))
}
static int fault_write(void *handle, clinker_call *call, const void *buffer, uint64_t offset, uint64_t length) {
    HANDLE ACT("write", me->wrapped.write(mine->wrapped, call, buffer, offset, length))
}
static int fault_flush(void *handle, clinker_call *call) { HANDLE ACT("flush", me->wrapped.flush(mine->wrapped, call)) }
static int fault_extents(void *handle, clinker_call *call, uint64_t offset, uint64_t length, clinker_extent_function each, void *opaque) {
    HANDLE ACT("extents", me->wrapped.extents(mine->wrapped, call, offset, length, each, opaque))
}

static int fault_stats(void *instance, clinker_call *call) {
    struct fault *me = instance;
    char action[64] = "";
    if (!take(me, "lie", action, sizeof action)) return faulty(me, call, "stats", me->wrapped.stats);
    const clinker_host *host = call->host;
    host->begin_list(call, "pools");
    host->begin_object(call, NULL);
    host->set_string(call, "name", "files");
    host->set_real(call, "total_capacity_gb", 1);
    host->set_real(call, "free_capacity_gb", 1);
    host->set_real(call, "max_over_subscription_ratio", 1);
    host->end(call);
    host->end(call);
    return CLINKER_OK;
}

static int fault_open(clinker_call *call, void **instance) {
    const char *path = clinker_string(call, "wrapped"), *faults = clinker_string(call, "faults");
    if (!path || !faults) return clinker_fail(call, CLINKER_BAD_CONFIGURATION, "wrapped and faults must be set");
    struct fault *me = calloc(1, sizeof *me);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    clinker_driver_function function = library ? (clinker_driver_function)dlsym(library, CLINKER_DRIVER_SYMBOL) : NULL;
    if (!me || !function) return clinker_fail(call, CLINKER_BAD_CONFIGURATION, "%s is no driver", path);
    me->wrapped = *function();
    snprintf(me->faults, sizeof me->faults, "%s", faults);
    me->emulate = clinker_boolean(call, "emulate", 0);
    clinker_log(call, CLINKER_INFO, "the fault driver opens");
    const char *witness = clinker_string(call, "witness");
    snprintf(me->witness, sizeof me->witness, "%s", witness ? witness : "");
    char action[64] = "";
    if (take(me, "open", action, sizeof action) && !strcmp(action, "hang")) for (;;) pause();
    if (action[0]) return clinker_fail(call, atoi(action), "fault %s in open", action);
    int code = me->wrapped.open(call, &me->instance);
    *instance = me;
    return code;
}

static void fault_close(void *instance) { ((struct fault *)instance)->wrapped.close(((struct fault *)instance)->instance); }

static const clinker_driver driver = {
    .abi = CLINKER_DRIVER_ABI, .size = sizeof(clinker_driver), .name = "fault", .version = "1.0", .vendor = "Clinker",
    .kind = CLINKER_VOLUME_DRIVER, .threads = CLINKER_THREADS_PARALLEL, .open = fault_open, .close = fault_close,
    .capabilities = fault_capabilities, .stats = fault_stats, .create_volume = fault_create_volume,
    .delete_volume = fault_delete_volume, .extend_volume = fault_extend_volume, .clone_volume = fault_clone_volume,
    .create_snapshot = fault_create_snapshot, .delete_snapshot = fault_delete_snapshot,
    .create_volume_from_snapshot = fault_create_volume_from_snapshot, .revert_to_snapshot = fault_revert_to_snapshot,
    .export_volume = fault_export_volume, .ensure_export = fault_ensure_export, .unexport_volume = fault_unexport_volume,
    .connect_volume = fault_connect_volume, .disconnect_volume = fault_disconnect_volume, .list_volumes = fault_list_volumes,
    .manage_volume = fault_manage_volume, .unmanage_volume = fault_unmanage_volume, .manage_snapshot = fault_manage_snapshot,
    .unmanage_snapshot = fault_unmanage_snapshot, .rename_volume = fault_rename_volume,
    .open_handle = fault_open_handle, .close_handle = fault_close_handle, .get_size = fault_get_size, .read = fault_read,
    .write = fault_write, .flush = fault_flush, .extents = fault_extents,
};
CLINKER_DRIVER(driver)

/* -- as a store ------------------------------------------------------------------------------------------------- */

struct shop {
    struct fault fault; /* of which only the file is used */
    clinker_store wrapped;
    void *instance;
};
struct writer {
    struct shop *shop;
    void *wrapped;
};

static int shop_open(clinker_call *call, void **instance) {
    const char *path = clinker_string(call, "wrapped"), *faults = clinker_string(call, "faults");
    if (!path || !faults) return clinker_fail(call, CLINKER_BAD_CONFIGURATION, "wrapped and faults must be set");
    struct shop *shop = calloc(1, sizeof *shop);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    clinker_store_function function = library ? (clinker_store_function)dlsym(library, CLINKER_STORE_SYMBOL) : NULL;
    if (!shop || !function) return clinker_fail(call, CLINKER_BAD_CONFIGURATION, "%s is no store", path);
    shop->wrapped = *function();
    snprintf(shop->fault.faults, sizeof shop->fault.faults, "%s", faults);
    *instance = shop;
    return shop->wrapped.open(call, &shop->instance);
}
static void shop_close(void *instance) { ((struct shop *)instance)->wrapped.close(((struct shop *)instance)->instance); }

#define SHOP struct shop *shop = instance; struct fault *me = &shop->fault;
static int shop_capabilities(void *instance, clinker_call *call) { SHOP (void)me; return shop->wrapped.capabilities(shop->instance, call); }
static int shop_stats(void *instance, clinker_call *call) { SHOP (void)me; return shop->wrapped.stats(shop->instance, call); }
static int shop_put(void *instance, clinker_call *call, const char *object, const clinker_slice *slices, uint32_t count, const unsigned char *sha256) {
    SHOP ACT("store_put", shop->wrapped.put(shop->instance, call, object, slices, count, sha256))
}
static int shop_get(void *instance, clinker_call *call, const char *object, void *buffer, uint64_t offset, uint64_t length, uint64_t *done) {
    SHOP ACT("store_get", shop->wrapped.get(shop->instance, call, object, buffer, offset, length, done))
}
static int shop_stat(void *instance, clinker_call *call, const char *object, clinker_object *found) {
    SHOP ACT("store_stat", shop->wrapped.stat_object(shop->instance, call, object, found))
}
static int shop_list(void *instance, clinker_call *call, const char *prefix, const char *behind, clinker_object_function each, void *opaque) {
    SHOP ACT("store_list", shop->wrapped.list(shop->instance, call, prefix, behind, each, opaque))
}
static int shop_remove(void *instance, clinker_call *call, const char *const *objects, uint32_t count) {
    SHOP ACT("store_remove", shop->wrapped.remove(shop->instance, call, objects, count))
}
static int open_writer(struct shop *shop, clinker_call *call, const char *object, void **writer) {
    struct writer *made = calloc(1, sizeof *made);
    if (!made) return CLINKER_RETRY;
    made->shop = shop;
    int code = shop->wrapped.put_open(shop->instance, call, object, &made->wrapped);
    if (code) free(made); else *writer = made;
    return code;
}
static int shop_put_open(void *instance, clinker_call *call, const char *object, void **writer) {
    SHOP ACT("store_put_open", open_writer(shop, call, object, writer))
}
#define WRITER struct writer *mine = writer; struct shop *shop = mine->shop; struct fault *me = &shop->fault;
static int shop_put_write(void *writer, clinker_call *call, const void *bytes, uint64_t length) {
    WRITER ACT("store_put_write", shop->wrapped.put_write(mine->wrapped, call, bytes, length))
}
static int close_writer(struct shop *shop, struct writer *mine, clinker_call *call, int commit) {
    int code = shop->wrapped.put_close(mine->wrapped, call, commit);
    free(mine);
    return code;
}
/* A writer ends whatever its end returns: one that is to fail before is given up. */
static int shop_put_close(void *writer, clinker_call *call, int commit) {
    WRITER
    if (!commit) return close_writer(shop, mine, call, 0);
    char action[64] = "";
    if (!take(me, "store_put_close", action, sizeof action)) return close_writer(shop, mine, call, 1);
    int after = strchr(action, '!') != NULL, code = atoi(action);
    if (!strcmp(action, "hang")) for (;;) pause();
    if (!strcmp(action, "crash")) raise(SIGSEGV), die();
    if (!after) orphan(action);
    int result = close_writer(shop, mine, call, !code || after);
    if (!strcmp(action, "crash!")) die();
    if (after) orphan(action);
    return code ? clinker_fail(call, code, "fault %s in store_put_close", action) : result;
}

static const clinker_store store = {
    .abi = CLINKER_DRIVER_ABI, .size = sizeof(clinker_store), .name = "fault", .version = "1.0", .vendor = "Clinker",
    .kind = CLINKER_BACKUP_DRIVER, .threads = CLINKER_THREADS_PARALLEL, .open = shop_open, .close = shop_close,
    .capabilities = shop_capabilities, .stats = shop_stats, .put = shop_put, .get = shop_get, .stat_object = shop_stat,
    .list = shop_list, .remove = shop_remove, .put_open = shop_put_open, .put_write = shop_put_write, .put_close = shop_put_close,
};
CLINKER_STORE(store)
