/* Stands in for NVIDIA's driver, so that PyNvVideoCodec runs without a GPU: device memory is host
 * memory, and "decoding" fills a frame with one value. Both libcuda.so.1 and libnvcuvid.so.1 are
 * built from this file. Every call that matters is written to stderr as "driver: ...".
 *
 * A packet of its bit stream has eight bytes: width and height (little endian, two bytes each), bit
 * depth, the value of all samples, and two bytes that are not used.
 *
 * NVDEC_FAIL names a function that fails, with the error code of NVDEC_CODE.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long long Address;

static void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("driver: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

static int failure(const char *function) {
    const char *wanted = getenv("NVDEC_FAIL");
    return wanted && !strcmp(wanted, function) ? atoi(getenv("NVDEC_CODE")) : 0;
}

#ifdef CUDA_LIBRARY

/* CUDA_MEMCPY2D */
struct copy {
    size_t source_x, source_y;
    int source_type;
    const char *source_host;
    Address source;
    void *source_array;
    size_t source_pitch;
    size_t target_x, target_y;
    int target_type;
    char *target_host;
    Address target;
    void *target_array;
    size_t target_pitch;
    size_t width, height;
};

int cuInit(unsigned flags) { return 0; }
int cuDeviceGetCount(int *count) { return *count = 1, 0; }
int cuDeviceGet(int *device, int index) { return *device = index, 0; }
int cuCtxCreate_v2(Address *context, unsigned flags, int device) { return *context = 1, 0; }
int cuCtxDestroy_v2(Address context) { return 0; }
int cuCtxGetDevice(int *device) { return *device = 0, 0; }
int cuCtxPushCurrent_v2(Address context) { return 0; }
int cuCtxPopCurrent_v2(Address *context) { return 0; }
int cuDevicePrimaryCtxRetain(Address *context, int device) {
    say("retain the primary context");
    return *context = 2, 0;
}
int cuDevicePrimaryCtxRelease_v2(int device) {
    say("release the primary context");
    return 0;
}
int cuStreamGetCtx(Address stream, Address *context) { return *context = 2, 0; }
int cuStreamSynchronize(Address stream) { return say("stream %llx is waited for", stream), 0; }
int cuStreamWaitEvent(Address stream, Address event, unsigned flags) {
    say("stream %llx waits", stream);
    return 0;
}
int cuEventCreate(Address *event, unsigned flags) { return *event = 3, 0; }
int cuEventDestroy_v2(Address event) { return 0; }
int cuEventRecord(Address event, Address stream) { return 0; }
int cuEventSynchronize(Address event) { return say("an event is waited for"), 0; }
int cuGetErrorName(int code, const char **name) {
    *name = code == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_UNKNOWN";
    return 0;
}
int cuGetErrorString(int code, const char **text) { return cuGetErrorName(code, text); }
int cuMemAlloc_v2(Address *address, size_t bytes) {
    int code = failure("cuMemAlloc");
    if (!code) *address = (Address)malloc(bytes);
    return code;
}
int cuMemFree_v2(Address address) { return free((void *)address), 0; }
int cuPointerGetAttribute(void *value, int attribute, Address address) {
    return memset(value, 0, 4), 0; /* the device's number */
}
int cuMemcpy2DAsync_v2(const struct copy *copy, Address stream) {
    say("copy %zux%zu on stream %llx", copy->width, copy->height, stream);
    for (size_t y = 0; y < copy->height; y++)
        memcpy((char *)copy->target + y * copy->target_pitch,
               (const char *)copy->source + y * copy->source_pitch, copy->width);
    return 0;
}

#else

/* CUVIDDECODECAPS */
struct caps {
    int codec, chroma;
    unsigned bit_depth_minus_8, reserved[3];
    unsigned char is_supported, engines;
    unsigned short formats;
    unsigned max_width, max_height, max_macroblocks;
    unsigned short min_width, min_height;
};
/* CUVIDEOFORMAT */
struct format {
    int codec;
    unsigned frame_rate[2];
    unsigned char is_progressive, luma_minus_8, chroma_minus_8, min_surfaces;
    unsigned coded_width, coded_height;
    int left, top, right, bottom;
    int chroma;
    unsigned bit_rate;
    int aspect[2];
    unsigned char signal[4];
    unsigned header_bytes;
};
/* CUVIDPARSERPARAMS */
struct parser {
    int codec;
    unsigned surfaces, clock_rate, error_threshold, display_delay, flags, reserved[4];
    void *user;
    int (*on_sequence)(void *, struct format *);
    int (*on_decode)(void *, int *);
    int (*on_display)(void *, void *);
};
/* CUVIDSOURCEDATAPACKET */
struct packet {
    unsigned long flags, size;
    const unsigned char *data;
    long long timestamp;
};
/* CUVIDPARSERDISPINFO */
struct shown {
    int index, is_progressive, top_first, repeat;
    long long timestamp;
};

