/* An out-of-order core like the Cortex-A76: four instructions a cycle into a reorder buffer of 128,
 * two load/store, two vector, three integer ports and one for branches. */
#include "armtime.h"

enum { MEMORY, VECTOR, INTEGER, CONTROL, PORTS };
enum { WINDOW = 65536, REORDER = 128, DISPATCH = 4, DISPATCH_OPS = 8, MISPREDICTION = 9 };
enum { FORWARDED = 2 }; /* an accumulator is wanted so many cycles later than other operands */

memory a76_memory = {.l2_cycles = 7, .dram_cycles = 40, .tlb_entries = MAX_TLB, .tlb_cycles = 5};

static const int PORT_COUNT[PORTS] = {2, 2, 3, 1};

static uint64_t ready[REGISTERS], retired[REORDER], dispatch, last_retired, cleared;
static uint8_t taken[PORTS][WINDOW];
static unsigned next;
static int dispatched, dispatched_ops;

/* Operations by port, and cycles until the result is there. */
typedef struct cost {
  int ops[PORTS], latency;
} cost;

static cost cost_of(const instruction *i) {
  switch (i->kind) {
    case ALU: return (cost){{0, 0, 1, 0}, 1};
    case MULTIPLY: return (cost){{0, 0, 1, 0}, 3};
    case BRANCH: case BRANCH_IF: return (cost){{0, 0, 0, 1}, 1};
    case FMA: return (cost){{0, 1, 0, 0}, 4};
    case FP: case VECTOR_MOVE: return (cost){{0, 1, 0, 0}, 2};
    case LOAD_X: case LOAD_PAIR_X: return (cost){{1, 0, 0, 0}, 4};
    case LOAD_D: case LOAD_Q: case LOAD_PAIR_D: return (cost){{1, 0, 0, 0}, 5};
    case LOAD_PAIR_Q: return (cost){{2, 0, 0, 0}, 5};
    case LOAD_SPLAT: return (cost){{1, 1, 0, 0}, 7};
    case STORE_X: case PREFETCH: return (cost){{1, 0, 0, 0}, 1};
    case STORE_Q: return (cost){{1, 1, 0, 0}, 1};
    case STORE_PAIR_Q: return (cost){{2, 2, 0, 0}, 1};
    default: return (cost){{0, 0, 0, 0}, 1};
  }
}

static uint64_t later(uint64_t a, uint64_t b) {
  return a > b ? a : b;
}

/* Takes the first free slot of a port from a cycle on; returns its cycle. */
static uint64_t place(int port, uint64_t cycle) {
  while (taken[port][cycle % WINDOW] >= PORT_COUNT[port]) {
    cycle++;
  }
  taken[port][cycle % WINDOW]++;
  return cycle;
}

static void clear_ahead(uint64_t cycle) {
  for (; cleared < cycle + WINDOW / 2; cleared++) {
    for (int port = 0; port < PORTS; port++) {
      taken[port][cleared % WINDOW] = 0;
    }
  }
}

static void dispatch_next(int ops) {
  uint64_t room = retired[next % REORDER];
  if (dispatch < room) {
    dispatch = room;
    dispatched = dispatched_ops = 0;
  }
  ops = ops ? ops : 1;
  if (dispatched == DISPATCH || dispatched_ops + ops > DISPATCH_OPS) {
    dispatch++;
    dispatched = dispatched_ops = 0;
  }
  dispatched++;
  dispatched_ops += ops;
  clear_ahead(dispatch);
}

static uint64_t operands_ready(const instruction *i) {
  uint64_t t = dispatch + 1;
  for (int s = 0; s < i->source_count; s++) {
    uint64_t r = ready[i->sources[s]];
    bool accumulates = i->kind == FMA && s == 0 && i->sources[0] == i->targets[0];
    t = later(t, accumulates && r >= FORWARDED ? r - FORWARDED : r);
  }
  return t;
}

/* Returns when the result is there. */
static uint64_t execute(const instruction *i, const cost *c, int extra) {
  uint64_t start = operands_ready(i), issue = 0;
  if (c->ops[MEMORY]) {
    for (int k = 0; k < c->ops[MEMORY]; k++) {
      issue = later(issue, place(MEMORY, start));
    }
    if (i->kind == LOAD_SPLAT) {
      return place(VECTOR, issue + 5 + (uint64_t)extra) + 2;
    }
    for (int k = 0; i->is_store && k < c->ops[VECTOR]; k++) {
      place(VECTOR, start);
    }
    if (i->is_store || i->kind == PREFETCH) {
      return start + 1;
    }
    return issue + (uint64_t)(c->latency + (i->is_load ? extra : 0));
  }
  for (int port = VECTOR; port < PORTS; port++) {
    if (c->ops[port]) {
      return place(port, start) + (uint64_t)c->latency;
    }
  }
  return start + (uint64_t)c->latency;
}

static uint64_t base_ready(const instruction *i) {
  uint64_t t = dispatch + 1;
  uint8_t base = i->targets[i->target_count - 1];
  for (int s = 0; s < i->source_count; s++) {
    t = i->sources[s] == base ? later(t, ready[base]) : t;
  }
  return place(INTEGER, t) + 1;
}

void step_a76(const instruction *i, int extra, bool mispredicted) {
  cost c = cost_of(i);
  dispatch_next(c.ops[0] + c.ops[1] + c.ops[2] + c.ops[3] + (i->writes_base ? 1 : 0));
  uint64_t done = execute(i, &c, extra);
  uint64_t base = i->writes_base ? base_ready(i) : 0;
  for (int d = 0; d < i->target_count; d++) {
    bool is_base = i->writes_base && d == i->target_count - 1;
    ready[i->targets[d]] = is_base ? base : done;
  }
  done = later(done, last_retired);
  last_retired = done;
  retired[next % REORDER] = done;
  next++;
  if (mispredicted && dispatch < done + MISPREDICTION) {
    dispatch = done + MISPREDICTION;
    dispatched = dispatched_ops = 0;
  }
}

uint64_t a76_cycles(void) {
  return last_retired;
}
