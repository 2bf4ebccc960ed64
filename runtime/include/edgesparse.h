/* edgesparse.h: run a model that edgesparse compiled.
 *
 * No global state, no allocation, no input or output: the caller owns weights, arena and tensors.
 * One model may run many times at once when every run has an arena of its own; and one run may be
 * shared by a team of threads, see es_run_thread.
 * C11, and valid C++. A bundle's model.h holds a complete example.
 */
#ifndef EDGESPARSE_H
#define EDGESPARSE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Layout of the structures below; es_model.abi_version says which one a model was built with. */
#define ES_ABI_VERSION 2

/* Weights and arena start at a multiple of this. Inputs and outputs need only the alignment of
 * their element type. */
#define ES_ALIGNMENT_BYTES 64

/* The largest team of threads. */
#define ES_MAX_THREADS 64

/* weights.bin: this header, then the payload. All numbers are little-endian.
 *    0  char[8]   "ESPARSE1"
 *    8  uint32    version, 1
 *   12  uint32    bytes of this header, 64
 *   16  uint64    bytes of the payload
 *   24  uint8[32] SHA-256 of the payload
 *   56  8 zero bytes */
#define ES_WEIGHTS_HEADER_BYTES 64

/* What a function returns. */
typedef enum es_status {
  ES_OK = 0,
  ES_NULL_POINTER = 1,      /* a model, weights, arena, input or output pointer is null */
  ES_MISALIGNED = 2,        /* weights or arena do not start at a multiple of 64 bytes */
  ES_WEIGHTS_FOREIGN = 3,   /* the weights do not begin with "ESPARSE1" */
  ES_WEIGHTS_VERSION = 4,   /* the weights have another format version */
  ES_WEIGHTS_SIZE = 5,      /* the weights are truncated or have trailing bytes */
  ES_WEIGHTS_MISMATCH = 6,  /* the weights belong to another model */
  ES_WEIGHTS_CORRUPT = 7,   /* the payload's SHA-256 is not the one in the header */
  ES_ABI_MISMATCH = 8,      /* the model was built with another version of this header */
  ES_STEP_RANGE = 9,        /* not 0 <= first <= last <= step_count */
  ES_KERNEL_FAILED = 10,    /* the model's code reported a failure */
  ES_THREADS = 11           /* a team is not of 1 to ES_MAX_THREADS threads, or not 0 <= thread */
} es_status;

/* Element types, numbered as in ONNX. */
typedef enum es_dtype {
  ES_FLOAT32 = 1,
  ES_UINT8 = 2,
  ES_INT8 = 3,
  ES_UINT16 = 4,
  ES_INT16 = 5,
  ES_INT32 = 6,
  ES_INT64 = 7,
  ES_BOOL = 9,
  ES_FLOAT16 = 10,
  ES_FLOAT64 = 11,
  ES_UINT32 = 12,
  ES_UINT64 = 13
} es_dtype;

/* An input or output: contiguous, row-major. */
typedef struct es_tensor {
  const char *name;
  const int64_t *shape; /* rank extents */
  uint32_t rank;
  int32_t dtype; /* es_dtype */
  uint64_t bytes;
} es_tensor;

/* An operator of the model and the steps that compute it: first_step <= step < last_step. */
typedef struct es_layer {
  const char *name;
  const char *op;
  int32_t first_step;
  int32_t last_step;
} es_layer;

/* Where the threads of one run meet: yours, written to by es_team_init only. */
typedef struct es_team {
  uint32_t opaque[48];
} es_team;

/* The model's code: runs one thread's share of steps first <= step < last; returns 0. `payload` is
 * the weights after their header; `team` may be null when `threads` is 1. Call es_run_steps or
 * es_run_thread, which check their arguments, instead. */
typedef int32_t (*es_entry)(const void *payload, void *arena, const void *const *inputs,
                            void *const *outputs, int32_t first, int32_t last, int32_t thread,
                            int32_t threads, es_team *team);

/* Everything there is to know about a compiled model. */
typedef struct es_model {
  uint32_t abi_version; /* ES_ABI_VERSION */
  uint32_t input_count;
  uint32_t output_count;
  uint32_t layer_count;
  int32_t step_count;
  const char *name;
  const es_tensor *inputs;
  const es_tensor *outputs;
  const es_layer *layers;
  uint64_t weights_bytes; /* the whole of weights.bin, header included */
  uint64_t arena_bytes;   /* 0 when the model needs none; the arena may then be null */
  uint8_t weights_sha256[32];
  es_entry entry;
} es_model;

/* Returns the model that libmodel.so was linked with. (libmodel.a has only <name>_model of its
 * model.h, so that several models can be linked into one program.) */
const es_model *es_default_model(void);

/* Returns ES_OK when the `bytes` bytes at `weights` have this model's header. Cheap: looks at the
 * header only. */
es_status es_check_weights(const es_model *model, const void *weights, uint64_t bytes);

/* Like es_check_weights, and hashes the payload. */
es_status es_verify_weights(const es_model *model, const void *weights, uint64_t bytes);

/* Runs the model once. `weights` were checked by es_check_weights; `arena` has
 * model->arena_bytes bytes of any content. */
es_status es_run(const es_model *model, const void *weights, void *arena,
                 const void *const *inputs, void *const *outputs);

/* Runs steps first <= step < last only; the steps before them ran with the same arguments. */
es_status es_run_steps(const es_model *model, const void *weights, void *arena,
                       const void *const *inputs, void *const *outputs, int32_t first,
                       int32_t last);

/* Prepares a team of `threads` threads, 1 to ES_MAX_THREADS. Once is enough for any number of runs;
 * the threads must see it happen (start them afterwards, or tell them through a lock). */
es_status es_team_init(es_team *team, int32_t threads);

/* Runs one thread's share of steps first <= step < last. Every thread of the team calls this with
 * the same arguments and its own 0 <= thread < threads; the call returns when all shares are done,
 * so what one thread does next may use the outputs; `team` is in use until all calls have returned.
 * The outputs do not depend on the number of threads. Threads wait for each other by spinning: give
 * every one a CPU. A pool of threads that calls this for you is in edgesparse_pool.h. */
es_status es_run_thread(const es_model *model, const void *weights, void *arena,
                        const void *const *inputs, void *const *outputs, es_team *team,
                        int32_t thread, int32_t first, int32_t last);

/* Returns when all `threads` threads of a team have called this. For the model's own code. */
void es_barrier(es_team *team, int32_t threads);

/* Returns one English sentence about a status; never null. */
const char *es_status_text(es_status status);

#ifdef __cplusplus
}
#endif

#endif
