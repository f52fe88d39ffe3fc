#include <sqlite3.h>

/* SQLite counts what it allocates under a lock of the whole process: two of its dearest calls in a statement that changes rows.
 * To be called before any connection is opened. */
static inline int clinker_sqlite_without_statistics(void) { return sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0); }
/* Gives SQLite its memory. To be called before any connection is opened; SQLite copies the table. */
static inline int clinker_sqlite_use_memory(const sqlite3_mem_methods *methods) { return sqlite3_config(SQLITE_CONFIG_MALLOC, methods); }
