// watch CONF POOL OBJECT: connects to the cluster and its OSD, says "connected", and watches the object once there is input.
#include <rados/librados.h>
#include <stdio.h>
#include <unistd.h>

static void notified(void *a, uint64_t i, uint64_t h, uint64_t n, void *d, size_t l) { (void)a, (void)i, (void)h, (void)n, (void)d, (void)l; }

int main(int argc, char **argv) {
    rados_t cluster;
    rados_ioctx_t pool;
    uint64_t size, cookie;
    time_t time;
    char byte;
    if (argc != 4 || rados_create(&cluster, "admin") || rados_conf_read_file(cluster, argv[1]) || rados_connect(cluster) ||
        rados_ioctx_create(cluster, argv[2], &pool) || rados_stat(pool, argv[3], &size, &time))
        return 1;
    if (puts("connected") < 0 || fflush(stdout) || read(0, &byte, 1) < 1) return 1;
    return rados_watch2(pool, argv[3], &cookie, notified, NULL, NULL) ? 1 : pause();
}
