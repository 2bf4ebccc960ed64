/* A branch predictor like TAGE.
 *
 * Source: Seznec & Michaud, A case for (partially) tagged geometric history length branch
 * prediction, 2006. */
#include "armtime.h"

#include <stddef.h>

enum { TABLES = 5, ENTRIES = 2048, BIMODAL = 8192, HISTORY_WORDS = 4 };

typedef struct entry {
  int8_t counter;
  uint16_t tag;
  uint8_t useful;
} entry;

static const int HISTORY_BITS[TABLES] = {6, 14, 32, 80, 180};
static entry tables[TABLES][ENTRIES];
static int8_t bimodal[BIMODAL];
static uint64_t history[HISTORY_WORDS];

static uint64_t low_bits(uint64_t word, int bits) {
  return bits >= 64 ? word : word & ((1ull << bits) - 1);
}

static uint64_t hash_history(int bits) {
  uint64_t hash = low_bits(history[0], bits) * 0x9E3779B97F4A7C15ull;
  if (bits > 64) {
    hash ^= low_bits(history[1], bits - 64) * 0xC2B2AE3D27D4EB4Full;
  }
  if (bits > 128) {
    hash ^= low_bits(history[2], bits - 128) * 0x165667B19E3779F9ull;
  }
  return hash ^ (hash >> 29);
}

static void count(int8_t *counter, bool up, int low, int high) {
  if (up ? *counter < high : *counter > low) {
    *counter = (int8_t)(*counter + (up ? 1 : -1));
  }
}

/* Gives the branch an entry with a longer history than the one that was wrong. */
static void allocate(entry *slots[TABLES], const uint16_t tags[TABLES], int wrong, bool is_taken) {
  for (int t = wrong + 1; t < TABLES; t++) {
    if (slots[t]->useful == 0) {
      slots[t]->tag = (uint16_t)(tags[t] + 1);
      slots[t]->counter = is_taken ? 0 : -1;
      return;
    }
  }
  for (int t = wrong + 1; t < TABLES; t++) {
    slots[t]->useful--;
  }
}

static void remember(bool is_taken) {
  for (int w = HISTORY_WORDS - 1; w > 0; w--) {
    history[w] = (history[w] << 1) | (history[w - 1] >> 63);
  }
  history[0] = (history[0] << 1) | (is_taken ? 1u : 0u);
}

bool mispredicts(uint64_t address, bool is_taken) {
  uint32_t pc = (uint32_t)(address >> 2);
  entry *slots[TABLES];
  uint16_t tags[TABLES];
  int provider = -1;
  for (int t = 0; t < TABLES; t++) {
    uint64_t hash = hash_history(HISTORY_BITS[t]);
    uint32_t index = (pc ^ (pc >> 7) ^ (uint32_t)(hash >> 20) ^ (uint32_t)t * 977u) % ENTRIES;
    tags[t] = (uint16_t)(((pc * 2654435761u >> 20) ^ (uint32_t)(hash >> 44)) & 0xfff);
    slots[t] = &tables[t][index];
    provider = slots[t]->tag == tags[t] + 1 ? t : provider;
  }
  int8_t *base = &bimodal[pc % BIMODAL];
  bool predicted = provider >= 0 ? slots[provider]->counter >= 0 : *base >= 0;
  bool is_wrong = predicted != is_taken;
  if (provider >= 0) {
    count(&slots[provider]->counter, is_taken, -4, 3);
    uint8_t *useful = &slots[provider]->useful;
    *useful = is_wrong ? (uint8_t)(*useful - (*useful > 0)) : (uint8_t)(*useful + (*useful < 3));
  } else {
    count(base, is_taken, -2, 1);
  }
  if (is_wrong) {
    allocate(slots, tags, provider, is_taken);
  }
  remember(is_taken);
  return is_wrong;
}
