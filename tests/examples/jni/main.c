/* Calls the example's native functions as Model.kt does.
 *
 *     main WEIGHTS INPUTS OUTPUTS [SHRINK]
 *
 * INPUTS holds the bytes of all inputs in order, OUTPUTS gets those of all outputs. SHRINK makes
 * every output buffer so many bytes too small. What Java would throw is printed. */
#include <jni.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

jlong Java_org_edgesparse_example_Model_nativeOpen(JNIEnv *, jclass, jobject);
void Java_org_edgesparse_example_Model_nativeClose(JNIEnv *, jclass, jlong);
void Java_org_edgesparse_example_Model_nativeRun(JNIEnv *, jclass, jlong, jobjectArray,
                                                 jobjectArray);
jlong Java_org_edgesparse_example_Model_nativeTensorBytes(JNIEnv *, jclass, jlong, jint);

enum { MAX_TENSORS = 8 };

struct fake_object {
  const char *name; /* of a class */
  void *memory;     /* of a buffer */
  jlong bytes;
  struct fake_object *items; /* of an array */
};

static struct fake_object found_class;
static int is_thrown;

static jclass find_class(JNIEnv *env, const char *name) {
  (void)env;
  found_class.name = name;
  return &found_class;
}

static jint throw_new(JNIEnv *env, jclass class, const char *message) {
  (void)env;
  printf("%s: %s\n", class->name, message);
  is_thrown = 1;
  return 0;
}

static void delete_local(JNIEnv *env, jobject object) {
  (void)env;
  (void)object;
}

static jsize array_length(JNIEnv *env, jobjectArray array) {
  (void)env;
  return (jsize)array->bytes;
}

static jobject array_element(JNIEnv *env, jobjectArray array, jsize index) {
  (void)env;
  return &array->items[index];
}

static void *buffer_address(JNIEnv *env, jobject buffer) {
  (void)env;
  return buffer->memory;
}

static jlong buffer_capacity(JNIEnv *env, jobject buffer) {
  (void)env;
  return buffer->bytes;
}

static const struct JNINativeInterface TABLE = {
    find_class,    throw_new,      delete_local,   array_length,
    array_element, buffer_address, buffer_capacity};

static struct fake_object read_file(const char *path) {
  struct fake_object buffer = {0};
  FILE *file = fopen(path, "rb");
  if (file == NULL) {
    exit(3);
  }
  fseek(file, 0, SEEK_END);
  buffer.bytes = ftell(file);
  rewind(file);
  /* As in an asset that is mapped from its middle, nothing is aligned. */
  buffer.memory = (char *)malloc((size_t)buffer.bytes + 1) + 1;
  if (fread(buffer.memory, 1, (size_t)buffer.bytes, file) != (size_t)buffer.bytes) {
    exit(3);
  }
  fclose(file);
  return buffer;
}

/* Makes a buffer for each tensor: inputs for sign 1, outputs for sign -1. */
static struct fake_object make_buffers(JNIEnv *env, jlong handle, int sign, long shrink) {
  struct fake_object array = {0};
  array.items = calloc(MAX_TENSORS, sizeof *array.items);
  for (jint i = 0; i < MAX_TENSORS; i++) {
    jlong bytes = Java_org_edgesparse_example_Model_nativeTensorBytes(env, NULL, handle,
                                                                      sign > 0 ? i : -1 - i);
    if (bytes == 0) {
      break;
    }
    array.items[i].bytes = bytes - shrink;
    array.items[i].memory = calloc(1, (size_t)bytes);
    array.bytes++;
  }
  return array;
}

int main(int argc, char **argv) {
  JNIEnv env = &TABLE;
  if (argc < 4) {
    return 3;
  }
  struct fake_object weights = read_file(argv[1]), given = read_file(argv[2]);
  jlong handle = Java_org_edgesparse_example_Model_nativeOpen(&env, NULL, &weights);
  if (is_thrown) {
    return handle == 0 ? 1 : 3;
  }
  struct fake_object inputs = make_buffers(&env, handle, 1, 0);
  struct fake_object outputs = make_buffers(&env, handle, -1, argc > 4 ? atol(argv[4]) : 0);
  const char *next = given.memory;
  for (jlong i = 0; i < inputs.bytes; next += inputs.items[i++].bytes) {
    memcpy(inputs.items[i].memory, next, (size_t)inputs.items[i].bytes);
  }
  Java_org_edgesparse_example_Model_nativeRun(&env, NULL, handle, &inputs, &outputs);
  FILE *file = fopen(argv[3], "wb");
  for (jlong i = 0; !is_thrown && i < outputs.bytes; i++) {
    fwrite(outputs.items[i].memory, 1, (size_t)outputs.items[i].bytes, file);
  }
  fclose(file);
  Java_org_edgesparse_example_Model_nativeClose(&env, NULL, handle);
  Java_org_edgesparse_example_Model_nativeClose(&env, NULL, 0);
  return is_thrown;
}
