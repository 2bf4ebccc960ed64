/* Threads that run one model together: a barrier. Freestanding C11 with the compiler's atomics.
 *
 * A thread that arrives counts itself; the last one starts the count anew and opens the next
 * generation, which is what the others wait for. Each counter has a cache line of its own.
 * In WebAssembly a thread that has waited for a while sleeps, and is counted while it does. */
#include "edgesparse.h"

#include <stddef.h>

#include "internal.h"

/* Where an es_team keeps what; 16 words are 64 bytes. */
enum { ARRIVED = 0, GENERATION = 16, SIZE = 32, MARK = 33, SLEEPERS = 34 };

enum { TEAM_MARK = 0x7ea3ed5e };

#if defined(__wasm_atomics__)

/* A turn is a few cycles, as there is no pause; sleeping and waking up takes some 50 us. */
enum { SPINS = 1 << 15 };

/* Returns when *word is no longer `value`. The host's, as a page's main thread must not sleep and
 * somebody has to notice when another thread is gone: then it throws. */
__attribute__((import_module("env"), import_name("es_wait"))) void es_wait(const uint32_t *word,
                                                                           uint32_t value);

static void pause_cpu(void) {
}

static void sleep_until_changed(es_team *team, uint32_t generation) {
  __atomic_add_fetch(&team->opaque[SLEEPERS], 1, __ATOMIC_SEQ_CST);
  es_wait(&team->opaque[GENERATION], generation);
  __atomic_sub_fetch(&team->opaque[SLEEPERS], 1, __ATOMIC_SEQ_CST);
}

/* Who goes to sleep later than this looks finds the new generation. */
static void wake_sleepers(es_team *team) {
  if (__atomic_load_n(&team->opaque[SLEEPERS], __ATOMIC_SEQ_CST) != 0) {
    __builtin_wasm_memory_atomic_notify((int *)&team->opaque[GENERATION], ES_MAX_THREADS);
  }
}

#else

enum { SPINS = 1 << 10 };

static void pause_cpu(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/* Lets another thread have this CPU: without it, two threads on one CPU would each spin until the
 * system takes the CPU away. */
static void yield_cpu(void) {
#if defined(__linux__) && defined(__x86_64__)
  long result = 24; /* sched_yield */
  __asm__ volatile("syscall" : "+a"(result) : : "rcx", "r11", "memory");
#elif defined(__linux__) && defined(__aarch64__)
  register long number __asm__("x8") = 124; /* sched_yield */
  register long result __asm__("x0");
  __asm__ volatile("svc #0" : "=r"(result) : "r"(number) : "memory");
#else
  pause_cpu();
#endif
}

static void sleep_until_changed(es_team *team, uint32_t generation) {
  (void)team, (void)generation;
  yield_cpu();
}

static void wake_sleepers(es_team *team) {
  (void)team;
}

#endif

es_status es_team_init(es_team *team, int32_t threads) {
  if (team == NULL) {
    return ES_NULL_POINTER;
  }
  for (size_t i = 0; i < sizeof team->opaque / sizeof *team->opaque; i++) {
    team->opaque[i] = 0;
  }
  if (threads < 1 || threads > ES_MAX_THREADS) {
    return ES_THREADS;
  }
  team->opaque[SIZE] = (uint32_t)threads;
  team->opaque[MARK] = TEAM_MARK;
  return ES_OK;
}

int32_t es_team_threads(const es_team *team) {
  return team->opaque[MARK] == TEAM_MARK ? (int32_t)team->opaque[SIZE] : 0;
}

void es_barrier(es_team *team, int32_t threads) {
  uint32_t *arrived = &team->opaque[ARRIVED], *current = &team->opaque[GENERATION];
  /* Before arriving: it cannot change until this thread has arrived. */
  uint32_t generation = __atomic_load_n(current, __ATOMIC_RELAXED);
  if (__atomic_add_fetch(arrived, 1, __ATOMIC_ACQ_REL) == (uint32_t)threads) {
    __atomic_store_n(arrived, 0, __ATOMIC_RELAXED);
    __atomic_store_n(current, generation + 1, __ATOMIC_RELEASE);
    wake_sleepers(team);
    return;
  }
  for (uint32_t spins = 0; __atomic_load_n(current, __ATOMIC_ACQUIRE) == generation; spins++) {
    if (spins < SPINS) {
      pause_cpu();
    } else {
      sleep_until_changed(team, generation);
    }
  }
}
