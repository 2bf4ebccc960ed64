/* A model whose steps each read what all threads wrote in the step before, run by threads of this
 * program (`threads N`) or by a pool (`pool N`), many times; prints the last sum. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgesparse_pool.h"

enum { SIZE = 64, STEPS = 6, RUNS = 200 };

#ifdef WITHOUT_BARRIER
#define MEET(team, threads) (void)(team)
#else
#define MEET(team, threads) es_barrier(team, threads)
#endif

static int32_t entry(const void *payload, void *arena, const void *const *inputs,
                     void *const *outputs, int32_t first, int32_t last, int32_t thread,
                     int32_t threads, es_team *team) {
  (void)payload;
  for (int32_t step = first; step < last; step++) {
    if (step > first && threads > 1) {
      MEET(team, threads);
    }
    const int32_t *from = step == 0 ? inputs[0] : (int32_t *)arena + SIZE * ((step + 1) % 2);
    int32_t *to = step == STEPS - 1 ? outputs[0] : (int32_t *)arena + SIZE * (step % 2);
    for (int32_t i = SIZE * thread / threads; i < SIZE * (thread + 1) / threads; i++) {
      to[i] = (from[i] + from[(i + 23) % SIZE]) % 1000;
    }
  }
  return 0;
}

static const int64_t SHAPE[] = {SIZE};
static const es_tensor TENSOR = {"t", SHAPE, 1, ES_INT32, 4 * SIZE};
static const es_model MODEL = {
    .abi_version = ES_ABI_VERSION,
    .input_count = 1,
    .output_count = 1,
    .step_count = STEPS,
    .name = "toy",
    .inputs = &TENSOR,
    .outputs = &TENSOR,
    .weights_bytes = 64,
    .arena_bytes = 8 * SIZE,
    .entry = entry,
};

static _Alignas(64) unsigned char weights[64];
static _Alignas(64) unsigned char arena[8 * SIZE];
static int32_t input[SIZE], output[SIZE];
static const void *inputs[] = {input};
static void *outputs[] = {output};
static es_team team;
static int32_t team_size;

/* The input of the next run is the output of the last one, so that runs depend on each other. */
static void feed(void) { memcpy(input, output, sizeof input); }

static void *work(void *argument) {
  int32_t thread = *(const int32_t *)argument;
  es_status status = ES_OK;
  for (int run = 0; run < RUNS && status == ES_OK; run++) {
    status = es_run_thread(&MODEL, weights, arena, inputs, outputs, &team, thread, 0, STEPS);
    if (thread == 0) {
      feed();
    }
    es_barrier(&team, team_size);
  }
  if (status != ES_OK) {
    puts(es_status_text(status));
    exit(1);
  }
  return NULL;
}

static void run_threads(int32_t threads) {
  pthread_t thread[ES_MAX_THREADS];
  int32_t index[ES_MAX_THREADS];
  team_size = threads;
  es_team_init(&team, threads);
  for (int32_t i = 0; i < threads; i++) {
    index[i] = i;
    pthread_create(&thread[i], NULL, work, &index[i]);
  }
  for (int32_t i = 0; i < threads; i++) {
    pthread_join(thread[i], NULL);
  }
}

static void run_pool(int32_t threads) {
  es_pool *pool = es_pool_create(threads);
  for (int run = 0; run < RUNS; run++) {
    /* Every other run goes step by step, as a profiler does. */
    for (int32_t step = 0; step < STEPS && run % 2 == 1; step++) {
      es_pool_run_steps(pool, &MODEL, weights, arena, inputs, outputs, step, step + 1);
    }
    if (run % 2 == 0 && es_pool_run(pool, &MODEL, weights, arena, inputs, outputs) != ES_OK) {
      exit(1);
    }
    feed();
  }
  es_pool_destroy(pool);
}

int main(int argc, char **argv) {
  if (argc != 3) {
    return 2;
  }
  for (int32_t i = 0; i < SIZE; i++) {
    output[i] = i * i % 101;
  }
  feed();
  int32_t threads = atoi(argv[2]);
  if (strcmp(argv[1], "pool") == 0) {
    run_pool(threads);
  } else {
    run_threads(threads);
  }
  long sum = 0;
  for (int32_t i = 0; i < SIZE; i++) {
    sum += (i + 1) * (long)output[i];
  }
  printf("%ld\n", sum);
  return 0;
}
