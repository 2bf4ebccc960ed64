/* The bench runner: runs the model it is linked with, for a harness that talks to it over pipes.
 *
 *     runner WEIGHTS [THREADS]
 *
 * One command a line on stdin, one JSON object a line on stdout, nothing else. A word with spaces
 * is written in double quotes. A failing command answers {"error": "..."} and changes nothing.
 *
 *     run COUNT INPUT_FILE OUTPUT_FILE   COUNT samples, each the raw bytes of all tensors in order
 *     load INPUT_FILE                    one sample, kept for the timing commands
 *     bench COUNT [BATCH]                nanoseconds of COUNT samples, each the mean of BATCH runs
 *     profile COUNT                      nanoseconds of every step, COUNT times
 *     quit
 *
 * POSIX; statically linked, so that it runs wherever its architecture does. */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runner.h"

enum { MAX_WORDS = 5, MAX_SAMPLES = 10000000 };

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The time, marked for a simulator of the core that runs this (runtime/armtime); the mark is a nop
 * to every core. */
static int64_t stamp_ns(void) {
#if defined(__aarch64__)
  __asm__ volatile("hint #42" ::: "memory");
#endif
  return now_ns();
}

/* The smallest step the clock was seen to make. */
static int64_t timer_resolution_ns(void) {
  int64_t smallest = INT64_MAX;
  for (int i = 0; i < 200; i++) {
    int64_t start = now_ns(), end = start;
    while (end == start) {
      end = now_ns();
    }
    smallest = end - start < smallest ? end - start : smallest;
  }
  return smallest;
}

/* Answers with the error of a status; returns whether there was one. */
static int is_failure(es_status status) {
  if (status != ES_OK) {
    answer_error("model", "running the model: %s", es_status_text(status));
  }
  return status != ES_OK;
}

/* Prints count numbers, each divided by `divisor`, as a JSON array. */
static void print_array(const int64_t *values, size_t count, double divisor) {
  putchar('[');
  for (size_t i = 0; i < count; i++) {
    printf("%s%.1f", i == 0 ? "" : ", ", (double)values[i] / divisor);
  }
  putchar(']');
}

/* Runs the samples of one open file into another; returns 0 after answering with an error. */
static int run_samples(const session *s, uint64_t count, FILE *from, FILE *to) {
  for (uint64_t i = 0; i < count; i++) {
    if (!read_sample(s, from, s->inputs)) {
      answer_error("file", "reading sample %llu failed", (unsigned long long)i);
      return 0;
    }
    if (is_failure(run_steps(s, s->inputs, 0, s->model->step_count))) {
      return 0;
    }
    if (!write_sample(s, to)) {
      answer_error("file", "writing sample %llu: %s", (unsigned long long)i, strerror(errno));
      return 0;
    }
  }
  return 1;
}

/* ---- commands: each answers with exactly one line ---- */

/* Returns the number, or 0 after answering with an error. */
static uint64_t parse_count(const char *word) {
  char *end = NULL;
  errno = 0;
  long value = strtol(word, &end, 10);
  if (errno != 0 || end == word || *end != 0 || value < 1 || value > MAX_SAMPLES) {
    answer_error("usage", "expected a number from 1 to %d, found %s", MAX_SAMPLES, word);
    return 0;
  }
  return (uint64_t)value;
}

static void command_run(session *s, int words, char **word) {
  (void)words;
  uint64_t count = parse_count(word[1]);
  FILE *from = count == 0 ? NULL : open_samples(s, word[2], count);
  if (from == NULL) {
    return;
  }
  FILE *to = fopen(word[3], "wb");
  if (to == NULL) {
    answer_error("file", "opening %s: %s", word[3], strerror(errno));
  } else {
    int done = run_samples(s, count, from, to);
    if (fclose(to) != 0 && done) {
      answer_error("file", "writing %s: %s", word[3], strerror(errno));
    } else if (done) {
      printf("{\"ran\": %llu}\n", (unsigned long long)count);
    }
  }
  fclose(from);
}

static void command_load(session *s, int words, char **word) {
  (void)words;
  FILE *file = open_samples(s, word[1], 1);
  if (file == NULL) {
    return;
  }
  if (read_sample(s, file, s->timed_inputs)) {
    puts("{\"loaded\": true}");
  } else {
    answer_error("file", "reading %s failed", word[1]);
  }
  fclose(file);
}

static void command_bench(session *s, int words, char **word) {
  uint64_t count = parse_count(word[1]);
  uint64_t batch = words > 2 && count != 0 ? parse_count(word[2]) : 1;
  if (count == 0 || batch == 0) {
    return;
  }
  int64_t *samples = calloc((size_t)count, sizeof *samples);
  es_status status = ES_OK;
  for (uint64_t i = 0; samples != NULL && i < count && status == ES_OK; i++) {
    int64_t start = stamp_ns();
    for (uint64_t j = 0; j < batch && status == ES_OK; j++) {
      status = run_steps(s, s->timed_inputs, 0, s->model->step_count);
    }
    samples[i] = stamp_ns() - start;
  }
  if (samples == NULL) {
    answer_error("memory", "no memory for %s samples", word[1]);
  } else if (!is_failure(status)) {
    fputs("{\"samples_ns\": ", stdout);
    print_array(samples, (size_t)count, (double)batch);
    puts("}");
  }
  free(samples);
}

