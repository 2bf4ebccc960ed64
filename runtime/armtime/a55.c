/* An in-order core that issues two instructions a cycle, like the Cortex-A55. */
#include "armtime.h"

enum { MISPREDICTION = 8 };

memory a55_memory = {.l2_cycles = 9, .dram_cycles = 60, .tlb_entries = 16, .tlb_cycles = 6};

static uint64_t ready[REGISTERS], now, latest, load_free, store_free, pipe_free[2], fetch_from;
static int issued; /* in this cycle */

/* Cycles until the result is there, of the load pipe, and in which nothing else issues. */
typedef struct cost {
  int latency, load, alone;
} cost;

static cost cost_of(const instruction *i) {
  switch (i->kind) {
    case MULTIPLY: return (cost){3, 0, 0};
    case FMA: case FP: return (cost){4, 0, 0};
    case VECTOR_MOVE: return (cost){2, 0, 0};
    case LOAD_X: case LOAD_D: case LOAD_SPLAT: return (cost){3, 1, 0};
    case LOAD_Q: return (cost){4, 2, 2};
    case LOAD_PAIR_X: return (cost){3, 2, 2};
    case LOAD_PAIR_D: return (cost){4, 2, 2};
    case LOAD_PAIR_Q: return (cost){6, 4, 4};
    case STORE_Q: return (cost){1, 0, 2};
    case STORE_PAIR_Q: return (cost){1, 0, 4};
    case PREFETCH: return (cost){1, 1, 0};
    default: return (cost){1, 0, 0};
  }
}

static uint64_t later(uint64_t a, uint64_t b) {
  return a > b ? a : b;
}

static void move_to(uint64_t *t, uint64_t earliest) {
  if (earliest > *t) {
    *t = earliest;
    issued = 0;
  }
}

static bool uses_vector_pipes(const instruction *i) {
  bool computes = i->kind == FMA || i->kind == FP || i->kind == VECTOR_MOVE;
  return computes && i->width != BY_LANE_MOVE;
}

static uint64_t pipes_free_at(const instruction *i) {
  uint64_t last = later(pipe_free[0], pipe_free[1]);
  uint64_t first = pipe_free[0] + pipe_free[1] - last;
  return i->width == WHOLE ? last : first;
}

static void take_pipes(const instruction *i, uint64_t until) {
  int first = pipe_free[0] <= pipe_free[1] ? 0 : 1;
  pipe_free[first] = until;
  if (i->width == WHOLE) {
    pipe_free[1 - first] = until;
  }
}

static uint64_t issue_time(const instruction *i, const cost *c) {
  uint64_t t = now;
  move_to(&t, fetch_from);
  for (int s = 0; s < i->source_count; s++) {
    move_to(&t, ready[i->sources[s]]);
  }
  if (issued >= 2 || (issued > 0 && c->alone && !i->is_store)) {
    move_to(&t, t + 1);
  }
  move_to(&t, c->load ? load_free : 0);
  move_to(&t, i->is_store ? store_free : 0);
  move_to(&t, uses_vector_pipes(i) ? pipes_free_at(i) : 0);
  return t;
}

void step_a55(const instruction *i, int extra, bool mispredicted) {
  cost c = cost_of(i);
  uint64_t t = issue_time(i, &c);
  if (uses_vector_pipes(i)) {
    take_pipes(i, t + 1);
  }
  if (c.load) {
    load_free = t + (uint64_t)c.load;
  }
  if (i->is_store) {
    store_free = t + (uint64_t)(c.alone ? c.alone : 1);
  }
  for (int d = 0; d < i->target_count; d++) {
    bool is_base = i->is_load && i->writes_base && d == i->target_count - 1;
    int waits = is_base ? 1 : c.latency + (i->is_load ? extra : 0);
    ready[i->targets[d]] = t + (uint64_t)waits;
  }
  now = t + (uint64_t)c.alone;
  issued = c.alone ? 0 : i->kind == BRANCH || i->kind == BRANCH_IF ? 2 : issued + 1;
  if (mispredicted) {
    fetch_from = t + MISPREDICTION;
  }
  latest = later(latest, now);
}

uint64_t a55_cycles(void) {
  return latest;
}
