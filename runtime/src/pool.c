/* The functions of edgesparse_pool.h. POSIX threads, C11.
 *
 * A run is posted by raising a counter. Workers watch it for a while, then sleep on a condition;
 * they and the caller meet at the team's barrier when they are done. */
#define _POSIX_C_SOURCE 200809L

#include "edgesparse_pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { SPINS = 2000, STACK_BYTES = 8 << 20 };

typedef struct run {
  const es_model *model;
  const void *weights;
  void *arena;
  const void *const *inputs;
  void *const *outputs;
  int32_t first;
  int32_t last;
} run;

typedef struct worker {
  es_pool *pool;
  pthread_t thread;
  int32_t index;
} worker;

struct es_pool {
  es_team team;
  atomic_uint posted; /* runs posted since the start */
  run run;            /* the one posted last */
  int ends;
  int32_t threads;
  int32_t started; /* workers 1 <= index < started have a thread */
  pthread_mutex_t mutex;
  pthread_cond_t wake;
  es_status status[ES_MAX_THREADS];
  worker workers[ES_MAX_THREADS];
};

static void pause_cpu(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static void run_share(es_pool *pool, int32_t index) {
  const run *r = &pool->run;
  pool->status[index] = es_run_thread(r->model, r->weights, r->arena, r->inputs, r->outputs,
                                      &pool->team, index, r->first, r->last);
  es_barrier(&pool->team, pool->threads); /* nobody looks at pool->run any more */
}

/* Waits until more than `seen` runs are posted. */
static void wait_for_run(es_pool *pool, unsigned seen) {
  for (int i = 0; i < SPINS; i++) {
    if (atomic_load_explicit(&pool->posted, memory_order_acquire) != seen) {
      return;
    }
    pause_cpu();
  }
  pthread_mutex_lock(&pool->mutex);
  while (atomic_load_explicit(&pool->posted, memory_order_acquire) == seen) {
    pthread_cond_wait(&pool->wake, &pool->mutex);
  }
  pthread_mutex_unlock(&pool->mutex);
}

static void *work(void *argument) {
  const worker *self = argument;
  es_pool *pool = self->pool;
  for (unsigned seen = 0;; seen++) {
    wait_for_run(pool, seen);
    if (pool->ends) {
      return NULL;
    }
    run_share(pool, self->index);
  }
}

static void post(es_pool *pool) {
  pthread_mutex_lock(&pool->mutex);
  atomic_fetch_add_explicit(&pool->posted, 1, memory_order_release);
  pthread_cond_broadcast(&pool->wake);
  pthread_mutex_unlock(&pool->mutex);
}

/* Starts the workers; returns 0 when one cannot be started. */
static int start_workers(es_pool *pool) {
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) {
    return 0;
  }
  int failed = pthread_attr_setstacksize(&attributes, STACK_BYTES);
  while (!failed && pool->started < pool->threads) {
    worker *next = &pool->workers[pool->started];
    next->pool = pool;
    next->index = pool->started;
    failed = pthread_create(&next->thread, &attributes, work, next);
    pool->started += !failed;
  }
  pthread_attr_destroy(&attributes);
  return !failed;
}

es_pool *es_pool_create(int32_t threads) {
  es_pool *pool = calloc(1, sizeof *pool);
  if (pool == NULL || es_team_init(&pool->team, threads) != ES_OK) {
    free(pool);
    return NULL;
  }
  pool->threads = threads;
  pool->started = 1; /* worker 0 is the caller */
  atomic_init(&pool->posted, 0);
  pthread_mutex_init(&pool->mutex, NULL);
  pthread_cond_init(&pool->wake, NULL);
  if (!start_workers(pool)) {
    es_pool_destroy(pool);
    return NULL;
  }
  return pool;
}

es_status es_pool_run_steps(es_pool *pool, const es_model *model, const void *weights, void *arena,
                            const void *const *inputs, void *const *outputs, int32_t first,
                            int32_t last) {
  if (pool == NULL) {
    return ES_NULL_POINTER;
  }
  if (pool->threads == 1) {
    return es_run_steps(model, weights, arena, inputs, outputs, first, last);
  }
  pool->run = (run){model, weights, arena, inputs, outputs, first, last};
  post(pool);
  run_share(pool, 0);
  for (int32_t i = 0; i < pool->threads; i++) {
    if (pool->status[i] != ES_OK) {
      return pool->status[i];
    }
  }
  return ES_OK;
}

es_status es_pool_run(es_pool *pool, const es_model *model, const void *weights, void *arena,
                      const void *const *inputs, void *const *outputs) {
  int32_t last = model == NULL ? 0 : model->step_count;
  return es_pool_run_steps(pool, model, weights, arena, inputs, outputs, 0, last);
}

void es_pool_destroy(es_pool *pool) {
  if (pool == NULL) {
    return;
  }
  pool->ends = 1;
  post(pool);
  for (int32_t i = 1; i < pool->started; i++) {
    pthread_join(pool->workers[i].thread, NULL);
  }
  pthread_cond_destroy(&pool->wake);
  pthread_mutex_destroy(&pool->mutex);
  free(pool);
}
