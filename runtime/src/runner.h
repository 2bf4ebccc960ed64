/* What the bench runner's two files share: an opened model, and answers in JSON; not shipped. */
#ifndef ES_RUNNER_H
#define ES_RUNNER_H

#include <stdint.h>
#include <stdio.h>

#include "edgesparse.h"
#include "edgesparse_pool.h"

enum { LINE_BYTES = 1 << 15 };

typedef struct session {
  const es_model *model;
  const void *weights;
  uint64_t weights_bytes;
  void *arena;
  es_pool *pool;
  void **timed_inputs; /* what bench and profile run on */
  void **inputs;       /* what run reads into */
  void **outputs;
} session;

/* Prints {"error": message, "code": code} and a line end. */
void answer_error(const char *code, const char *format, ...);

/* Maps the weights, checks their header, allocates; returns 0 after answering with an error. */
int open_session(session *s, const char *path);

/* Hashes the weights; returns 0 after answering with an error. Apart from opening, because an
 * application trusts its own files and need not pay for it. */
int verify_session(const session *s, const char *path);

/* Starts the threads; returns 0 after answering with an error. */
int start_threads(session *s, const char *word);

/* Runs steps first <= step < last on one of the session's two sets of inputs. */
es_status run_steps(const session *s, void **inputs, int32_t first, int32_t last);

/* Returns the file when it holds exactly `count` samples, else NULL after answering an error. */
FILE *open_samples(const session *s, const char *path, uint64_t count);

/* Reads one sample; returns 0 when the file is too short. */
int read_sample(const session *s, FILE *file, void **inputs);

/* Writes the outputs; returns 0 when that fails. */
int write_sample(const session *s, FILE *file);

#endif
