/* JNI of org.edgesparse.example.Model: a model, its weights and its arena behind one handle.
 *
 * The model is the one that is linked in; -DMODEL=<name>_model says how its function is called.
 * Tensors are direct ByteBuffers, so nothing is copied but the weights, once, to aligned memory.
 * A run uses the handle's arena: one run at a time, which Model.kt sees to. */
#include <jni.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "include/edgesparse.h"

extern const es_model *MODEL(void);

enum { MAX_TENSORS = 16 };

typedef struct opened {
  const es_model *model;
  void *weights;
  void *arena;
} opened;

static void throw_error(JNIEnv *env, const char *class_name, const char *message) {
  jclass class = (*env)->FindClass(env, class_name);
  if (class != NULL) {
    (*env)->ThrowNew(env, class, message);
  }
}

static void throw_argument(JNIEnv *env, const char *message) {
  throw_error(env, "java/lang/IllegalArgumentException", message);
}

static void *allocate(uint64_t bytes) {
  uint64_t rounded = (bytes + ES_ALIGNMENT_BYTES) & ~(uint64_t)(ES_ALIGNMENT_BYTES - 1);
  void *memory = NULL;
  return posix_memalign(&memory, ES_ALIGNMENT_BYTES, (size_t)rounded) == 0 ? memory : NULL;
}

static void free_opened(opened *handle) {
  if (handle != NULL) {
    free(handle->weights);
    free(handle->arena);
    free(handle);
  }
}

static opened *open_model(const void *weights, uint64_t bytes, es_status *status) {
  opened *handle = calloc(1, sizeof *handle);
  *status = ES_OK;
  if (handle == NULL) {
    return NULL;
  }
  handle->model = MODEL();
  handle->weights = allocate(bytes);
  handle->arena = allocate(handle->model->arena_bytes);
  if (handle->weights == NULL || handle->arena == NULL) {
    free_opened(handle);
    return NULL;
  }
  memcpy(handle->weights, weights, (size_t)bytes);
  *status = es_check_weights(handle->model, handle->weights, bytes);
  if (*status != ES_OK) {
    free_opened(handle);
    return NULL;
  }
  return handle;
}

/* Fills `pointers` with the buffers' memory; returns 0 after throwing when one does not fit. */
static int take_buffers(JNIEnv *env, jobjectArray buffers, const es_tensor *tensors, uint32_t count,
                        void **pointers) {
  if (count > MAX_TENSORS || buffers == NULL ||
      (*env)->GetArrayLength(env, buffers) != (jsize)count) {
    throw_argument(env, "expected a buffer for each of the model's tensors");
    return 0;
  }
  for (uint32_t i = 0; i < count; i++) {
    jobject buffer = (*env)->GetObjectArrayElement(env, buffers, (jsize)i);
    pointers[i] = buffer == NULL ? NULL : (*env)->GetDirectBufferAddress(env, buffer);
    jlong bytes = buffer == NULL ? -1 : (*env)->GetDirectBufferCapacity(env, buffer);
    (*env)->DeleteLocalRef(env, buffer);
    if (pointers[i] == NULL || bytes < 0 || (uint64_t)bytes != tensors[i].bytes) {
      throw_argument(env, "expected direct buffers of exactly the tensors' sizes");
      return 0;
    }
  }
  return 1;
}

JNIEXPORT jlong JNICALL Java_org_edgesparse_example_Model_nativeOpen(JNIEnv *env, jclass class,
                                                                     jobject weights) {
  (void)class;
  es_status status = ES_NULL_POINTER;
  void *memory = weights == NULL ? NULL : (*env)->GetDirectBufferAddress(env, weights);
  if (memory == NULL) {
    throw_argument(env, "expected the weights in a direct buffer");
    return 0;
  }
  uint64_t bytes = (uint64_t)(*env)->GetDirectBufferCapacity(env, weights);
  opened *handle = open_model(memory, bytes, &status);
  if (handle == NULL && status != ES_OK) {
    throw_argument(env, es_status_text(status));
  } else if (handle == NULL) {
    throw_error(env, "java/lang/OutOfMemoryError", "no memory for the weights and the arena");
  }
  return (jlong)(intptr_t)handle;
}

JNIEXPORT void JNICALL Java_org_edgesparse_example_Model_nativeClose(JNIEnv *env, jclass class,
                                                                     jlong handle) {
  (void)env;
  (void)class;
  free_opened((opened *)(intptr_t)handle);
}

JNIEXPORT void JNICALL Java_org_edgesparse_example_Model_nativeRun(JNIEnv *env, jclass class,
                                                                   jlong handle,
                                                                   jobjectArray inputs,
                                                                   jobjectArray outputs) {
  (void)class;
  const opened *self = (const opened *)(intptr_t)handle;
  void *in[MAX_TENSORS] = {NULL}, *out[MAX_TENSORS] = {NULL};
  if (!take_buffers(env, inputs, self->model->inputs, self->model->input_count, in) ||
      !take_buffers(env, outputs, self->model->outputs, self->model->output_count, out)) {
    return;
  }
  es_status status =
      es_run(self->model, self->weights, self->arena, (const void *const *)in, out);
  if (status != ES_OK) {
    throw_error(env, "java/lang/IllegalStateException", es_status_text(status));
  }
}

/* Returns the bytes of input `index`, or of output -1 - index when it is negative; 0 if there is
 * none. */
JNIEXPORT jlong JNICALL Java_org_edgesparse_example_Model_nativeTensorBytes(JNIEnv *env,
                                                                            jclass class,
                                                                            jlong handle,
                                                                            jint index) {
  (void)env;
  (void)class;
  const es_model *model = ((const opened *)(intptr_t)handle)->model;
  uint32_t number = (uint32_t)(index < 0 ? -1 - index : index);
  uint32_t count = index < 0 ? model->output_count : model->input_count;
  const es_tensor *tensors = index < 0 ? model->outputs : model->inputs;
  return number < count ? (jlong)tensors[number].bytes : 0;
}
