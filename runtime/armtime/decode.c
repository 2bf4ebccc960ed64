/* What an instruction reads, writes and occupies, from the text that qemu's disassembler gives. */
#include "armtime.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OPERANDS = 11, MNEMONIC_BYTES = 16, NONE = -1 };

/* The register operands of a text. */
typedef struct operands {
  int count, in_braces, base; /* base: the first register in brackets, or NONE */
  int registers[MAX_OPERANDS];
  bool writes_base, first_is_vector, first_is_whole;
} operands;

typedef struct found {
  int number; /* of the register, or NONE */
  bool is_vector, is_whole;
} found;

static bool starts(const char *text, const char *with) {
  return strncmp(text, with, strlen(with)) == 0;
}

static bool is(const char *text, const char *other) {
  return strcmp(text, other) == 0;
}

/* Reads a word: a register, or what is none; moves the cursor behind what it understood. */
static found read_word(const char **cursor) {
  const char *word = *cursor;
  found none = {NONE, false, false};
  if (strchr("xwvqdsbh", word[0]) != NULL && isdigit((unsigned char)word[1])) {
    int number = (int)strtol(word + 1, (char **)cursor, 10);
    bool is_vector = strchr("vqdsbh", word[0]) != NULL;
    const char *kind = *cursor;
    bool is_half = starts(kind, ".2s") || starts(kind, ".8b") || starts(kind, ".4h");
    bool is_whole = word[0] == 'q' || (word[0] == 'v' && !is_half);
    return number > 31 ? none : (found){number + (is_vector ? V0 : 0), is_vector, is_whole};
  }
  if (starts(word, "sp")) {
    *cursor += 2;
    return (found){SP, false, false};
  }
  if (starts(word, "xzr") || starts(word, "wzr")) {
    *cursor += 3;
    return (found){ZERO, false, false};
  }
  while (isalnum((unsigned char)**cursor) || **cursor == '.') {
    (*cursor)++;
  }
  return none;
}

static void add_operand(operands *o, found f, bool in_brackets, bool in_braces) {
  if (f.number == NONE || (f.number == ZERO && o->count > 0) || o->count == MAX_OPERANDS) {
    return;
  }
  if (o->count == 0) {
    o->first_is_vector = f.is_vector;
    o->first_is_whole = f.is_whole;
  }
  o->in_braces += in_braces;
  if (in_brackets && o->base == NONE) {
    o->base = f.number;
  }
  o->registers[o->count++] = f.number;
}

static operands read_operands(const char *text) {
  operands o = {.base = NONE};
  bool in_brackets = false, in_braces = false;
  char before = ' ';
  for (const char *c = text; *c != 0;) {
    char here = *c;
    if (here == '#') {
      while (*c != 0 && *c != ',' && *c != ']') {
        c++;
      }
    } else if (isalpha((unsigned char)here)) {
      add_operand(&o, read_word(&c), in_brackets, in_braces);
    } else {
      if (here == '[' && (isspace((unsigned char)before) || before == ',')) {
        in_brackets = true; /* an address; behind a register it would be a lane */
      } else if (here == ']' && in_brackets) {
        in_brackets = false;
        o.writes_base = o.writes_base || c[1] == '!' || c[1] == ',';
      } else if (here == '{' || here == '}') {
        in_braces = here == '{';
      }
      c++;
    }
    before = c[-1];
  }
  return o;
}

static void add_source(instruction *i, int number) {
  if (number != ZERO && i->source_count < MAX_SOURCES) {
    i->sources[i->source_count++] = (uint8_t)number;
  }
}

static void add_target(instruction *i, int number) {
  if (i->target_count < MAX_TARGETS) {
    i->targets[i->target_count++] = (uint8_t)number;
  }
}

static void add_sources(instruction *i, const operands *o, int from) {
  for (int k = from; k < o->count; k++) {
    add_source(i, o->registers[k]);
  }
}

static void add_base(instruction *i, const operands *o) {
  if (o->writes_base && o->base != NONE) {
    i->writes_base = true;
    add_target(i, o->base);
  }
}

static kind by_width(const operands *o, kind whole, kind half, kind general) {
  return !o->first_is_vector ? general : o->first_is_whole ? whole : half;
}

static bool decode_load(instruction *i, const char *name, const char *text, const operands *o) {
  int targets = 1;
  bool keeps_lanes = false;
  if (starts(name, "ldp") || starts(name, "ldnp")) {
    targets = 2;
    i->kind = by_width(o, LOAD_PAIR_Q, LOAD_PAIR_D, LOAD_PAIR_X);
  } else if (starts(name, "ld1r")) {
    i->kind = LOAD_SPLAT;
  } else if (starts(name, "ld1")) {
    targets = o->in_braces;
    keeps_lanes = strstr(text, "}[") != NULL;
    i->kind = keeps_lanes ? LOAD_D : targets == 1 ? LOAD_Q : LOAD_PAIR_Q;
  } else if (starts(name, "ld2") || starts(name, "ld3") || starts(name, "ld4")) {
    targets = o->in_braces;
    i->kind = LOAD_PAIR_Q;
  } else if (starts(name, "ld")) {
    i->kind = by_width(o, LOAD_Q, LOAD_D, LOAD_X);
  } else {
    return false;
  }
  i->is_load = true;
  for (int k = 0; k < targets && k < o->count; k++) {
    add_target(i, o->registers[k]);
  }
  add_sources(i, o, keeps_lanes ? 0 : targets);
  add_base(i, o);
  return true;
}

