/* The bench runner's model, memory, samples and error answers. POSIX. */
#define _POSIX_C_SOURCE 200809L

#include "runner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Reads a character of UTF-8 that is not ASCII; returns its bytes, or 1 for a byte that is none. */
static int read_character(const unsigned char *c, uint32_t *code) {
  int more = *c >= 0xf0 ? 3 : *c >= 0xe0 ? 2 : 1;
  *code = *c & (0x3fu >> more);
  for (int i = 1; i <= more; i++) {
    if (*c < 0xc2 || *c > 0xf4 || (c[i] & 0xc0) != 0x80) {
      *code = 0xfffd;
      return 1;
    }
    *code = *code << 6 | (c[i] & 0x3fu);
  }
  if (*code >> 11 == 0x1b || *code > 0x10ffff) {
    *code = 0xfffd; /* half of a pair of UTF-16, or beyond Unicode */
  }
  return 1 + more;
}

static void print_json_string(const char *text) {
  const unsigned char *c = (const unsigned char *)text;
  putchar('"');
  while (*c != 0) {
    uint32_t code = *c;
    c += code < 0x80 ? 1 : read_character(c, &code);
    if (code == '"' || code == '\\') {
      printf("\\%c", (int)code);
    } else if (code >= 0x10000) {
      unsigned high = 0xd7c0u + (code >> 10), low = 0xdc00u + code % 1024;
      printf("\\u%04x\\u%04x", high, low);
    } else if (code < 0x20 || code >= 0x7f) {
      printf("\\u%04x", (unsigned)code);
    } else {
      putchar((int)code);
    }
  }
  putchar('"');
}

void answer_error(const char *code, const char *format, ...) {
  char message[2 * LINE_BYTES];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  fputs("{\"error\": ", stdout);
  print_json_string(message);
  printf(", \"code\": \"%s\"}\n", code);
}

static void *allocate(uint64_t bytes) {
  uint64_t rounded = (bytes + ES_ALIGNMENT_BYTES) & ~(uint64_t)(ES_ALIGNMENT_BYTES - 1);
  void *memory = rounded < SIZE_MAX ? aligned_alloc(ES_ALIGNMENT_BYTES, (size_t)rounded) : NULL;
  if (memory != NULL) {
    memset(memory, 0, (size_t)rounded);
  }
  return memory;
}

static void **allocate_tensors(const es_tensor *tensors, uint32_t count) {
  void **pointers = calloc(count + 1u, sizeof *pointers);
  for (uint32_t i = 0; pointers != NULL && i < count; i++) {
    pointers[i] = allocate(tensors[i].bytes);
    if (pointers[i] == NULL) {
      return NULL;
    }
  }
  return pointers;
}

/* Fills floating-point tensors with a fixed pseudo-random pattern in [-1, 1]; integers, which may
 * be indices, stay 0. */
static void fill_pattern(const es_model *model, void **inputs) {
  uint32_t state = 0x9e3779b9;
  for (uint32_t t = 0; t < model->input_count; t++) {
    const es_tensor *tensor = &model->inputs[t];
    float *floats = inputs[t];
    double *doubles = inputs[t];
    uint64_t element_bytes = tensor->dtype == ES_FLOAT64 ? sizeof *doubles : sizeof *floats;
    if (tensor->dtype != ES_FLOAT32 && tensor->dtype != ES_FLOAT64) {
      continue;
    }
    for (uint64_t i = 0; i < tensor->bytes / element_bytes; i++) {
      state = state * 1664525u + 1013904223u;
      double value = (double)(state >> 8) / 8388607.5 - 1.0;
      if (tensor->dtype == ES_FLOAT32) {
        floats[i] = (float)value;
      } else {
        doubles[i] = value;
      }
    }
  }
}