static es_status profile_once(const session *s, int64_t *steps) {
  int64_t start = stamp_ns();
  for (int32_t step = 0; step < s->model->step_count; step++) {
    es_status status = run_steps(s, s->timed_inputs, step, step + 1);
    if (status != ES_OK) {
      return status;
    }
    int64_t end = stamp_ns();
    steps[step] = end - start;
    start = end;
  }
  return ES_OK;
}

static void command_profile(session *s, int words, char **word) {
  (void)words;
  size_t count = (size_t)parse_count(word[1]), width = (size_t)s->model->step_count;
  if (count == 0) {
    return;
  }
  int64_t *steps = calloc(count, (width + 1) * sizeof *steps);
  es_status status = ES_OK;
  for (size_t i = 0; steps != NULL && i < count && status == ES_OK; i++) {
    status = profile_once(s, steps + i * width);
  }
  if (steps == NULL) {
    answer_error("memory", "no memory for %s profiles", word[1]);
  } else if (!is_failure(status)) {
    fputs("{\"steps_ns\": [", stdout);
    for (size_t i = 0; i < count; i++) {
      fputs(i == 0 ? "" : ", ", stdout);
      print_array(steps + i * width, width, 1.0);
    }
    puts("]}");
  }
  free(steps);
}

/* ---- the loop ---- */

typedef struct command {
  const char *name;
  int min_words;
  int max_words;
  void (*answer)(session *s, int words, char **word);
} command;

static const command COMMANDS[] = {
    {"run", 4, 4, command_run},
    {"load", 2, 2, command_load},
    {"bench", 2, 3, command_bench},
    {"profile", 2, 2, command_profile},
};

/* Cuts a line into words in place; returns how many, at most MAX_WORDS. */
static int split_words(char *line, char **word) {
  int count = 0;
  char *c = line;
  while (count < MAX_WORDS) {
    c += strspn(c, " \t\r\n");
    if (*c == 0) {
      break;
    }
    const char *ends = " \t\r\n";
    if (*c == '"') {
      ends = "\"";
      c++;
    }
    word[count++] = c;
    c += strcspn(c, ends);
    if (*c != 0) {
      *c++ = 0;
    }
  }
  return count;
}

static void answer_line(session *s, int words, char **word) {
  for (size_t i = 0; i < sizeof COMMANDS / sizeof *COMMANDS; i++) {
    const command *candidate = &COMMANDS[i];
    if (strcmp(word[0], candidate->name) != 0) {
      continue;
    }
    if (words < candidate->min_words || words > candidate->max_words) {
      answer_error("usage", "%s takes %d to %d words, found %d", word[0], candidate->min_words - 1,
                   candidate->max_words - 1, words - 1);
    } else {
      candidate->answer(s, words, word);
    }
    return;
  }
  answer_error("usage", "unknown command %s: expected run, load, bench, profile or quit", word[0]);
}

/* Reads a line into `line`; returns 0 at the end. An overlong line is dropped and comes back as
 * an empty one, after an error. */
static int read_line(char *line) {
  if (fgets(line, LINE_BYTES, stdin) == NULL) {
    return 0;
  }
  if (strlen(line) == LINE_BYTES - 1 && line[LINE_BYTES - 2] != '\n') {
    int c = getchar();
    while (c != EOF && c != '\n') {
      c = getchar();
    }
    line[0] = 0;
    answer_error("usage", "the line is longer than %d bytes", LINE_BYTES - 2);
    fflush(stdout);
  }
  return 1;
}

static void serve(session *s) {
  static char line[LINE_BYTES];
  while (read_line(line)) {
    char *word[MAX_WORDS];
    int words = split_words(line, word);
    if (words == 0) {
      continue;
    }
    if (strcmp(word[0], "quit") == 0) {
      return;
    }
    answer_line(s, words, word);
    fflush(stdout);
  }
}

int main(int argc, char **argv) {
  int64_t start = now_ns();
  session s = {.model = es_default_model()};
  if (argc != 2 && argc != 3) {
    answer_error("usage", "usage: runner WEIGHTS [THREADS]");
    return 1;
  }
  if (!start_threads(&s, argc == 3 ? argv[2] : "1") || !open_session(&s, argv[1])) {
    return 1;
  }
  double open_ms = (double)(now_ns() - start) / 1e6;
  if (!verify_session(&s, argv[1])) {
    return 1;
  }
  printf("{\"ready\": true, \"open_ms\": %.3f, \"arena_bytes\": %llu, \"step_count\": %d, "
         "\"timer_resolution_ns\": %lld, \"pid\": %ld}\n",
         open_ms, (unsigned long long)s.model->arena_bytes, (int)s.model->step_count,
         (long long)timer_resolution_ns(), (long)getpid());
  fflush(stdout);
  serve(&s);
  es_pool_destroy(s.pool);
  return 0;
}