static bool decode_store(instruction *i, const char *name, const operands *o) {
  if (!starts(name, "st")) {
    return false;
  }
  bool is_pair = starts(name, "stp") || o->in_braces > 1;
  i->is_store = true;
  i->kind = by_width(o, is_pair ? STORE_PAIR_Q : STORE_Q, STORE_X, STORE_X);
  add_sources(i, o, 0);
  add_base(i, o);
  return true;
}

static bool decode_control(instruction *i, const char *name, const operands *o) {
  if (starts(name, "b.")) {
    i->kind = BRANCH_IF;
    add_source(i, FLAGS);
    return true;
  }
  bool is_conditional = starts(name, "cb") || starts(name, "tb");
  bool is_branch = is(name, "b") || is(name, "bl") || is(name, "br") || is(name, "blr");
  if (is_conditional || is_branch || is(name, "ret")) {
    i->kind = is_conditional ? BRANCH_IF : BRANCH;
    add_sources(i, o, 0);
    return true;
  }
  if (is(name, "nop") || starts(name, "hint") || starts(name, "bti")) {
    i->kind = NOTHING;
    return true;
  }
  if (is(name, "cmp") || is(name, "cmn") || is(name, "tst") || is(name, "ccmp")) {
    i->kind = ALU;
    add_sources(i, o, 0);
    add_target(i, FLAGS);
    return true;
  }
  return false;
}

static bool multiplies_and_adds(const char *name) {
  return starts(name, "fmla") || starts(name, "fmls") || starts(name, "fmadd") ||
         starts(name, "mla");
}

static void decode_vector(instruction *i, const char *name, const char *text) {
  bool is_move = !starts(name, "f") || starts(name, "fmov");
  i->kind = is_move ? VECTOR_MOVE : FP;
  if (is_move && strstr(text, ".d[1]") != NULL) {
    i->width = BY_LANE_MOVE;
  }
}

static void decode_integer(instruction *i, const char *name) {
  static const char *const multiply[] = {"umull", "smull", "udiv", "sdiv"};
  i->kind = is(name, "mul") || is(name, "madd") || is(name, "msub") ? MULTIPLY : ALU;
  for (int k = 0; k < 4; k++) {
    i->kind = starts(name, multiply[k]) ? MULTIPLY : i->kind;
  }
  if (is(name, "subs") || is(name, "adds") || is(name, "ands")) {
    add_target(i, FLAGS);
  }
  if (starts(name, "cs") || starts(name, "cin")) {
    add_source(i, FLAGS);
  }
}

static void decode_computation(
    instruction *i, const char *name, const char *text, const operands *o) {
  if (multiplies_and_adds(name) && !starts(name, "fmadd") && o->count > 0) {
    add_source(i, o->registers[0]); /* the accumulator comes first */
  }
  if (o->count > 0 && o->registers[0] != ZERO) {
    add_target(i, o->registers[0]);
  }
  add_sources(i, o, 1);
  if (multiplies_and_adds(name)) {
    i->kind = FMA;
    return;
  }
  bool moves_lane = starts(name, "mov") && (strstr(text, ".d[1]") || strstr(text, ".s["));
  if ((starts(name, "ins") || starts(name, "movk") || moves_lane) && o->count > 0) {
    add_source(i, o->registers[0]);
  }
  bool reads_vector = o->count > 1 && o->registers[1] >= V0 && o->registers[1] < FLAGS;
  if (o->first_is_vector || reads_vector) {
    decode_vector(i, name, text);
  } else {
    decode_integer(i, name);
  }
}

void decode(instruction *i, const char *text) {
  char name[MNEMONIC_BYTES] = {0};
  for (int k = 0; *text != 0 && !isspace((unsigned char)*text); text++) {
    if (k < MNEMONIC_BYTES - 1) {
      name[k++] = *text;
    }
  }
  operands o = read_operands(text);
  i->width = o.first_is_vector && o.first_is_whole ? WHOLE : HALF;
  if (starts(name, "prf")) {
    i->kind = PREFETCH;
    add_sources(i, &o, 0);
  } else if (!decode_load(i, name, text, &o) && !decode_store(i, name, &o) &&
             !decode_control(i, name, &o)) {
    decode_computation(i, name, text, &o);
  }
}
