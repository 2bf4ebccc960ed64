/* As much of the Java Native Interface as the example uses, for a program without a Java machine.
 *
 * Names and signatures are those of the JNI specification, chapter 4; the order of the table is
 * not, so nothing that is compiled with this header can be loaded by a Java machine. */
#ifndef FAKE_JNI_H
#define FAKE_JNI_H

#include <stdint.h>

typedef int32_t jint;
typedef int64_t jlong;
typedef jint jsize;
typedef struct fake_object *jobject;
typedef jobject jclass;
typedef jobject jobjectArray;

struct JNINativeInterface;
typedef const struct JNINativeInterface *JNIEnv;

struct JNINativeInterface {
  jclass (*FindClass)(JNIEnv *env, const char *name);
  jint (*ThrowNew)(JNIEnv *env, jclass class, const char *message);
  void (*DeleteLocalRef)(JNIEnv *env, jobject object);
  jsize (*GetArrayLength)(JNIEnv *env, jobjectArray array);
  jobject (*GetObjectArrayElement)(JNIEnv *env, jobjectArray array, jsize index);
  void *(*GetDirectBufferAddress)(JNIEnv *env, jobject buffer);
  jlong (*GetDirectBufferCapacity)(JNIEnv *env, jobject buffer);
};

#define JNIEXPORT __attribute__((visibility("default")))
#define JNICALL

#endif
