// Decoded surfaces to RGB: scaling, colours and rotation in one pass. NV12 or P016 in, uint8 out.
//
// A surface has `surface_rows` rows of luma and half as many of interleaved Cb and Cr. Each thread
// computes one pixel: the mean of the luma samples and of the chroma samples around it, weighted by
// triangles along both axes. Neighbouring threads read overlapping samples, which the caches serve.
//
// If `copies` is set, nothing is scaled, each chroma sample colours four pixels, and each product is
// rounded down, as FFmpeg's converter does.

// The samples along one axis that a pixel needs: sample `whole + i` for `first <= i <= last`, with
// the weight `1 - |i - part| / reach`.
struct Taps {
    int whole, first, last;
    float part, inverse_reach, inverse_sum;

    __device__ __forceinline__ float weight(int i) const {
        const float distance = static_cast<float>(i) - part;
        return 1.0f - (distance < 0.0f ? -distance : distance) * inverse_reach;
    }
};

__device__ __forceinline__ int within(int index, int count) {
    return index < 0 ? 0 : index < count ? index : count - 1;
}

// Pixel p lies at sample (p + 1/2) * samples / pixels - 1/2 + quarters / 4. Integers keep its place
// exact; `whole` can be -1.
__device__ __forceinline__ Taps taps_of(int pixel, int samples, int pixels, int quarters) {
    Taps taps;
    const int unit = 4 * pixels;
    const int place = 2 * (2 * pixel + 1) * samples + (quarters + 2) * pixels;  // plus one sample
    taps.whole = place / unit - 1;
    taps.part = static_cast<float>(place % unit) / static_cast<float>(unit);
    const float reach =
        samples > pixels ? static_cast<float>(samples) / static_cast<float>(pixels) : 1.0f;
    taps.inverse_reach = 1.0f / reach;
    // A weight at the edge of the triangle can be off by rounding; it is close to 0 then.
    taps.first = -static_cast<int>(reach - taps.part);
    taps.last = static_cast<int>(reach + taps.part);
    float sum = 0.0f;
    for (int i = taps.first; i <= taps.last; ++i) sum += taps.weight(i);
    taps.inverse_sum = 1.0f / sum;
    return taps;
}

__device__ __forceinline__ float product(float coefficient, float value, bool rounds_down) {
    const float exact = coefficient * value;
    return rounds_down ? floorf(exact) : exact;
}

__device__ __forceinline__ unsigned char grey_level(float value) {
    const float inside = value < 0.0f ? 0.0f : value < 255.0f ? value : 255.0f;
    return static_cast<unsigned char>(static_cast<int>(inside + 0.5f));
}

// blockIdx.x, .y: tiles of the scaled picture before its rotation. `row_samples`: distance of the
// surface's rows. The pixel (x, y) is written at out[origin + x * x_step + y * y_step].
template <typename E>
__global__ void __launch_bounds__(256, 1) surface_to_rgb(
    const E* __restrict__ surface, unsigned char* __restrict__ out,
    long long row_samples, int surface_rows, int width, int height,
    int out_width, int out_height, int quarters, int copies,
    long long origin, int x_step, int y_step,
    float black, float middle,
    float luma, float red_of_cr, float green_of_cb, float green_of_cr, float blue_of_cb
) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= out_width || y >= out_height) return;

    const Taps columns = taps_of(x, width, out_width, 0);
    const Taps rows = taps_of(y, height, out_height, 0);
    float grey = 0.0f;
    for (int j = rows.first; j <= rows.last; ++j) {
        const E* row = surface + within(rows.whole + j, height) * row_samples;
        float sum = 0.0f;
        for (int i = columns.first; i <= columns.last; ++i)
            sum += columns.weight(i) * static_cast<float>(row[within(columns.whole + i, width)]);
        grey += rows.weight(j) * sum;
    }
    grey *= columns.inverse_sum * rows.inverse_sum;

    const int chroma_width = (width + 1) / 2, chroma_height = (height + 1) / 2;
    const Taps pairs = copies ? taps_of(x / 2, chroma_width, chroma_width, 0)
                              : taps_of(x, chroma_width, out_width, quarters);
    const Taps lines = copies ? taps_of(y / 2, chroma_height, chroma_height, 0)
                              : taps_of(y, chroma_height, out_height, 0);
    const E* chroma = surface + surface_rows * row_samples;
    float cb = 0.0f, cr = 0.0f;
    for (int j = lines.first; j <= lines.last; ++j) {
        const E* row = chroma + within(lines.whole + j, chroma_height) * row_samples;
        float cb_sum = 0.0f, cr_sum = 0.0f;
        for (int i = pairs.first; i <= pairs.last; ++i) {
            const E* pair = row + 2 * within(pairs.whole + i, chroma_width);
            cb_sum += pairs.weight(i) * static_cast<float>(pair[0]);
            cr_sum += pairs.weight(i) * static_cast<float>(pair[1]);
        }
        cb += lines.weight(j) * cb_sum;
        cr += lines.weight(j) * cr_sum;
    }
    const float scale = pairs.inverse_sum * lines.inverse_sum;
    cb = cb * scale - middle;
    cr = cr * scale - middle;

    unsigned char* pixel =
        out + origin + static_cast<long long>(x) * x_step + static_cast<long long>(y) * y_step;
    const float light = product(luma, grey - black, copies);
    const float green_part = product(green_of_cb, cb, copies) + product(green_of_cr, cr, copies);
    pixel[0] = grey_level(light + product(red_of_cr, cr, copies));
    pixel[1] = grey_level(light + green_part);
    pixel[2] = grey_level(light + product(blue_of_cb, cb, copies));
}