static int map_weights(session *s, const char *path) {
  struct stat status;
  int file = open(path, O_RDONLY);
  if (file < 0 || fstat(file, &status) != 0) {
    answer_error("weights", "opening %s: %s", path, strerror(errno));
    return 0;
  }
  void *memory = MAP_FAILED;
  s->weights_bytes = (uint64_t)status.st_size;
  if (status.st_size > 0) {
    memory = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
  }
  close(file);
  if (memory == MAP_FAILED) {
    answer_error("weights", "reading %s: the file is empty or cannot be mapped", path);
    return 0;
  }
  s->weights = memory;
  return 1;
}

static int allocate_session(session *s) {
  const es_model *model = s->model;
  s->arena = allocate(model->arena_bytes);
  s->inputs = allocate_tensors(model->inputs, model->input_count);
  s->timed_inputs = allocate_tensors(model->inputs, model->input_count);
  s->outputs = allocate_tensors(model->outputs, model->output_count);
  if (s->arena == NULL || s->inputs == NULL || s->timed_inputs == NULL || s->outputs == NULL) {
    answer_error("memory", "no memory: the arena needs %llu bytes",
                 (unsigned long long)model->arena_bytes);
    return 0;
  }
  fill_pattern(model, s->timed_inputs);
  return 1;
}

int open_session(session *s, const char *path) {
  if (!map_weights(s, path)) {
    return 0;
  }
  es_status status = es_check_weights(s->model, s->weights, s->weights_bytes);
  if (status != ES_OK) {
    answer_error("weights", "opening %s: %s", path, es_status_text(status));
    return 0;
  }
  return allocate_session(s);
}

int verify_session(const session *s, const char *path) {
  es_status status = es_verify_weights(s->model, s->weights, s->weights_bytes);
  if (status != ES_OK) {
    answer_error("weights", "checking %s: %s", path, es_status_text(status));
  }
  return status == ES_OK;
}

int start_threads(session *s, const char *word) {
  char *end = NULL;
  long threads = strtol(word, &end, 10);
  if (end == word || *end != 0 || threads < 1 || threads > ES_MAX_THREADS) {
    answer_error("usage", "expected 1 to %d threads, found %s", ES_MAX_THREADS, word);
    return 0;
  }
  s->pool = es_pool_create((int32_t)threads);
  if (s->pool == NULL) {
    answer_error("memory", "cannot start %ld threads", threads);
  }
  return s->pool != NULL;
}

es_status run_steps(const session *s, void **inputs, int32_t first, int32_t last) {
  return es_pool_run_steps(s->pool, s->model, s->weights, s->arena, (const void *const *)inputs,
                           s->outputs, first, last);
}

static uint64_t sample_bytes(const es_tensor *tensors, uint32_t count) {
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < count; i++) {
    bytes += tensors[i].bytes;
  }
  return bytes;
}

FILE *open_samples(const session *s, const char *path, uint64_t count) {
  struct stat status;
  uint64_t expected = count * sample_bytes(s->model->inputs, s->model->input_count);
  FILE *file = fopen(path, "rb");
  if (file == NULL || fstat(fileno(file), &status) != 0) {
    answer_error("file", "opening %s: %s", path, strerror(errno));
  } else if ((uint64_t)status.st_size != expected) {
    answer_error("file", "reading %s: expected %llu bytes, found %llu", path,
                 (unsigned long long)expected, (unsigned long long)status.st_size);
  } else {
    return file;
  }
  if (file != NULL) {
    fclose(file);
  }
  return NULL;
}

int read_sample(const session *s, FILE *file, void **inputs) {
  for (uint32_t i = 0; i < s->model->input_count; i++) {
    size_t bytes = (size_t)s->model->inputs[i].bytes;
    if (fread(inputs[i], 1, bytes, file) != bytes) {
      return 0;
    }
  }
  return 1;
}

int write_sample(const session *s, FILE *file) {
  for (uint32_t i = 0; i < s->model->output_count; i++) {
    size_t bytes = (size_t)s->model->outputs[i].bytes;
    if (fwrite(s->outputs[i], 1, bytes, file) != bytes) {
      return 0;
    }
  }
  return 1;
}
