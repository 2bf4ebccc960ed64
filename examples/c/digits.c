/* Says which digit an image shows.
 *
 *     digits WEIGHTS IMAGE.pgm [THREADS]
 *
 * The model is linked into the program (libmodel.a) and its weights are mapped from a file, so
 * opening it costs next to nothing. IMAGE is a binary PGM of 32x32 pixels. */
#define _POSIX_C_SOURCE 200809L

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "include/edgesparse_pool.h"
#include "model.h"

enum { PIXELS = DIGITS_MOBILENET_V1_INPUT_0_ELEMENTS, SIDE = 32 };

static float image[PIXELS];
static float logits[DIGITS_MOBILENET_V1_OUTPUT_0_ELEMENTS];
static _Alignas(ES_ALIGNMENT_BYTES) unsigned char arena[DIGITS_MOBILENET_V1_ARENA_BYTES];

static int fail(const char *what, const char *why) {
  fprintf(stderr, "digits: %s: %s\n", what, why);
  return 1;
}

/* Returns the mapped file, or NULL. A mapping begins at a page, which is aligned enough. */
static const void *map_file(const char *path, uint64_t *bytes) {
  struct stat status;
  int file = open(path, O_RDONLY);
  if (file < 0) {
    return NULL;
  }
  void *memory = MAP_FAILED;
  if (fstat(file, &status) == 0 && status.st_size > 0) {
    *bytes = (uint64_t)status.st_size;
    memory = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
  }
  close(file);
  return memory == MAP_FAILED ? NULL : memory;
}

/* Reads the image as the model wants it: 0 is black, 1 is white. Returns whether that worked. */
static int read_image(const char *path) {
  unsigned char pixels[PIXELS];
  int width = 0, height = 0, brightest = 0;
  FILE *file = fopen(path, "rb");
  if (file == NULL) {
    return 0;
  }
  int is_right = fscanf(file, "P5 %d %d %d", &width, &height, &brightest) == 3 && width == SIDE &&
                 height == SIDE && brightest == 255 && fgetc(file) != EOF &&
                 fread(pixels, 1, PIXELS, file) == PIXELS;
  fclose(file);
  for (int i = 0; is_right && i < PIXELS; i++) {
    image[i] = (float)pixels[i] / 255.0f;
  }
  return is_right;
}

static es_status classify(const void *weights, uint64_t bytes, int threads) {
  const es_model *model = digits_mobilenet_v1_model();
  const void *inputs[] = {image};
  void *outputs[] = {logits};
  es_status status = es_check_weights(model, weights, bytes);
  if (status != ES_OK || threads == 1) {
    return status != ES_OK ? status : es_run(model, weights, arena, inputs, outputs);
  }
  es_pool *pool = es_pool_create(threads);
  if (pool == NULL) {
    return ES_THREADS;
  }
  status = es_pool_run(pool, model, weights, arena, inputs, outputs);
  es_pool_destroy(pool);
  return status;
}

int main(int argc, char **argv) {
  if (argc != 3 && argc != 4) {
    return fail("usage", "digits WEIGHTS IMAGE.pgm [THREADS]");
  }
  uint64_t bytes = 0;
  const void *weights = map_file(argv[1], &bytes);
  if (weights == NULL) {
    return fail(argv[1], "cannot be read");
  }
  if (!read_image(argv[2])) {
    return fail(argv[2], "expected a binary PGM of 32x32 pixels");
  }
  es_status status = classify(weights, bytes, argc == 4 ? atoi(argv[3]) : 1);
  if (status != ES_OK) {
    return fail(argv[1], es_status_text(status));
  }
  int best = 0;
  for (int i = 0; i < DIGITS_MOBILENET_V1_OUTPUT_0_ELEMENTS; i++) {
    printf("%d: %.6f\n", i, (double)logits[i]);
    best = logits[i] > logits[best] ? i : best;
  }
  printf("it is a %d\n", best);
  return 0;
}
