/*
 * clinker/driver.h - the storage driver interface of Clinker, ABI version 1.
 *
 * SYNOPSIS
 *   A driver is a shared library that exports one symbol:
 *
 *       #include <clinker/driver.h>
 *       static const clinker_driver driver = {
 *           .abi = CLINKER_DRIVER_ABI, .size = sizeof(clinker_driver),
 *           .name = "example", .version = "1.0", .vendor = "Example Ltd",
 *           .kind = CLINKER_VOLUME_DRIVER, .threads = CLINKER_THREADS_PARALLEL,
 *           .open = example_open, .create_volume = example_create_volume, ...
 *       };
 *       CLINKER_DRIVER(driver)
 *
 *   Build:  cc -std=c11 -fPIC -shared -I.../include -o libexample.so example.c
 *
 *   What keeps the objects of backups is a store: clinker_store, further down
 *   under STORES, after what drivers and stores have in common.
 *
 * GUARANTEE
 *   Members are only ever appended to the structures below, values only ever
 *   added to the enumerations. The host copies min(size, its own size) bytes
 *   over zeroes, so a driver built against an old header keeps working.
 *
 * LIFE OF A DRIVER
 *   The library is opened with RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE in a
 *   process of its own and is never unloaded.
 *
 *       open ---> capabilities ---> stats, volume calls, ... ---> close
 *                                   `-> open_handle -> read, write, ... -> close_handle
 *
 *   `open` gives an instance. A driver keeps no globals: one process may open
 *   several instances, and several processes may open one backend.
 *
 * CALLS
 *   Every function that can fail takes a `clinker_call *` made by the host.
 *   Through it the driver reads its arguments by name, sets its results by
 *   name, writes log lines, reports progress, asks whether the call was
 *   cancelled and says why it failed. The call dies when the function returns:
 *   keep no pointer taken from it. clinker_log() works from any thread while
 *   the call lives; everything else belongs to the thread of the call.
 *
 *   Names of nested values are joined by dots, items of lists by their number:
 *   "connector.host", "attachments.0.connector.initiator".
 *
 *   Texts are UTF-8 and end with a zero byte, in both directions: a result
 *   that is none fails its call by its name. Names of volumes and snapshots
 *   are made of the operator's template and an id: letters, digits and
 *   "-_.", 43 to 45 bytes with the usual templates; in a storage that is Ceph
 *   (storage_protocol) up to 64 for a snapshot that a backup is read from.
 *   Refuse a name that your storage does not take, one that is too long too,
 *   with INVALID: never cut it, and never let it lead elsewhere ("../x", "/x").
 *
 *   Options and arguments convert themselves: integer() reads a text of
 *   decimal digits with a sign or none, real() any decimal number, boolean()
 *   true/1/yes/on and false/0/no/off in any case, string() gives a number or
 *   boolean as text. What cannot be read so is absent: say BAD_CONFIGURATION.
 *
 *   Of a message and of a log line 4,096 bytes are kept, of the private text
 *   `data` 4,096 bytes, and a longer one fails its call; of all results of a
 *   call 16 MiB. A backend logs 1,000 lines at once and 100 in a second; the
 *   others are left out, and that is said. What you write to the standard
 *   output and error are lines of the backend's log, too; both are not yours.
 *
 * ERRORS
 *   A function returns CLINKER_OK or the code it passed to clinker_fail(). The
 *   code says what the host does next. The message goes to the log and to
 *   administrators, with the operation that failed; users are told what the
 *   code means, and of INVALID from connect_volume the message. Never put a
 *   secret into one. A value that is no code is taken for CLINKER_ERROR.
 *
 *   CLINKER_RETRY: the call is repeated after 0.2, 0.4, 0.8, 1.6 and 3.2
 *   seconds. If it still says so, it has failed as with CLINKER_ERROR; what
 *   removes something is repeated for as long as it takes, every 30 seconds.
 *   CLINKER_ERROR: nothing is repeated. The operation is taken back with the
 *   calls that undo it (delete of what was to be created, and so on), and the
 *   volume is shown in error where nothing says what is left of it.
 *
 *   A call that was cancelled, and shows no progress for 10 seconds, is taken
 *   for hanging, as any call that shows none for `driver_call_timeout`: its
 *   process is killed, and the other calls in it are repeated.
 *
 *   A function pointer that is NULL and the code CLINKER_UNSUPPORTED mean the
 *   same: nothing was done. The host then does the work itself over block
 *   handles where it can (clone, create from snapshot, revert), and otherwise
 *   answers the client with the documented error.
 *
 * REPEAT RULE
 *   A process can die at any instant, and the host then repeats the call with
 *   the same arguments. Every call must then succeed or continue: create of
 *   what is created succeeds, delete of what is gone succeeds, a half-made
 *   thing is finished or replaced. Programs that the driver started (and that
 *   stayed in its process group) have ended by then: after 30 seconds they are
 *   killed.
 *
 * THREADS
 *   See clinker_threads. Whatever the model, a handle is used by one thread at
 *   a time and `open`, `close` run alone. Threads that call you have a stack
 *   of 1 MiB. Yours is not the process: leave its umask, working directory,
 *   environment, locale, signal handlers and standard output as they are, and
 *   wait for the programs that you start.
 *
 * UNITS
 *   Volume sizes are GiB, capacities are GiB as reals, offsets, lengths and
 *   block sizes are bytes.
 */
