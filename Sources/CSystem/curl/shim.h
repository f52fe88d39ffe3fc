#ifndef CLINKER_CURL_SHIM_H
#define CLINKER_CURL_SHIM_H

#include <curl/curl.h>

/* curl_easy_setopt and curl_easy_getinfo are variadic, which Swift cannot call. */
typedef size_t (*clinker_curl_callback)(char *, size_t, size_t, void *);

static inline CURLcode clinker_curl_long(CURL *curl, CURLoption option, long value) { return curl_easy_setopt(curl, option, value); }
static inline CURLcode clinker_curl_offset(CURL *curl, CURLoption option, curl_off_t value) {
    return curl_easy_setopt(curl, option, value);
}
static inline CURLcode clinker_curl_text(CURL *curl, CURLoption option, const char *value) { return curl_easy_setopt(curl, option, value); }
static inline CURLcode clinker_curl_pointer(CURL *curl, CURLoption option, void *value) { return curl_easy_setopt(curl, option, value); }
static inline CURLcode clinker_curl_function(CURL *curl, CURLoption option, clinker_curl_callback value) {
    return curl_easy_setopt(curl, option, value);
}
/* How a body that is sent is put back to its beginning, and how a transfer is ended from within. */
typedef int (*clinker_curl_seek)(void *, curl_off_t, int);
typedef int (*clinker_curl_progress)(void *, curl_off_t, curl_off_t, curl_off_t, curl_off_t);
static inline CURLcode clinker_curl_seek_function(CURL *curl, clinker_curl_seek value) {
    return curl_easy_setopt(curl, CURLOPT_SEEKFUNCTION, value);
}
static inline CURLcode clinker_curl_progress_function(CURL *curl, clinker_curl_progress value) {
    return curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, value);
}
static inline CURLcode clinker_curl_status(CURL *curl, long *status) { return curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, status); }

#endif
