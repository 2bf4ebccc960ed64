/* What the runtime's own files share; not shipped. */
#ifndef ES_INTERNAL_H
#define ES_INTERNAL_H

#include <stdint.h>

#include "edgesparse.h"

#define ES_HIDDEN __attribute__((visibility("hidden")))

/* Writes the SHA-256 of `bytes` bytes at `data` to `digest`. */
ES_HIDDEN void es_sha256(const void *data, uint64_t bytes, uint8_t digest[32]);

/* Returns how many threads a team has; 0 when es_team_init never saw it. */
ES_HIDDEN int32_t es_team_threads(const es_team *team);

#endif