#ifndef CLINKER_DRIVER_H
#define CLINKER_DRIVER_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CLINKER_DRIVER_ABI 1u

/* What the host does next. Zero is success; values are part of the ABI. */
typedef enum clinker_code {
    CLINKER_OK = 0,
    CLINKER_ERROR = 1,             /* give up: revert, show the volume in error            */
    CLINKER_RETRY = 2,             /* passing trouble: the host calls again, with pauses    */
    CLINKER_BUSY = 3,              /* in use (children, watchers, a connected host): nothing
                                      was changed, and the object is given back to its user  */
    CLINKER_NOT_FOUND = 4,         /* the object, or its source, does not exist             */
    CLINKER_EXISTS = 5,            /* the name is taken by something that is not ours       */
    CLINKER_NO_SPACE = 6,          /* this pool is full: another one may be tried; what is
                                      removed is tried again, with pauses, until it is gone  */
    CLINKER_UNSUPPORTED = 7,       /* nothing was done: the host emulates or answers so     */
    CLINKER_BAD_CONFIGURATION = 8, /* an option is missing or wrong: the backend stays down */
    CLINKER_INVALID = 9,           /* an argument of this call cannot be served (connector) */
    CLINKER_CANCELLED = 10         /* the call saw clinker_cancelled() and stopped          */
} clinker_code;

typedef enum clinker_kind {
    CLINKER_VOLUME_DRIVER = 1, /* clinker_driver */
    CLINKER_BACKUP_DRIVER = 2  /* clinker_store  */
} clinker_kind;

typedef enum clinker_threads {
    CLINKER_THREADS_SERIALIZED = 0, /* one call at a time for the whole instance              */
    CLINKER_THREADS_PARALLEL = 1    /* many calls at a time, never two on one volume: the
                                       host sees to it                                        */
} clinker_threads;

typedef enum clinker_level {
    CLINKER_DEBUG = 0,
    CLINKER_INFO = 1,
    CLINKER_WARNING = 2,
    CLINKER_ERROR_LEVEL = 3
} clinker_level;

typedef struct clinker_call clinker_call;

