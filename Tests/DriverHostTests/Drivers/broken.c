/* Plugins that must be refused, one for each macro: NO_SYMBOL, WRONG_ABI, MISSING_CALL, SHORT_TABLE, NO_NAME. */
#include <clinker/driver.h>

static int nothing(clinker_call *call, void **instance) {
    (void)call, (void)instance;
    return CLINKER_OK;
}
static void end(void *instance) { (void)instance; }
static int ignore(void *instance, clinker_call *call) {
    (void)instance, (void)call;
    return CLINKER_OK;
}

const clinker_driver table = {
#ifdef WRONG_ABI
    .abi = CLINKER_DRIVER_ABI + 1,
#else
    .abi = CLINKER_DRIVER_ABI,
#endif
#ifdef SHORT_TABLE
    .size = 16,
#else
    .size = sizeof(clinker_driver),
#endif
#ifndef NO_NAME
    .name = "broken",
#endif
    .version = "1", .kind = CLINKER_VOLUME_DRIVER, .open = nothing, .close = end, .capabilities = ignore, .stats = ignore,
    .create_volume = ignore,
#ifndef MISSING_CALL
    .delete_volume = ignore,
#endif
};

#ifndef NO_SYMBOL
CLINKER_DRIVER(table)
#endif
