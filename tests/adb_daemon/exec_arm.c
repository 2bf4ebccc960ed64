/* Preloaded into the test device's shell: a program for another machine is run by an emulator.
 *
 * EXEC_ARM_EMULATOR names it; what is no ELF file of aarch64 is executed as ever. EXEC_ARM_ERRNO
 * makes every program below EXEC_ARM_ROOT fail with that error, as a noexec mount does. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EM_AARCH64 = 183, MAX_ARGUMENTS = 64 };

extern char **environ;
typedef int execve_function(const char *, char *const[], char *const[]);

static int is_arm(const char *path) {
  unsigned char header[20] = {0};
  int file = open(path, O_RDONLY);
  ssize_t size = file < 0 ? 0 : read(file, header, sizeof header);
  if (file >= 0) {
    close(file);
  }
  return size == (ssize_t)sizeof header && memcmp(header, "\177ELF", 4) == 0 &&
         header[18] == EM_AARCH64;
}

static int is_refused(const char *path) {
  const char *root = getenv("EXEC_ARM_ROOT"), *number = getenv("EXEC_ARM_ERRNO");
  char *full = number == NULL || root == NULL ? NULL : realpath(path, NULL);
  int refused = full != NULL && strncmp(full, root, strlen(root)) == 0;
  free(full);
  errno = refused ? atoi(number) : errno;
  return refused;
}

int execve(const char *path, char *const argv[], char *const envp[]) {
  execve_function *real = (execve_function *)dlsym(RTLD_NEXT, "execve");
  const char *emulator = getenv("EXEC_ARM_EMULATOR");
  if (is_refused(path)) {
    return -1;
  }
  if (emulator == NULL || !is_arm(path)) {
    return real(path, argv, envp);
  }
  char *words[MAX_ARGUMENTS + 4] = {(char *)emulator, "-cpu", "max", (char *)path};
  for (int i = 1; argv[i] != NULL && i < MAX_ARGUMENTS; i++) {
    words[3 + i] = argv[i];
  }
  return real(emulator, words, envp);
}

int execv(const char *path, char *const argv[]) { return execve(path, argv, environ); }

/* For the shims, which name programs by path. */
int execvp(const char *file, char *const argv[]) {
  if (strchr(file, '/') != NULL) {
    return execve(file, argv, environ);
  }
  return ((int (*)(const char *, char *const[]))dlsym(RTLD_NEXT, "execvp"))(file, argv);
}