/* Functions of the host, reached through the call. Appended to only. */
typedef struct clinker_host {
    size_t size;

    /* Arguments and options. A string lives as long as the call. The others
     * return 1 and set *value, or return 0 when absent or of another type. */
    const char *(*string)(clinker_call *, const char *name);
    int (*integer)(clinker_call *, const char *name, int64_t *value);
    int (*real)(clinker_call *, const char *name, double *value);
    int (*boolean)(clinker_call *, const char *name, int *value);
    int64_t (*length)(clinker_call *, const char *name); /* items of a list, members of an object; -1 if absent */

    /* Results. Inside begin_object/begin_list..end they go into that value;
     * items of a list have the name NULL. Strings are copied. A secret is a
     * string that the host never logs and never stores outside its owner. */
    void (*set_string)(clinker_call *, const char *name, const char *value);
    void (*set_secret)(clinker_call *, const char *name, const char *value);
    void (*set_integer)(clinker_call *, const char *name, int64_t value);
    void (*set_real)(clinker_call *, const char *name, double value);
    void (*set_boolean)(clinker_call *, const char *name, int value);
    void (*set_null)(clinker_call *, const char *name);
    void (*begin_object)(clinker_call *, const char *name);
    void (*begin_list)(clinker_call *, const char *name);
    void (*end)(clinker_call *);

    /* log: any thread. progress: done of total, in whatever unit. */
    void (*log)(clinker_call *, clinker_level level, const char *message);
    void (*progress)(clinker_call *, uint64_t done, uint64_t total);
    int (*cancelled)(clinker_call *);
    int (*fail)(clinker_call *, int code, const char *message); /* returns code */
} clinker_host;

struct clinker_call {
    const clinker_host *host;
    void *reserved; /* the host's */
};

/* One piece of a volume's map, in ascending order without gaps. */
enum {
    CLINKER_EXTENT_DATA = 0,
    CLINKER_EXTENT_ZERO = 1, /* reads as zeroes                                    */
    CLINKER_EXTENT_HOLE = 2  /* occupies no space; together with ZERO when it reads so */
};
typedef int (*clinker_extent_function)(void *opaque, uint64_t offset, uint64_t length, uint32_t flags);

/* An asynchronous request of a block handle; see `submit`. */
typedef struct clinker_request {
    size_t size;
    uint32_t operation; /* 0 read, 1 write, 2 zero, 3 discard, 4 flush */
    uint32_t reserved;
    void *buffer;
    uint64_t offset, length;
    void (*complete)(struct clinker_request *, int code); /* any thread, exactly once */
    void *opaque;                                         /* the host's               */
} clinker_request;

enum { CLINKER_HANDLE_READ = 0, CLINKER_HANDLE_WRITE = 1 };

/* An option of the backend's section that the driver reads. `clinker config check` knows misspelt names and wrong values by
 * them without opening the storage; `open` gets every option of the section as text all the same. */
typedef enum clinker_option_type {
    CLINKER_OPTION_TEXT = 0,
    CLINKER_OPTION_INTEGER = 1,
    CLINKER_OPTION_REAL = 2,
    CLINKER_OPTION_BOOLEAN = 3, /* true, false, yes, no, on, off, 1, 0 */
    CLINKER_OPTION_LIST = 4,    /* separated by commas */
    CLINKER_OPTION_SECRET = 5,  /* a text that is never shown */
    CLINKER_OPTION_UNUSED = 6   /* known, and without effect: help is why; the operator who sets it is told */
} clinker_option_type;

typedef struct clinker_option {
    const char *name;
    uint32_t type;          /* clinker_option_type                                        */
    uint32_t reserved;
    double minimum, maximum; /* of a number; any if both are 0                             */
    const char *choices;    /* what a text may be, separated by commas; NULL: anything    */
    const char *standard;   /* what holds where the section says nothing; NULL: nothing   */
    const char *help;       /* one sentence                                               */
} clinker_option;

/*
 * The table of a driver. Arguments and results are listed as "name type: what".
 *
 * Every volume call has    volume.id string, volume.name string (the name to give the storage object),
 *                          volume.size integer (GiB), volume.pool string,
 *                          volume.data string (the driver-private text stored at creation, may be absent),
 *                          volume.attached boolean: somebody was told where it is by connect_volume and has not let go of it, though
 *                          he may not have said that he uses it yet: he may be writing. A driver that would change under him
 *                          what he was told answers BUSY,
 *                          volume.encrypted boolean: whoever attaches it decrypts what lies in it (absent: nobody does).
 * A volume that is made or taken over may have volume.replicated boolean (its type wants a second copy elsewhere); the
 *                          driver answers with replication_status string ("enabled").
 * Every snapshot call has  the same of the volume, and snapshot.id, snapshot.name, snapshot.size, snapshot.data.
 * A call that makes something may set the result
 *                          data string: private text of at most 4,096 bytes (share, format, name), which the host
 *                          stores and gives back in every later call. Lost in a crash, the driver finds the object by its name.
 */
