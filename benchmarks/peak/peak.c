/* The most a core can do: multiply-adds in registers, or with BUFFER_BYTES, loads from a buffer of that
 * size; with OTHER_PEAK, what another file defines.
 *
 * Native it is a process that speaks the runner's line protocol; for wasm it is one exported function,
 * called by peak.mjs. An iteration is CHAINS independent multiply-adds of vectors, or one pass over the
 * buffer. */
typedef float vector __attribute__((vector_size(VECTOR_BYTES), aligned(VECTOR_BYTES)));

#ifdef __wasm_relaxed_simd__
#define MULTIPLY_ADD(a, b, c) ((vector)__builtin_wasm_relaxed_madd_f32x4(a, b, c))
#else
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c)) /* contracted where the target has a fused one */
#endif

#if defined OTHER_PEAK

float peak(int iterations);

#elif defined BUFFER_BYTES

vector buffer[BUFFER_BYTES / VECTOR_BYTES];

__attribute__((export_name("peak"), noinline)) float peak(int iterations) {
  const int count = BUFFER_BYTES / VECTOR_BYTES;
  /* Pages that were never written are all the same one, which is always in L1. */
  if (buffer[0][0] == 0)
    for (int j = 0; j < count; j++) buffer[j] = (vector){0} + 1.0f;
  vector sum[CHAINS] = {0};
  for (int i = 0; i < iterations; i++)
    for (int j = 0; j + CHAINS <= count; j += CHAINS) {
#pragma clang loop unroll(full)
      for (int k = 0; k < CHAINS; k++) sum[k] += buffer[j + k];
    }
  for (int k = 1; k < CHAINS; k++) sum[0] += sum[k];
  return sum[0][0];
}

#else

__attribute__((export_name("peak"), noinline)) float peak(int iterations) {
  vector chain[CHAINS];
  for (int k = 0; k < CHAINS; k++) chain[k] = (vector){0} + (float)k;
  const vector factor = (vector){0} + 0.9999f, term = (vector){0} + 0.5f;
  for (int i = 0; i < iterations; i++) {
#pragma clang loop unroll(full)
    for (int k = 0; k < CHAINS; k++) chain[k] = MULTIPLY_ADD(chain[k], factor, term);
  }
  vector sum = chain[0];
  for (int k = 1; k < CHAINS; k++) sum += chain[k];
  return sum[0];
}

#endif

#ifndef __wasm__
#include <stdio.h>
#include <string.h>
#include <time.h>

static long long nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int main(void) {
  char line[256];
  volatile float kept = 0;
  printf("{\"ready\": true, \"open_ms\": 0, \"timer_resolution_ns\": 100, \"step_count\": 0}\n");
  fflush(stdout);
  while (fgets(line, sizeof line, stdin)) {
    long count = 0, batch = 1;
    if (strncmp(line, "quit", 4) == 0) break;
    if (sscanf(line, "bench %ld %ld", &count, &batch) < 1) {
      printf("{\"error\": \"expected bench or quit\"}\n");
    } else {
      printf("{\"samples_ns\": [");
      for (long i = 0; i < count; i++) {
        long long start = nanoseconds();
        for (long k = 0; k < batch; k++) kept += peak(ITERATIONS);
        printf("%s%.1f", i ? ", " : "", (double)(nanoseconds() - start) / (double)batch);
      }
      printf("]}\n");
    }
    fflush(stdout);
  }
  return 0;
}
#endif
