/* memcpy, memmove and memset: all of a C library that compiled models may call.
 *
 * Linked into libmodel.so and model.wasm, where there is no C library. Not in libmodel.a: there the
 * program's own C library has better ones, and these, coming first on the command line, would
 * replace them for the whole program. */
#include <stddef.h>
#include <stdint.h>

#if defined(__wasm__)
#define EXPORTED
#else
#define EXPORTED __attribute__((weak, visibility("hidden")))
#endif

EXPORTED void *memcpy(void *restrict to, const void *restrict from, size_t count);
EXPORTED void *memmove(void *to, const void *from, size_t count);
EXPORTED void *memset(void *to, int value, size_t count);

#if defined(__wasm_bulk_memory__)

/* Each is one instruction: memory.copy or memory.fill. */
void *memcpy(void *restrict to, const void *restrict from, size_t count) {
  return __builtin_memmove(to, from, count);
}

void *memmove(void *to, const void *from, size_t count) {
  return __builtin_memmove(to, from, count);
}

void *memset(void *to, int value, size_t count) { return __builtin_memset(to, value, count); }

#else

/* Plain loops, which the compiler vectorises; -ffreestanding keeps it from calling memcpy here. */
void *memcpy(void *restrict to, const void *restrict from, size_t count) {
  uint8_t *restrict target = (uint8_t *)to;
  const uint8_t *restrict source = (const uint8_t *)from;
  for (size_t i = 0; i < count; i++) {
    target[i] = source[i];
  }
  return to;
}

void *memmove(void *to, const void *from, size_t count) {
  uint8_t *target = (uint8_t *)to;
  const uint8_t *source = (const uint8_t *)from;
  if ((uintptr_t)to - (uintptr_t)from >= count) {
    for (size_t i = 0; i < count; i++) {
      target[i] = source[i];
    }
  } else {
    for (size_t i = count; i > 0; i--) {
      target[i - 1] = source[i - 1];
    }
  }
  return to;
}

void *memset(void *to, int value, size_t count) {
  uint8_t *target = (uint8_t *)to;
  for (size_t i = 0; i < count; i++) {
    target[i] = (uint8_t)value;
  }
  return to;
}

#endif