typedef struct clinker_driver {
    uint32_t abi;  /* CLINKER_DRIVER_ABI     */
    uint32_t size; /* sizeof(clinker_driver) */
    const char *name, *version, *vendor;
    uint32_t kind;    /* clinker_kind    */
    uint32_t threads; /* clinker_threads */

    /* -- instance: mandatory ------------------------------------------------------------------------------- */

    /* Arguments: every option of the backend's section by its name (as text), backend string, state_dir string: a
     * directory of this backend's own, which is there (mode 0700): it keeps in it what it likes, and nobody else does.
     * Checks the configuration and that the storage answers. Sets *instance. */
    int (*open)(clinker_call *, void **instance);
    void (*close)(void *instance);

    /* Results: storage_protocol string; thin_provisioning_support, thick_provisioning_support,
     * multiattach, online_extend_support, sparse_copy_volume boolean; shared_targets boolean; and whatever else
     * types may ask for. Asked of the instance once: two instances of one driver may differ, one says always the same.
     * sparse_copy_volume: a copy into a volume may leave out what is zero, and costs no space for it.
     * shared_targets: volumes share targets, so that a host must not end a session that another volume of it uses:
     * clients read it in shared_targets of the volume. null: not known; not set: false.
     * encryption_header string: how encrypted volumes begin for hosts that have no device to prepare. luks: with a LUKS
     * header, which the service writes into a new volume; none: the driver keeps no encrypted volumes; not set: the
     * first host prepares the volume.
     * image_locations string: how the locations of images begin that clone_image takes; not set: it takes none.
     * holder string: how the storage knows this instance, for fence.
     * multiattach: several hosts may be connected to a volume at the same time. */
    int (*capabilities)(void *instance, clinker_call *);

    /* Results: pools list of objects: name string, total_capacity_gb real, free_capacity_gb real,
     * provisioned_capacity_gb real (optional), max_over_subscription_ratio real (optional),
     * reserved_percentage integer (optional). A negative capacity means unknown. They are asked for once a minute and
     * follow what is made: placement goes by them.
     * problems list of strings (optional): parts of the storage that do not answer, each with why: the others are served, and the
     * operator is told. If none answers, fail. */
    int (*stats)(void *instance, clinker_call *);

    /* -- volumes -------------------------------------------------------------------------------------------- */

    /* New volumes read as zeroes. create and delete are mandatory. */
    int (*create_volume)(void *instance, clinker_call *);
    /* BUSY: something depends on it, be it the host's or not: snapshots and clones that others made in the same storage stay. Once
     * the first byte is gone it is never BUSY, not even in a repeated call. */
    int (*delete_volume)(void *instance, clinker_call *);

    /* Arguments: new_size integer (GiB), attached boolean. To a size it already has: success. Never takes away: a late
     * repetition may ask for less than the volume has by now. */
    int (*extend_volume)(void *instance, clinker_call *);

    /* Arguments: source.id, source.name, source.size, source.data of a volume. volume.size >= source.size;
     * what lies beyond the source reads as zeroes. The copy is independent of its source as users see it. */
    int (*clone_volume)(void *instance, clinker_call *);

    int (*create_snapshot)(void *instance, clinker_call *);
    int (*delete_snapshot)(void *instance, clinker_call *); /* BUSY: it has children; else as delete_volume */
    /* The snapshot is what is copied; source.* is the volume that it is of (id, name, size, data), which may have changed
     * and grown since. volume.size >= snapshot.size; what lies beyond the snapshot reads as zeroes. */
    int (*create_volume_from_snapshot)(void *instance, clinker_call *);
    /* Brings the volume back to its latest snapshot, which has the volume's size: of a volume that grew since, the host
     * refuses it. The snapshot stays. */
    int (*revert_to_snapshot)(void *instance, clinker_call *);

    /* -- attaching ------------------------------------------------------------------------------------------ */

    /* Makes the volume reachable (target, export), before the first connect. Result: data, as above.
     * ensure_export repeats it after a restart. unexport undoes it when no connection is left. */
    int (*export_volume)(void *instance, clinker_call *);
    int (*ensure_export)(void *instance, clinker_call *);
    int (*unexport_volume)(void *instance, clinker_call *);

    /* Arguments: connector object (host, ip, initiator, ...), mode string ("rw" or "ro").
     * Results: driver_volume_type string, data object: what os-brick needs. */
    int (*connect_volume)(void *instance, clinker_call *);
    /* Arguments: connector (absent: every connection), attachments list: the connectors that remain, so that a
     * connection which several attachments of one host share is kept. */
    int (*disconnect_volume)(void *instance, clinker_call *);

    /* -- manage: what is there, for manage, unmanage and the doctor ------------------------------------------ */

    /* Results: volumes list of objects: name string, size integer (GiB, rounded up), bytes integer,
     * snapshots list of objects with name string, or id string where the driver knows that alone; unsafe string: why it cannot be
     * taken over as it is (absent: it can); reference string (optional): what it is taken over by, where its name may not say which
     * it is; manage_volume is told either. Everything that lies in the backend, ours or not.
     * problems list of strings (optional): as of stats; nothing is said of what lies there. */
    int (*list_volumes)(void *instance, clinker_call *);
    /* Arguments: reference object, with source-name or source-id. Takes over an existing object under volume.name;
     * one that has this name already is taken over. BUSY: somebody uses it. This call alone may look into an object to see what it is (a format);
     * what it finds goes into data, and nothing else decides afterwards. Result: size integer (GiB, rounded up), data. The driver itself
     * grows an object that is no whole number of GiB to the size that it says; what is new reads as zeroes. A reference never
     * leads out of the backend: INVALID or NOT_FOUND. */
    int (*manage_volume)(void *instance, clinker_call *);
    int (*unmanage_volume)(void *instance, clinker_call *);

    /* Argument: holder string: what `capabilities` of the instance that is to be shut out (of another machine, whose death
     * nobody saw) gave as holder. After success no write begun by that holder can reach the storage. */
    int (*fence)(void *instance, clinker_call *);

    /* -- block handles --------------------------------------------------------------------------------------- */

    /* Arguments: volume.* (or volume.* and snapshot.* to read a snapshot). flags: CLINKER_HANDLE_*. */
    int (*open_handle)(void *instance, clinker_call *, uint32_t flags, void **handle);
    /* Mandatory beside open_handle, as are get_size, read and write: without one of them there are no handles. No request
     * is under way any more. What was written and not flushed may be lost. */
    void (*close_handle)(void *handle);
    int (*get_size)(void *handle, clinker_call *, uint64_t *bytes);
    /* Alignment the host must keep (a power of two, at most 1 MiB), the size it should prefer, the largest it may use in any
     * request: read, write, zero, discard and submit. NULL: 1, 1 MiB, 32 MiB. */
    int (*block_size)(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum);
    /* Exactly `length` bytes or an error; behind the end of the volume INVALID: a volume does not grow by being written. */
    int (*read)(void *handle, clinker_call *, void *buffer, uint64_t offset, uint64_t length);
    int (*write)(void *handle, clinker_call *, const void *buffer, uint64_t offset, uint64_t length);
    /* To the byte: the neighbours of the range stay. What was discarded reads as it was or as zeroes. */
    int (*zero)(void *handle, clinker_call *, uint64_t offset, uint64_t length);    /* NULL: the host writes zeroes */
    int (*discard)(void *handle, clinker_call *, uint64_t offset, uint64_t length); /* NULL: ignored                */
    /* What was written before is on stable storage when it returns. NULL: every write is when that returns. */
    int (*flush)(void *handle, clinker_call *);
    /* Calls `each` for the range; stops and returns its value when that is not 0. NULL: everything is data. */
    int (*extents)(void *handle, clinker_call *, uint64_t offset, uint64_t length, clinker_extent_function each, void *opaque);
    /* As extents, for what changed since the snapshot `since.*` of the call's arguments; what is not listed did not: here
     * gaps are allowed. More than what changed may be listed, never less. NULL: everything counts as changed. */
    int (*changed)(void *handle, clinker_call *, uint64_t offset, uint64_t length, clinker_extent_function each, void *opaque);
    /* Optional: takes a request and completes it later. Returns other than OK only if it did not take it. */
    int (*submit)(void *handle, clinker_request *);

    /* -- manage, continued ----------------------------------------------------------------------------------- */

    /* As manage_volume and unmanage_volume, for a snapshot of a volume: takes it over under snapshot.name. */
    int (*manage_snapshot)(void *instance, clinker_call *);
    int (*unmanage_snapshot)(void *instance, clinker_call *);

    /* Arguments: source.* of a volume of this driver, the private text included. Gives it the name volume.name and nothing
     * else: it is known what it is, and its bytes, which a guest wrote, are not looked at. Under the new name already:
     * success. Result: data, if it changes. NULL: the host leaves the name as it is. */
    int (*rename_volume)(void *instance, clinker_call *);

    /* -- options ---------------------------------------------------------------------------------------------- */

    /* Every option that `open` may read besides those of the host (volume_driver, volume_backend_name,
     * max_over_subscription_ratio, ...). NULL: not said, and no name is taken for misspelt. */
    const clinker_option *options;
    uint32_t option_count;
    uint32_t option_size; /* sizeof(clinker_option) */

    /* -- images ------------------------------------------------------------------------------------------------ */

    /* Asked of a driver whose capabilities say image_locations. Arguments: image.id string, image.location string: where the
     * Image service says that it keeps the image, which is raw; image.bytes integer. Makes the volume of it without a read of its
     * bytes; what lies beyond them reads as zeroes. The image belongs to somebody else: it is not changed, and no name but one that
     * the Image service would give it is believed. UNSUPPORTED: it cannot be cloned, and nothing was made: its bytes are read. */
    int (*clone_image)(void *instance, clinker_call *);
} clinker_driver;

