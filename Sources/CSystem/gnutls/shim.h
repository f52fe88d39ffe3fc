#include <gnutls/gnutls.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>

/* A variable that holds a function, which Swift takes for mutable state. */
static inline void clinker_gnutls_free(void *memory) { gnutls_free(memory); }
