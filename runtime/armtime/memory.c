/* Set-associative caches with LRU, a TLB, and a stream prefetcher. */
#include "armtime.h"

#include <stdlib.h>

enum { LINE_SHIFT = 6, PAGE_SHIFT = 12, L1_WAYS = 4, L2_WAYS = 8, AHEAD = 2, SURE = 2, MAX_HITS = 3 };

static void init_cache(cache *c, int kib, int ways) {
  c->ways = ways;
  c->sets = kib * 1024 / (1 << LINE_SHIFT) / ways;
  c->tags = calloc((size_t)(c->sets * ways), sizeof *c->tags);
  c->used = calloc((size_t)(c->sets * ways), sizeof *c->used);
}

void init_memory(memory *m, int l1_kib, int l2_kib) {
  init_cache(&m->l1, l1_kib, L1_WAYS);
  init_cache(&m->l2, l2_kib, L2_WAYS);
}

/* Makes a line the most recent of its set; returns whether it was there. */
static bool touch(cache *c, uint64_t line) {
  size_t set = (size_t)(line % (uint64_t)c->sets) * (size_t)c->ways;
  uint64_t *tags = c->tags + set, *used = c->used + set;
  int oldest = 0;
  c->clock++;
  for (int way = 0; way < c->ways; way++) {
    if (tags[way] == line + 1) {
      used[way] = c->clock;
      return true;
    }
    oldest = used[way] < used[oldest] ? way : oldest;
  }
  tags[oldest] = line + 1;
  used[oldest] = c->clock;
  return false;
}

static int translate(memory *m, uint64_t page) {
  int at = 0, waits = 0;
  while (at < m->tlb_entries && m->tlb[at] != page) {
    at++;
  }
  if (at == m->tlb_entries) {
    waits = m->tlb_cycles;
    at--;
  }
  for (; at > 0; at--) {
    m->tlb[at] = m->tlb[at - 1];
  }
  m->tlb[0] = page;
  return waits;
}

/* Returns whether the page's accesses ascend line by line. */
static bool is_stream(memory *m, uint64_t page, int line) {
  int slot = (int)(page % STREAMS);
  int step = line - m->stream_line[slot];
  if (m->stream_page[slot] != page || (step != 0 && step != 1)) {
    m->stream_hits[slot] = 0;
  } else if (step == 1 && m->stream_hits[slot] < MAX_HITS) {
    m->stream_hits[slot]++;
  }
  bool goes_on = m->stream_page[slot] == page && step == 1 && m->stream_hits[slot] >= SURE;
  m->stream_page[slot] = page;
  m->stream_line[slot] = line;
  return goes_on;
}

int access_memory(memory *m, uint64_t address, bool is_store) {
  uint64_t line = address >> LINE_SHIFT, page = address >> PAGE_SHIFT;
  int waits = translate(m, page);
  bool streams = is_stream(m, page, (int)(line & (STREAMS - 1)));
  if (!touch(&m->l1, line)) {
    bool in_l2 = touch(&m->l2, line);
    waits += streams ? 1 : in_l2 ? m->l2_cycles : m->dram_cycles;
  }
  for (int k = 1; streams && k <= AHEAD; k++) {
    touch(&m->l1, line + (uint64_t)k);
    touch(&m->l2, line + (uint64_t)k);
  }
  return is_store ? 0 : waits;
}