/* The exported symbol. */
typedef const clinker_driver *(*clinker_driver_function)(void);
#define CLINKER_DRIVER_SYMBOL "clinker_driver_v1"
#define CLINKER_DRIVER(table)                                                                                          \
    __attribute__((visibility("default"))) const clinker_driver *clinker_driver_v1(void) { return &(table); }

/*
 * STORES
 *   A store keeps the objects of backups: a directory, a share, a bucket. Its
 *   library exports the symbol clinker_store_v1, which gives a clinker_store,
 *   as that of a driver gives a clinker_driver; one library may export both.
 *   What is said above of calls, errors, texts, options and the process holds
 *   for a store as it does for a driver.
 *
 *       open ---> capabilities ---> stats, put, get, list, remove, ... ---> close
 *                                   `-> put_open -> put_write, ... -> put_close
 *
 * OBJECTS
 *   An object is a name and bytes that do not change: it is whole or absent,
 *   for every reader at any instant, whatever dies in the middle. There is no
 *   append, no rename and no change of a part.
 *
 *   A name is 1 to 1,024 bytes: at most 64 words joined by "/", each of 1 to
 *   255 bytes of letters, digits and "-_.", no word beginning with ".". So no
 *   name is empty, begins or ends with "/", or has "." or ".." in it; refuse
 *   such a name with INVALID, never cut it and never let it lead elsewhere.
 *   Take other printable bytes as they are, or refuse them with INVALID, too;
 *   refuse control characters. Upper and lower case are apart. The host never
 *   gives two objects names of which one is the other with "/" and more behind
 *   it ("a", "a/b"): whoever asks for both gets both, or EXISTS or INVALID for
 *   the second, and the first stays as it is.
 *
 *   What other programs keep in the same place stays as it is, and so does
 *   what other hosts of the same store put there.
 *
 * DURABILITY
 *   When put, or put_close with commit, returns OK, the object is on stable
 *   storage with its name, and every get, stat_object and list that begins
 *   afterwards finds it, in this process and in others. When remove returns
 *   OK, none finds what was removed. What was put in a call that failed or
 *   died is whole or absent; what such a call left behind besides takes no
 *   name, is in no list, and is removed by the store in its own time: after a
 *   day, so that nobody who still writes is disturbed.
 *
 * REPEAT RULE OF A STORE
 *   Every call may be repeated: put of what is there replaces it, by the same
 *   bytes or by others, and a reader gets all of the old or all of the new;
 *   remove of what is gone succeeds.
 *
 * THREADS OF A STORE
 *   CLINKER_THREADS_PARALLEL is mandatory: calls come from many threads at the
 *   same time, also for one name. A writer is used by one thread at a time.
 *
 * IMAGES
 *   A store whose capability images is true keeps volumes as images with
 *   snapshots, too: backups of the format `cinder` lie in them. The same
 *   library exports clinker_driver_v1 beside clinker_store_v1; the host opens
 *   it with the store's options, backend and state_dir, and calls
 *   create_volume, extend_volume, delete_volume, create_snapshot,
 *   delete_snapshot, revert_to_snapshot, list_volumes (of one volume where
 *   volume.name is given), open_handle, read, write, zero, flush, extents and
 *   changed, all of them mandatory then. volume.id and volume.name are the
 *   image's name, such as volume-ID.backup.ID, and of a snapshot likewise.
 *   create_snapshot leaves nothing that another program would have to lift
 *   before it may remove the snapshot.
 *
 * ERRORS OF A STORE
 *   NOT_FOUND: there is no such object; nothing else is NOT_FOUND. NO_SPACE:
 *   it is full, or a quota is. RETRY: the network or the server has trouble
 *   that may pass; the host repeats as for a driver, and a list from where it
 *   got to. BAD_CONFIGURATION: also of calls after open, where the store
 *   refuses these rights or credentials or has become read-only: an operator
 *   must act. INVALID: a name, or an object larger than the store takes.
 */

