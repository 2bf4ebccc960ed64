/* The plugin: qemu-user feeds it what an aarch64 program executes.
 *
 *     qemu-aarch64 -plugin ./armtime.so,out=FILE program
 *
 * A program marks a point in time with `hint #42`, which every core takes for a nop. From the first
 * mark on everything is modelled, and each mark adds a line to FILE:
 *
 *     {"a55": CYCLES, "a76": CYCLES, "instructions": N, "fma": N, "mispredicted": N}
 *
 * all counted from the first mark. One thread is modelled; qemu calls back in program order. */
#include "armtime.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- qemu's plugin interface, version 1, as far as it is used here (docs/devel/tcg-plugins) ---- */

typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;
typedef struct qemu_info_t qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef void (*vcpu_call)(unsigned cpu, void *data);
typedef void (*memory_call)(unsigned cpu, qemu_plugin_meminfo_t info, uint64_t address, void *data);
enum { NO_REGISTERS = 0, READ_AND_WRITE = 3, INTERFACE_VERSION = 1 };

void qemu_plugin_register_vcpu_tb_trans_cb(
    qemu_plugin_id_t id, void (*call)(qemu_plugin_id_t, struct qemu_plugin_tb *));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block, size_t index);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
char *qemu_plugin_insn_disas(const struct qemu_plugin_insn *insn);
void qemu_plugin_register_vcpu_insn_exec_cb(
    struct qemu_plugin_insn *insn, vcpu_call call, int registers, void *data);
void qemu_plugin_register_vcpu_mem_cb(
    struct qemu_plugin_insn *insn, memory_call call, int registers, int access, void *data);
unsigned qemu_plugin_mem_size_shift(qemu_plugin_meminfo_t info);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = INTERFACE_VERSION;
EXPORT int qemu_plugin_install(
    qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv);

/* ---- from one mark to the next ---- */

static const uint32_t MARK = 0xd503255f; /* hint #42 */
enum { MAX_ADDRESSES = 8, LINE_SHIFT = 6 };

static FILE *out;
static const instruction *pending; /* executed, its accesses still coming in */
static uint64_t addresses[MAX_ADDRESSES];
static int address_count;
static bool is_counting;
static uint64_t instructions, multiply_adds, mispredicted, a55_start, a76_start;

static void on_memory(unsigned cpu, qemu_plugin_meminfo_t info, uint64_t address, void *data) {
  (void)cpu, (void)data;
  if (pending == NULL) {
    return;
  }
  uint64_t last = address + (1u << qemu_plugin_mem_size_shift(info)) - 1;
  if (address_count < MAX_ADDRESSES) {
    addresses[address_count++] = address;
  }
  if (last >> LINE_SHIFT != address >> LINE_SHIFT && address_count < MAX_ADDRESSES) {
    addresses[address_count++] = last;
  }
}

static void finish_pending(uint64_t next_address) {
  const instruction *i = pending;
  if (i == NULL) {
    return;
  }
  pending = NULL;
  int a55_waits = 0, a76_waits = 0;
  uint64_t line = UINT64_MAX;
  for (int k = 0; k < address_count; k++) {
    if (addresses[k] >> LINE_SHIFT != line) {
      line = addresses[k] >> LINE_SHIFT;
      int a55 = access_memory(&a55_memory, addresses[k], i->is_store);
      int a76 = access_memory(&a76_memory, addresses[k], i->is_store);
      a55_waits = a55 > a55_waits ? a55 : a55_waits;
      a76_waits = a76 > a76_waits ? a76 : a76_waits;
    }
  }
  bool is_wrong = i->kind == BRANCH_IF && mispredicts(i->address, next_address != i->address + 4);
  instructions++;
  multiply_adds += i->kind == FMA;
  mispredicted += is_wrong;
  step_a55(i, a55_waits, is_wrong);
  step_a76(i, a76_waits, is_wrong);
}

static void mark(void) {
  if (!is_counting) {
    is_counting = true;
    a55_start = a55_cycles();
    a76_start = a76_cycles();
  }
  fprintf(out,
          "{\"a55\": %" PRIu64 ", \"a76\": %" PRIu64 ", \"instructions\": %" PRIu64
          ", \"fma\": %" PRIu64 ", \"mispredicted\": %" PRIu64 "}\n",
          a55_cycles() - a55_start, a76_cycles() - a76_start, instructions, multiply_adds,
          mispredicted);
  fflush(out);
}

static void on_execute(unsigned cpu, void *data) {
  (void)cpu;
  const instruction *i = data;
  if (is_counting) {
    finish_pending(i->address);
  }
  if (i->is_mark) {
    mark();
  } else if (is_counting) {
    pending = i;
    address_count = 0;
  }
}

static void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
  (void)id;
  for (size_t k = 0; k < qemu_plugin_tb_n_insns(block); k++) {
    struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(block, k);
    instruction *i = calloc(1, sizeof *i); /* as long as qemu may execute the block */
    uint32_t code = 0;
    memcpy(&code, qemu_plugin_insn_data(insn), sizeof code);
    i->address = qemu_plugin_insn_vaddr(insn);
    i->is_mark = code == MARK;
    char *text = qemu_plugin_insn_disas(insn);
    decode(i, text == NULL ? "" : text);
    free(text);
    qemu_plugin_register_vcpu_insn_exec_cb(insn, on_execute, NO_REGISTERS, i);
    qemu_plugin_register_vcpu_mem_cb(insn, on_memory, NO_REGISTERS, READ_AND_WRITE, NULL);
  }
}

int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv) {
  (void)info;
  for (int k = 0; k < argc; k++) {
    if (strncmp(argv[k], "out=", 4) == 0) {
      out = fopen(argv[k] + 4, "w");
    }
  }
  if (out == NULL) {
    fputs("armtime: expected out=FILE, a file that can be written\n", stderr);
    return 1;
  }
  init_memory(&a55_memory, 32, 256);
  init_memory(&a76_memory, 64, 512);
  qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
  return 0;
}
