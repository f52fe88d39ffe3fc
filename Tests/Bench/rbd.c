/* rbd CONF USER POOL N: what librbd itself needs for N times a volume, its snapshot and a clone of it (milliseconds each), and what
 * memory a process with a connection has. Then it takes 100 snapshots, 20 at a time, for each line of its standard input.
 *     cc -O2 -o bench-rbd rbd.c -lrbd -lrados -lpthread */
#include <pthread.h>
#include <rados/librados.h>
#include <rbd/librbd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec * 1e-6;
}

static void must(const char *what, int result) {
    if (result >= 0) return;
    fprintf(stderr, "%s: %s\n", what, strerror(-result));
    exit(1);
}

enum { SNAPSHOTS = 100, THREADS = 20 };
static rados_ioctx_t shared_pool;
static int round_number;

static void *take_snapshots(void *first) {
    char name[64], snapshot[64];
    rbd_image_t image;
    for (long i = (long)first; i < SNAPSHOTS; i += THREADS) {
        snprintf(name, sizeof name, "bench-%ld", i % THREADS);
        snprintf(snapshot, sizeof snapshot, "round-%d-%ld", round_number, i);
        must("rbd_open", rbd_open(shared_pool, name, &image, NULL));
        must("rbd_snap_create", rbd_snap_create(image, snapshot));
        must("rbd_snap_protect", rbd_snap_protect(image, snapshot));
        must("rbd_close", rbd_close(image));
    }
    return NULL;
}

int main(int count, char **words) {
    rados_t cluster;
    rados_ioctx_t pool;
    rbd_image_t image;
    char name[64], clone[64];
    if (count != 5) return 2;
    must("create", rados_create(&cluster, words[2]));
    must("configuration", rados_conf_read_file(cluster, words[1]));
    must("connect", rados_connect(cluster));
    must("pool", rados_ioctx_create(cluster, words[3], &pool));
    int times = atoi(words[4]);
    double spent[3] = {0, 0, 0};
    rbd_image_options_t options;
    rbd_image_options_create(&options);
    for (int i = 0; i < times; i++) {
        snprintf(name, sizeof name, "bench-%d", i);
        snprintf(clone, sizeof clone, "bench-clone-%d", i);
        double start = now();
        must("rbd_create4", rbd_create4(pool, name, 1 << 30, options));
        spent[0] += now() - start;
        /* The monitor, which names a snapshot, lets changes that follow each other closely wait for each other. */
        usleep(200000);
        double created = now();
        must("rbd_open", rbd_open(pool, name, &image, NULL));
        must("rbd_snap_create", rbd_snap_create(image, "moment"));
        must("rbd_snap_protect", rbd_snap_protect(image, "moment"));
        must("rbd_close", rbd_close(image));
        double taken = now();
        must("rbd_clone3", rbd_clone3(pool, name, "moment", pool, clone, options));
        spent[1] += taken - created;
        spent[2] += now() - taken;
    }
    for (int i = 0; i < times; i++) {
        snprintf(name, sizeof name, "bench-%d", i);
        snprintf(clone, sizeof clone, "bench-clone-%d", i);
        must("rbd_remove", rbd_remove(pool, clone));
        must("rbd_open", rbd_open(pool, name, &image, NULL));
        must("rbd_snap_unprotect", rbd_snap_unprotect(image, "moment"));
        must("rbd_snap_remove", rbd_snap_remove(image, "moment"));
        rbd_close(image);
        must("rbd_remove", rbd_remove(pool, name));
    }
    printf("%.2f %.2f %.2f\n", spent[0] / times, spent[1] / times, spent[2] / times);
    fflush(stdout);
    shared_pool = pool;
    for (int i = 0; i < THREADS; i++) {
        snprintf(name, sizeof name, "bench-%d", i);
        must("rbd_create4", rbd_create4(pool, name, 1 << 30, options));
    }
    for (; getchar() == '\n'; round_number++) {
        pthread_t threads[THREADS];
        for (long i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, take_snapshots, (void *)i);
        for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
        puts("taken");
        fflush(stdout);
    }
    return 0;
}