static struct parser parser;
static struct shown waiting[16];
static int count, number, width, height;
static unsigned char values[8];
static char *frame;
static volatile int gate_is_open = 1;

/* Make the next packet wait until another thread opens the gate; ten seconds at most. */
void nvdec_gate(int is_open) { gate_is_open = is_open; }

int cuvidGetDecoderCaps(struct caps *caps) {
    if (caps->codec != 4) return 0;
    caps->is_supported = 1;
    caps->engines = 7;
    caps->formats = 3;
    caps->max_width = caps->max_height = 4096;
    caps->max_macroblocks = 65536;
    caps->min_width = 48;
    caps->min_height = 16;
    return 0;
}
int cuvidCreateVideoParser(void **handle, struct parser *given) {
    parser = *given;
    count = number = width = height = 0;
    say("create a parser with delay %u", parser.display_delay);
    return *handle = &parser, 0;
}
int cuvidDestroyVideoParser(void *handle) { return say("destroy the parser"), 0; }
int cuvidCreateDecoder(void **handle, unsigned long *given) {
    int code = failure("cuvidCreateDecoder");
    say("create a decoder of %lux%lu, at most %lux%lu", given[0], given[1], given[7], given[8]);
    return *handle = code ? NULL : &parser, code;
}
int cuvidDestroyDecoder(void *handle) { return say("destroy the decoder"), 0; }
int cuvidReconfigureDecoder(void *handle, unsigned *given) {
    say("reconfigure to %ux%u, shown %ux%u", given[0], given[1], given[2], given[3]);
    return 0;
}
int cuvidDecodePicture(void *handle, int *picture) { return failure("cuvidDecodePicture"); }
int cuvidGetDecodeStatus(void *handle, int index, int *status) { return *status = 2, 0; }
int cuvidMapVideoFrame64(void *handle, int index, Address *address, unsigned *pitch, void *how) {
    *pitch = 8192;
    if (!frame) frame = malloc(8192 * 4096);
    memset(frame, values[index], 8192 * 4096);
    *address = (Address)frame;
    return 0;
}
int cuvidUnmapVideoFrame64(void *handle, Address address) { return 0; }

static void show(void) {
    struct shown first = waiting[0];
    memmove(waiting, waiting + 1, --count * sizeof first);
    parser.on_display(parser.user, &first);
}

static int start_sequence(int depth) {
    struct format format;
    memset(&format, 0, sizeof format);
    while (count) show();
    format.codec = parser.codec;
    format.frame_rate[0] = format.frame_rate[1] = 1;
    format.is_progressive = 1;
    format.luma_minus_8 = format.chroma_minus_8 = depth - 8;
    format.min_surfaces = 8;
    format.coded_width = (width + 15) / 16 * 16;
    format.coded_height = (height + 15) / 16 * 16;
    format.right = width;
    format.bottom = height;
    format.chroma = 1;
    return parser.on_sequence(parser.user, &format);
}

int cuvidParseVideoData(void *handle, struct packet *packet) {
    for (int waited = 0; !gate_is_open; waited++) {
        if (waited == 1000) return 999;
        usleep(10000);
    }
    say("packet of %lu bytes, flags %lu", packet->size, packet->flags);
    if (packet->size) {
        const unsigned char *data = packet->data;
        int picture[2048] = {0}; /* CUVIDPICPARAMS */
        struct shown shown = {number++ % 8, 1, 0, 0, packet->timestamp};
        int new_width = data[0] | data[1] << 8, new_height = data[2] | data[3] << 8;
        if (new_width != width || new_height != height) {
            width = new_width;
            height = new_height;
            if (!start_sequence(data[4])) return 1;
        }
        picture[0] = (width + 15) / 16;
        picture[1] = (height + 15) / 16;
        picture[2] = shown.index;
        values[shown.index] = data[5];
        parser.on_decode(parser.user, picture);
        waiting[count++] = shown;
        while (count > (int)parser.display_delay) show();
    }
    if (packet->flags & 1)
        while (count) show();
    return 0;
}

#define UNUSED(name) \
    int name(void) { return 999; }
UNUSED(cuvidCtxLockCreate)
UNUSED(cuvidCtxLockDestroy)
UNUSED(cuvidCtxLock)
UNUSED(cuvidCtxUnlock)
UNUSED(cuvidCreateVideoSource)
UNUSED(cuvidCreateVideoSourceW)
UNUSED(cuvidDestroyVideoSource)
UNUSED(cuvidSetVideoSourceState)
UNUSED(cuvidGetVideoSourceState)
UNUSED(cuvidGetSourceVideoFormat)
UNUSED(cuvidGetSourceAudioFormat)

#endif
