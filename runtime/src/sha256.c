/* SHA-256. Freestanding C11.
 * Source: FIPS 180-4, Secure Hash Standard, sections 4.1.2, 4.2.2, 5.1.1, 5.3.3 and 6.2.2. */
#include "internal.h"

enum { BLOCK_BYTES = 64, LENGTH_AT = 56 };

static const uint32_t ROUND_CONSTANTS[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate_right(uint32_t word, int count) {
  return word >> count | word << (32 - count);
}

static uint32_t read_big_endian(const uint8_t *bytes) {
  return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static void write_big_endian(uint8_t *bytes, uint64_t value, int count) {
  for (int i = 0; i < count; i++) {
    bytes[i] = (uint8_t)(value >> (8 * (count - 1 - i)));
  }
}

static void expand(const uint8_t *block, uint32_t schedule[64]) {
  for (int i = 0; i < 16; i++) {
    schedule[i] = read_big_endian(block + 4 * i);
  }
  for (int i = 16; i < 64; i++) {
    uint32_t early = schedule[i - 15], late = schedule[i - 2];
    uint32_t sigma0 = rotate_right(early, 7) ^ rotate_right(early, 18) ^ early >> 3;
    uint32_t sigma1 = rotate_right(late, 17) ^ rotate_right(late, 19) ^ late >> 10;
    schedule[i] = schedule[i - 16] + sigma0 + schedule[i - 7] + sigma1;
  }
}

static void absorb(uint32_t state[8], const uint8_t *block) {
  uint32_t schedule[64];
  expand(block, schedule);
  uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
  uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
  for (int i = 0; i < 64; i++) {
    uint32_t sum1 = rotate_right(e, 6) ^ rotate_right(e, 11) ^ rotate_right(e, 25);
    uint32_t sum0 = rotate_right(a, 2) ^ rotate_right(a, 13) ^ rotate_right(a, 22);
    uint32_t first = h + sum1 + ((e & f) ^ (~e & g)) + ROUND_CONSTANTS[i] + schedule[i];
    uint32_t second = sum0 + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + first;
    d = c, c = b, b = a, a = first + second;
  }
  state[0] += a, state[1] += b, state[2] += c, state[3] += d;
  state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

/* Absorbs what is left after the whole blocks, the end mark and the length in bits. */
static void finish(uint32_t state[8], const uint8_t *tail, uint64_t bytes) {
  uint8_t block[BLOCK_BYTES] = {0};
  uint64_t left = bytes % BLOCK_BYTES;
  for (uint64_t i = 0; i < left; i++) {
    block[i] = tail[i];
  }
  block[left] = 0x80;
  if (left >= LENGTH_AT) {
    absorb(state, block);
    for (int i = 0; i < BLOCK_BYTES; i++) {
      block[i] = 0;
    }
  }
  write_big_endian(block + LENGTH_AT, bytes * 8, 8);
  absorb(state, block);
}

void es_sha256(const void *data, uint64_t bytes, uint8_t digest[32]) {
  uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                       0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  const uint8_t *block = (const uint8_t *)data;
  for (uint64_t left = bytes; left >= BLOCK_BYTES; left -= BLOCK_BYTES) {
    absorb(state, block);
    block += BLOCK_BYTES;
  }
  finish(state, block, bytes);
  for (int i = 0; i < 8; i++) {
    write_big_endian(digest + 4 * i, state[i], 4);
  }
}
