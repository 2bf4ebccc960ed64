/* The functions of edgesparse.h: argument checks around the model's entry. Freestanding C11. */
#include "edgesparse.h"

#include <stddef.h>

#include "internal.h"

enum { MAGIC_BYTES = 8, VERSION_AT = 8, HEADER_AT = 12, PAYLOAD_AT = 16, DIGEST_AT = 24 };

static const uint8_t MAGIC[MAGIC_BYTES] = {'E', 'S', 'P', 'A', 'R', 'S', 'E', '1'};

static uint64_t read_little_endian(const uint8_t *bytes, int count) {
  uint64_t value = 0;
  for (int i = count - 1; i >= 0; i--) {
    value = value << 8 | bytes[i];
  }
  return value;
}

static int equal(const uint8_t *left, const uint8_t *right, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (left[i] != right[i]) {
      return 0;
    }
  }
  return 1;
}

static int is_misaligned(const void *pointer) {
  return (uintptr_t)pointer % ES_ALIGNMENT_BYTES != 0;
}

static int any_null(const void *const *pointers, uint32_t count) {
  if (count != 0 && pointers == NULL) {
    return 1;
  }
  for (uint32_t i = 0; i < count; i++) {
    if (pointers[i] == NULL) {
      return 1;
    }
  }
  return 0;
}

es_status es_check_weights(const es_model *model, const void *weights, uint64_t bytes) {
  const uint8_t *header = (const uint8_t *)weights;
  if (model == NULL || weights == NULL) {
    return ES_NULL_POINTER;
  }
  if (model->abi_version != ES_ABI_VERSION) {
    return ES_ABI_MISMATCH;
  }
  if (is_misaligned(weights)) {
    return ES_MISALIGNED;
  }
  if (bytes < MAGIC_BYTES || !equal(header, MAGIC, MAGIC_BYTES)) {
    return ES_WEIGHTS_FOREIGN;
  }
  if (bytes < ES_WEIGHTS_HEADER_BYTES) {
    return ES_WEIGHTS_SIZE;
  }
  if (read_little_endian(header + VERSION_AT, 4) != 1 ||
      read_little_endian(header + HEADER_AT, 4) != ES_WEIGHTS_HEADER_BYTES) {
    return ES_WEIGHTS_VERSION;
  }
  if (read_little_endian(header + PAYLOAD_AT, 8) != bytes - ES_WEIGHTS_HEADER_BYTES) {
    return ES_WEIGHTS_SIZE;
  }
  if (bytes != model->weights_bytes ||
      !equal(header + DIGEST_AT, model->weights_sha256, sizeof model->weights_sha256)) {
    return ES_WEIGHTS_MISMATCH;
  }
  return ES_OK;
}

es_status es_verify_weights(const es_model *model, const void *weights, uint64_t bytes) {
  uint8_t digest[32];
  es_status status = es_check_weights(model, weights, bytes);
  if (status != ES_OK) {
    return status;
  }
  es_sha256((const uint8_t *)weights + ES_WEIGHTS_HEADER_BYTES, bytes - ES_WEIGHTS_HEADER_BYTES,
            digest);
  return equal(digest, model->weights_sha256, sizeof digest) ? ES_OK : ES_WEIGHTS_CORRUPT;
}

/* What es_run_steps and es_run_thread are called with. */
typedef struct run {
  const es_model *model;
  const void *weights;
  void *arena;
  const void *const *inputs;
  void *const *outputs;
  int32_t first;
  int32_t last;
} run;

static es_status check_run(const run *r) {
  const es_model *model = r->model;
  if (model == NULL || r->weights == NULL || (r->arena == NULL && model->arena_bytes != 0)) {
    return ES_NULL_POINTER;
  }
  if (model->abi_version != ES_ABI_VERSION) {
    return ES_ABI_MISMATCH;
  }
  if (any_null(r->inputs, model->input_count) ||
      any_null((const void *const *)r->outputs, model->output_count)) {
    return ES_NULL_POINTER;
  }
  if (is_misaligned(r->weights) || is_misaligned(r->arena)) {
    return ES_MISALIGNED;
  }
  if (r->first < 0 || r->last < r->first || r->last > model->step_count) {
    return ES_STEP_RANGE;
  }
  return ES_OK;
}

static es_status enter(const run *r, int32_t thread, int32_t threads, es_team *team) {
  const uint8_t *payload = (const uint8_t *)r->weights + ES_WEIGHTS_HEADER_BYTES;
  int32_t result = r->model->entry(payload, r->arena, r->inputs, r->outputs, r->first, r->last,
                                   thread, threads, team);
  return result == 0 ? ES_OK : ES_KERNEL_FAILED;
}

es_status es_run_steps(const es_model *model, const void *weights, void *arena,
                       const void *const *inputs, void *const *outputs, int32_t first,
                       int32_t last) {
  const run r = {model, weights, arena, inputs, outputs, first, last};
  es_status status = check_run(&r);
  return status == ES_OK ? enter(&r, 0, 1, NULL) : status;
}

es_status es_run_thread(const es_model *model, const void *weights, void *arena,
                        const void *const *inputs, void *const *outputs, es_team *team,
                        int32_t thread, int32_t first, int32_t last) {
  const run r = {model, weights, arena, inputs, outputs, first, last};
  es_status status = team == NULL ? ES_NULL_POINTER : check_run(&r);
  if (status != ES_OK) {
    return status;
  }
  int32_t threads = es_team_threads(team);
  if (threads < 1 || thread < 0 || thread >= threads) {
    return ES_THREADS;
  }
  status = enter(&r, thread, threads, team);
  if (threads > 1) {
    es_barrier(team, threads);
  }
  return status;
}

es_status es_run(const es_model *model, const void *weights, void *arena,
                 const void *const *inputs, void *const *outputs) {
  int32_t last = model == NULL ? 0 : model->step_count;
  return es_run_steps(model, weights, arena, inputs, outputs, 0, last);
}

const char *es_status_text(es_status status) {
  switch (status) {
    case ES_OK:
      return "ok";
    case ES_NULL_POINTER:
      return "a model, weights, arena, input or output pointer is null";
    case ES_MISALIGNED:
      return "weights or arena do not start at a multiple of 64 bytes";
    case ES_WEIGHTS_FOREIGN:
      return "the weights are not an edgesparse weights file";
    case ES_WEIGHTS_VERSION:
      return "the weights have another format version";
    case ES_WEIGHTS_SIZE:
      return "the weights are truncated or have trailing bytes";
    case ES_WEIGHTS_MISMATCH:
      return "the weights belong to another model";
    case ES_WEIGHTS_CORRUPT:
      return "the weights are corrupt: the SHA-256 of the payload is not the one in the header";
    case ES_ABI_MISMATCH:
      return "the model was built with another version of edgesparse.h";
    case ES_STEP_RANGE:
      return "the steps are outside the model";
    case ES_KERNEL_FAILED:
      return "the model's code reported a failure";
    case ES_THREADS:
      return "the number of threads is not 1 to 64, or a thread's number is outside its team";
  }
  return "unknown status";
}
