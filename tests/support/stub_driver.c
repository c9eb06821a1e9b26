/* A CUDA driver in host memory, of the calls that page-locked memory and its copies need.
 *
 * It keeps a stack of contexts for each thread, as the driver does, and does a copy only when
 * somebody waits for its stream. What it does is written to standard error, one line each. All
 * other functions of the driver are generated beside this file and fail.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID_VALUE = 1, INVALID_DEVICE = 101, INVALID_CONTEXT = 201, NOT_READY = 600 };
enum { GPUS = 2, MAX_DEPTH = 64, MAX_COPIES = 64 };

typedef struct { void *target; const void *source; size_t bytes; } copy;
typedef struct { int gpu; unsigned flags; int copies; copy under_way[MAX_COPIES]; } stream;

static __thread int stack[MAX_DEPTH];
static __thread int depth;
static int retained[GPUS];
static int allocations;

/* For tests: contexts on the calling thread's stack, and buffers that were not freed. */
int stub_depth(void) { return depth; }
int stub_allocations(void) { return allocations; }

static int current(void) { return depth ? stack[depth - 1] : -1; }
static int is_alive(void) { return current() >= 0 && retained[current()] > 0; }

int cuInit(unsigned flags) { return flags ? INVALID_VALUE : OK; }
int cuDriverGetVersion(int *version) { *version = 13000; return OK; }
int cuDeviceGetCount(int *count) { *count = GPUS; return OK; }
int cuGetErrorString(int code, const char **text) {
  *text = code == INVALID_CONTEXT ? "invalid device context" : "an error of the stub";
  return OK;
}
int cuDeviceGet(int *device, int ordinal) {
  *device = ordinal;
  return ordinal >= 0 && ordinal < GPUS ? OK : INVALID_DEVICE;
}

int cuDevicePrimaryCtxRetain(void **context, int device) {
  retained[device]++;
  *context = (void *)(intptr_t)(device + 1);
  fprintf(stderr, "stub: retain %d\n", device);
  return OK;
}
int cuDevicePrimaryCtxRelease_v2(int device) {
  retained[device]--;
  fprintf(stderr, "stub: release %d\n", device);
  return OK;
}
int cuCtxPushCurrent_v2(void *context) {
  if (depth == MAX_DEPTH) return INVALID_VALUE;
  stack[depth++] = (int)(intptr_t)context - 1;
  return OK;
}
int cuCtxPopCurrent_v2(void **context) {
  if (!depth) return INVALID_CONTEXT;
  *context = (void *)(intptr_t)(stack[--depth] + 1);
  return OK;
}

int cuMemHostAlloc(void **memory, size_t bytes, unsigned flags) {
  if (!is_alive()) return INVALID_CONTEXT;
  *memory = malloc(bytes);
  allocations++;
  fprintf(stderr, "stub: allocate %zu flags %u\n", bytes, flags);
  return OK;
}
int cuMemFreeHost(void *memory) {
  if (!is_alive()) return INVALID_CONTEXT;
  free(memory);
  allocations--;
  fprintf(stderr, "stub: free %d\n", current());
  return OK;
}

int cuStreamCreate(stream **made, unsigned flags) {
  if (!is_alive()) return INVALID_CONTEXT;
  *made = calloc(1, sizeof(stream));
  (*made)->gpu = current();
  (*made)->flags = flags;
  fprintf(stderr, "stub: stream flags %u\n", flags);
  return OK;
}
int cuStreamDestroy_v2(stream *it) {
  if (!is_alive() || it->gpu != current()) return INVALID_CONTEXT;
  free(it);
  fprintf(stderr, "stub: destroy %d\n", current());
  return OK;
}
int cuStreamQuery(stream *it) {
  if (!is_alive()) return INVALID_CONTEXT;
  return it->copies ? NOT_READY : OK;
}
int cuStreamSynchronize(stream *it) {
  if (!is_alive()) return INVALID_CONTEXT;
  for (int i = 0; i < it->copies; i++)
    memcpy(it->under_way[i].target, it->under_way[i].source, it->under_way[i].bytes);
  it->copies = 0;
  return OK;
}
int cuMemcpyHtoDAsync_v2(void *target, const void *source, size_t bytes, stream *it) {
  if (!is_alive() || it == NULL || it->gpu != current()) return INVALID_CONTEXT;
  if (it->copies == MAX_COPIES) return INVALID_VALUE;
  it->under_way[it->copies++] = (copy){target, source, bytes};
  return OK;
}