/* One piece of the bytes that are put. */
typedef struct clinker_slice {
    const void *bytes;
    uint64_t length; /* may be 0 */
} clinker_slice;

/* What is known of an object. Whoever makes one zeroes it and sets size: the host for stat_object, the store for list.
 * Appended to only: nobody touches a member that lies behind size. */
typedef struct clinker_object {
    size_t size;      /* sizeof(clinker_object)                                       */
    const char *name; /* in a list; stat_object leaves it                             */
    uint64_t length;  /* bytes                                                        */
    int64_t modified; /* when it was put, in seconds since 1970 UTC; 0: not known     */
} clinker_object;

/* The object and its name live as long as the call of the function. */
typedef int (*clinker_object_function)(void *opaque, const clinker_object *object);

/* The table of a store. */
typedef struct clinker_store {
    uint32_t abi;  /* CLINKER_DRIVER_ABI    */
    uint32_t size; /* sizeof(clinker_store) */
    const char *name, *version, *vendor;
    uint32_t kind;    /* CLINKER_BACKUP_DRIVER    */
    uint32_t threads; /* CLINKER_THREADS_PARALLEL */

    /* -- instance: mandatory ------------------------------------------------------------------------------- */

    /* As of a driver: every option of the store's section by its name (as text), backend string (the section), state_dir
     * string: a directory of this store's own on this machine (mode 0700), for what is not to be backed up: caches, sockets.
     * Checks the configuration and that the store answers. Nothing is made in the store but what holds the objects (a
     * directory, a bucket), and that only where an option says so or it is this machine's own. */
    int (*open)(clinker_call *, void **instance);
    void (*close)(void *instance);

    /* Results, the same every time: storage_protocol string ("posix", "s3", ...);
     * consistent_list boolean: a list names every object that was put, and none that was removed, before it began, whoever
     * did it; not set: false, and the host waits before it trusts a list;
     * range_get boolean: a part of an object costs a part of its price; not set: true;
     * preferred_object_size integer, maximum_object_size integer (bytes; not set or null: any size);
     * checks_sha256 boolean: put refuses bytes that do not have the hash it was given; not set: false;
     * object_lock boolean: protect holds off whoever has this store's credentials; not set: false;
     * images boolean: the library keeps images, too (IMAGES); not set: false. */
    int (*capabilities)(void *instance, clinker_call *);

    /* Results: total_capacity_gb real, free_capacity_gb real; negative or not set: not known.
     * problems list of strings (optional): what does not work though the store does, each with why; the operator is told.
     * A store that does not answer fails. Asked for once a minute. */
    int (*stats)(void *instance, clinker_call *);

    /* -- objects: mandatory --------------------------------------------------------------------------------- */

    /* Puts an object made of the slices one after the other; count may be 0. sha256: the 32 bytes of the hash of the whole
     * object, or NULL; a store that checks it (checks_sha256) refuses other bytes with INVALID, and the name is as it was. */
    int (*put)(void *instance, clinker_call *, const char *name, const clinker_slice *slices, uint32_t count,
               const unsigned char *sha256);

    /* Reads `length` bytes at `offset`, and sets *done to as many as there are up to the end of the object: less than length
     * only there, 0 at the end and behind it. offset + length is at most 2^63 - 1. */
    int (*get)(void *instance, clinker_call *, const char *name, void *buffer, uint64_t offset, uint64_t length, uint64_t *done);

    int (*stat_object)(void *instance, clinker_call *, const char *name, clinker_object *object);

    /* Calls `each` for every object whose name begins with `prefix` (any bytes, also a part of a word; "" for all) and is
     * greater than `after` (""; or any text, of an object or not), in ascending order of the names' bytes ("a-" before "a/1"
     * before "a0"), each once. Stops when `each` gives other than 0, and returns that. What is put or removed meanwhile may be
     * named or not; what was there before and stays is. What has no object's name (a stranger's, or what a writer that died left)
     * is left out. `each` may call the store. Ask the storage page by page: there may be
     * millions. */
    int (*list)(void *instance, clinker_call *, const char *prefix, const char *after, clinker_object_function each, void *opaque);

    /* Removes objects; those that are gone already count as removed. At most 1,000 at a time, no name twice. It goes on
     * behind one that cannot be removed, and fails with the first reason at the end. */
    int (*remove)(void *instance, clinker_call *, const char *const *names, uint32_t count);

    /* -- writers: all three or none -------------------------------------------------------------------------- */

    /* An object whose size is not known at first. Nothing is seen of it before put_close with commit. NULL: the host keeps the
     * bytes in a file until it can put them. */
    int (*put_open)(void *instance, clinker_call *, const char *name, void **writer);
    int (*put_write)(void *writer, clinker_call *, const void *bytes, uint64_t length);
    /* Ends the writer, once, whatever it returns. commit 1: as put. commit 0, or after a put_write that failed: gives up what
     * was written, and leaves nothing. */
    int (*put_close)(void *writer, clinker_call *, int commit);

    /* -- optional -------------------------------------------------------------------------------------------- */

    /* Keeps the object from being removed or replaced before a time, in seconds since 1970 UTC. Never shortens what was asked
     * for before: success. Whoever removes it meanwhile gets BUSY. NULL: the store cannot. */
    int (*protect)(void *instance, clinker_call *, const char *name, int64_t until);

    /* -- options ---------------------------------------------------------------------------------------------- */

    /* As of a driver. */
    const clinker_option *options;
    uint32_t option_count;
    uint32_t option_size; /* sizeof(clinker_option) */
} clinker_store;

/* The exported symbol of a store. */
typedef const clinker_store *(*clinker_store_function)(void);
#define CLINKER_STORE_SYMBOL "clinker_store_v1"
#define CLINKER_STORE(table)                                                                                           \
    __attribute__((visibility("default"))) const clinker_store *clinker_store_v1(void) { return &(table); }

/* -- conveniences ---------------------------------------------------------------------------------------------- */

static inline const char *clinker_string(clinker_call *c, const char *name) { return c->host->string(c, name); }
static inline int64_t clinker_integer(clinker_call *c, const char *name, int64_t otherwise) {
    int64_t value;
    return c->host->integer(c, name, &value) ? value : otherwise;
}
static inline int clinker_boolean(clinker_call *c, const char *name, int otherwise) {
    int value;
    return c->host->boolean(c, name, &value) ? value : otherwise;
}
static inline void clinker_log(clinker_call *c, clinker_level level, const char *message) { c->host->log(c, level, message); }
static inline int clinker_cancelled(clinker_call *c) { return c->host->cancelled(c); }
__attribute__((format(printf, 3, 4))) static inline int clinker_fail(clinker_call *c, int code, const char *format, ...) {
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return c->host->fail(c, code, message);
}

#ifdef __cplusplus
}
#endif
#endif
