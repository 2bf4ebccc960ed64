/* What the runtime's own files share; not shipped. */
#ifndef ES_INTERNAL_H
#define ES_INTERNAL_H

#include <stdint.h>

#define ES_HIDDEN __attribute__((visibility("hidden")))

/* Writes the SHA-256 of `bytes` bytes at `data` to `digest`. */
ES_HIDDEN void es_sha256(const void *data, uint64_t bytes, uint8_t digest[32]);

#endif
