/* null: a driver whose calls cost nothing, for measuring what everything else costs. Options: pools (how many). Nothing is
 * kept, so nothing can be read back.
 *     cc -std=c11 -O2 -fPIC -shared -I<Clinker>/Sources/CDriver/include -o clinker-null.so null.c */
#include <clinker/driver.h>
#include <stdlib.h>

static int null_open(clinker_call *call, void **instance) {
    int64_t *pools = malloc(sizeof *pools);
    if (!pools) return clinker_fail(call, CLINKER_RETRY, "out of memory");
    *pools = clinker_integer(call, "pools", 1);
    *instance = pools;
    return CLINKER_OK;
}
static void null_close(void *instance) { free(instance); }

static int null_capabilities(void *instance, clinker_call *call) {
    (void)instance;
    call->host->set_string(call, "storage_protocol", "null");
    call->host->set_boolean(call, "thin_provisioning_support", 1);
    return CLINKER_OK;
}

static int null_stats(void *instance, clinker_call *call) {
    const clinker_host *host = call->host;
    host->begin_list(call, "pools");
    for (int64_t index = 0; index < *(int64_t *)instance; index++) {
        char name[32];
        snprintf(name, sizeof name, "pool%d", (int)index);
        host->begin_object(call, NULL);
        host->set_string(call, "name", name);
        host->set_real(call, "total_capacity_gb", 1e6);
        host->set_real(call, "free_capacity_gb", 1e6);
        host->end(call);
    }
    host->end(call);
    return CLINKER_OK;
}

static int null_nothing(void *instance, clinker_call *call) {
    (void)instance, (void)call;
    return CLINKER_OK;
}

static const clinker_driver driver = {
    .abi = CLINKER_DRIVER_ABI, .size = sizeof(clinker_driver), .name = "null", .version = "1.0", .vendor = "Clinker",
    .kind = CLINKER_VOLUME_DRIVER, .threads = CLINKER_THREADS_PARALLEL, .open = null_open, .close = null_close,
    .capabilities = null_capabilities, .stats = null_stats, .create_volume = null_nothing, .delete_volume = null_nothing,
    .extend_volume = null_nothing,
};
CLINKER_DRIVER(driver)
