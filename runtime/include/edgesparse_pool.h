/* edgesparse_pool.h: threads that run a model together, on POSIX threads.
 *
 * Not part of libmodel.a or libmodel.so, which need no C library: compile edgesparse_pool.c with
 * your program, or call es_run_thread from threads of your own.
 *
 *     es_pool *pool = es_pool_create(4);                   // NULL: no memory or no threads
 *     es_status status = es_pool_run(pool, model, weights, arena, inputs, outputs);
 *     es_pool_destroy(pool);
 *
 * C11, and valid C++. */
#ifndef EDGESPARSE_POOL_H
#define EDGESPARSE_POOL_H

#include "edgesparse.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct es_pool es_pool;

/* Starts threads - 1 threads; the caller of es_pool_run is the last one. NULL when `threads` is not
 * 1 to ES_MAX_THREADS, or there is no memory, or a thread cannot be started. */
es_pool *es_pool_create(int32_t threads);

/* Like es_run, by all threads of the pool. One call at a time. Between calls the threads spin for
 * some microseconds and then sleep. */
es_status es_pool_run(es_pool *pool, const es_model *model, const void *weights, void *arena,
                      const void *const *inputs, void *const *outputs);

/* Like es_run_steps, by all threads of the pool. */
es_status es_pool_run_steps(es_pool *pool, const es_model *model, const void *weights, void *arena,
                            const void *const *inputs, void *const *outputs, int32_t first,
                            int32_t last);

/* Ends the threads and frees the pool; a null pool is fine. */
void es_pool_destroy(es_pool *pool);

#ifdef __cplusplus
}
#endif

#endif
