/* armtime: modelled cycles of an aarch64 program on two cores, from what qemu executes.
 *
 * Every executed instruction, with the addresses it touches, goes to two models: an in-order core
 * like the Cortex-A55 and an out-of-order one like the Cortex-A76, each with caches of its own.
 * Good for ranking kernels on equal data: ratios to about 10 %, absolute cycles to 15-20 %. Not
 * modelled: software prefetch, the instruction cache, limits of misses in flight, DRAM bandwidth.
 *
 * Sources: Arm Cortex-A55 and Cortex-A76 Software Optimization Guides (issue, latencies, ports). */
#ifndef ARMTIME_H
#define ARMTIME_H

#include <stdbool.h>
#include <stdint.h>

/* What an instruction occupies. Q, D and X: a vector register, half of one, a general one. */
typedef enum kind {
  ALU, MULTIPLY, BRANCH, BRANCH_IF, FMA, FP, VECTOR_MOVE,
  LOAD_X, LOAD_D, LOAD_Q, LOAD_PAIR_X, LOAD_PAIR_D, LOAD_PAIR_Q, LOAD_SPLAT,
  STORE_X, STORE_Q, STORE_PAIR_Q, PREFETCH, NOTHING
} kind;

/* Registers: x0-x30 and sp are 0-31, v0-v31 follow, then the flags and what reads as zero. */
enum { SP = 31, V0 = 32, FLAGS = 64, ZERO = 65, REGISTERS = 66, MAX_TARGETS = 6, MAX_SOURCES = 12 };

/* How much of the two 64-bit vector pipes an operation takes. */
typedef enum width { HALF, WHOLE, BY_LANE_MOVE } width;

typedef struct instruction {
  uint64_t address;
  kind kind;
  width width;
  bool is_load, is_store, writes_base; /* the base is the last target, and ready early */
  bool is_mark;
  uint8_t target_count, source_count;
  uint8_t targets[MAX_TARGETS], sources[MAX_SOURCES];
} instruction;

/* Fills in what an instruction does from its disassembly. */
void decode(instruction *i, const char *text);

typedef struct cache {
  int sets, ways;
  uint64_t *tags, *used, clock;
} cache;

enum { STREAMS = 64, MAX_TLB = 48 };

/* Caches, TLB and a prefetcher of ascending lines in a page. */
typedef struct memory {
  cache l1, l2;
  int l2_cycles, dram_cycles, tlb_entries, tlb_cycles;
  uint64_t tlb[MAX_TLB];
  uint64_t stream_page[STREAMS];
  int stream_line[STREAMS], stream_hits[STREAMS];
} memory;

void init_memory(memory *m, int l1_kib, int l2_kib);

/* Returns the cycles beyond an L1 hit that an access waits. */
int access_memory(memory *m, uint64_t address, bool is_store);

/* Returns whether a conditional branch was predicted wrongly (TAGE-like). */
bool mispredicts(uint64_t address, bool is_taken);

extern memory a55_memory, a76_memory;

/* Execute one instruction whose accesses wait `extra` cycles. */
void step_a55(const instruction *i, int extra, bool mispredicted);
void step_a76(const instruction *i, int extra, bool mispredicted);

/* Cycles so far. */
uint64_t a55_cycles(void);
uint64_t a76_cycles(void);

#endif
