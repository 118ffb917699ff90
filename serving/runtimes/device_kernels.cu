/* The work of a batch that is done where the network runs: its noise before it, its results after it.
 *
 * Plain C within what CUDA C shares with it. NVRTC compiles it for a device, any C compiler (`cc -x c`) for the host,
 * where the tests compare it with `certify.smoothing.lattice_gaussian`, which defines the noise; nothing but the macros
 * below differs. ELEMENT says what the graph takes: 0 is int32, 1 is int16, 2 is FP16, exact up to 2048.
 */
#ifdef __CUDACC__
#define KERNEL extern "C" __global__ void
#define INSIDE static __device__ __forceinline__
#define SHARED __shared__
#define BARRIER __syncthreads()
#define TILE blockIdx.x
#define ROW blockIdx.y
#define EACH(i, first, stop) for (unsigned i = (first) + threadIdx.x; i < (stop); i += THREADS)
#define TAKE_ONE(counter) atomicAdd(&(counter), 1u)
#define FIRST_THREAD (threadIdx.x == 0)
#else
#define KERNEL void
#define INSIDE static
#define SHARED
#define BARRIER
#define TILE block_of_the_grid[0]
#define ROW block_of_the_grid[1]
#define EACH(i, first, stop) for (unsigned i = (first); i < (stop); i++)
#define TAKE_ONE(counter) ((counter)++)
#define FIRST_THREAD 1
unsigned block_of_the_grid[2]; /* on the host the caller's loop over the grid sets it, and one thread does all work */
#endif

#ifndef ELEMENT
#define ELEMENT 0
#endif

#define THREADS 128            /* of a block of the grid */
#define TILE_WIDTH (16 * THREADS) /* coordinates of one row that it fills: 16 a thread */
#define OPEN (-32768)

typedef unsigned long long word; /* 64 bits, here and there */

/* A row of the batch: the draw `draw` of the stream of `key` around `lattices[lattice]`, or that lattice AS_IT_IS; zeros
 * where the lattice is NOBODY. */
typedef struct {
    word key[2], draw, lattice;
} row_of_batch;
#define NOBODY (~0ull)
#define AS_IT_IS (~0ull)

/* The two halves of a 64x64-bit product, by 32-bit halves: what the hardware multiplies, and what every C can say. */
INSIDE void multiply(word a, word b, word *high, word *low) {
    word a0 = a & 0xffffffffull, a1 = a >> 32, b0 = b & 0xffffffffull, b1 = b >> 32;
    word bottom = a0 * b0, middle = a0 * b1 + (bottom >> 32), other = a1 * b0 + (middle & 0xffffffffull);
    *high = a1 * b1 + (middle >> 32) + (other >> 32);
    *low = (other << 32) | (bottom & 0xffffffffull);
}

/* Philox 4x64-10: block `block` of a lane, which stands under the counter after it. */
INSIDE void philox(const word *key, word block, word lane, word *out) {
    word c0 = block + 1, c1 = 0, c2 = 0, c3 = lane, k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        word high0, low0, high2, low2;
        multiply(c0, 0xD2E7470EE14C6C93ull, &high0, &low0);
        multiply(c2, 0xCA5A826395121157ull, &high2, &low2);
        c0 = high2 ^ c1 ^ k0;
        c1 = low2;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B97F4A7C15ull;
        k1 += 0xBB67AE8584CAA73Bull;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/* How many of the ascending edges lie at or below `uniform`, if it is at least `low` of them and at most `high`. */
INSIDE unsigned edges_below(const word *edges, unsigned low, unsigned high, word uniform) {
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (edges[middle] <= uniform)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

#if ELEMENT == 0
typedef int element;
INSIDE element as_element(int value) { return value; }
#elif ELEMENT == 1
typedef short element;
INSIDE element as_element(int value) { return (short)value; }
#else
typedef unsigned short element; /* the bits of an FP16 number */
INSIDE element as_element(int value) {
    union {
        float number;
        unsigned bits;
    } wide;
    wide.number = (float)value; /* exponents are 112 apart, and the bits cut off are zeros up to 2048 */
    if (value == 0)
        return 0;
    return (element)((wide.bits >> 16 & 0x8000u) | ((wide.bits >> 23 & 0xffu) - 112) << 10 | (wide.bits >> 13 & 0x3ffu));
}
#endif

/* batch[r] = lattice + Z for all rows. The grid: tiles of TILE_WIDTH coordinates by rows.
 * `values` gives each 16-bit prefix its value or OPEN, `above` (2^16 + 1) the number of edges at or below its first
 * number; `edges` are the law's, twice `largest` of them. */
KERNEL add_noise(const row_of_batch *rows, const int *lattices, const short *values, const unsigned *above,
                 const word *edges, unsigned largest, unsigned coordinates, element *batch) {
    SHARED word words[4 * THREADS];
    SHARED unsigned short open[TILE_WIDTH];
    SHARED unsigned open_count;
    row_of_batch row = rows[ROW];
    unsigned start = TILE * TILE_WIDTH;
    unsigned width = coordinates - start < TILE_WIDTH ? coordinates - start : TILE_WIDTH;
    element *out = batch + (word)ROW * coordinates + start;
    const int *lattice = lattices + (row.lattice == NOBODY ? 0 : row.lattice) * coordinates + start;

    if (row.lattice == NOBODY || row.draw == AS_IT_IS) { /* the same for all threads of the block */
        EACH(j, 0, width)
            out[j] = row.lattice == NOBODY ? (element)0 : as_element(lattice[j]);
        return;
    }
    if (FIRST_THREAD)
        open_count = 0;
    /* One thread a block of 16 coordinates. */
    word first = row.draw * ((coordinates + 15) / 16) + start / 16;
    EACH(b, 0, (width + 15) / 16)
        philox(row.key, first + b, 0, words + 4 * b);
    BARRIER;
    /* One thread a coordinate, so that neighbours write side by side. */
    EACH(j, 0, width) {
        unsigned prefix = (unsigned)(words[j / 4] >> (16 * (j % 4))) & 0xffffu;
        int value = values[prefix];
        if (value == OPEN)
            open[TAKE_ONE(open_count)] = (unsigned short)j;
        else
            out[j] = as_element(lattice[j] + value);
    }
    BARRIER;
    /* The few that their prefix leaves open, packed together, in whatever order. */
    EACH(o, 0, open_count) {
        unsigned j = open[o];
        word prefix = (words[j / 4] >> (16 * (j % 4))) & 0xffffull, number = row.draw * coordinates + start + j, refining[4];
        philox(row.key, number / 4, 1, refining);
        word uniform = (prefix << 48) | (refining[number % 4] >> 16);
        int value = (int)edges_below(edges, above[prefix], above[prefix + 1], uniform) - (int)largest;
        out[j] = as_element(lattice[j] + value);
    }
}

/* What one row leaves the device with: 8 bytes. */
typedef struct {
    int vote; /* -1 where the graph gave what is no vote */
    float score;
} result;

/* One buffer of results, so that one copy takes them all. The grid: one thread a row. */
KERNEL gather_results(const long long *votes, const float *scores, unsigned rows, result *results) {
    unsigned start = TILE * THREADS, stop = start + THREADS < rows ? start + THREADS : rows;
    EACH(r, start, stop) {
        results[r].vote = votes[r] < 0 || votes[r] > 0x7fffffffll ? -1 : (int)votes[r];
        results[r].score = scores[r];
    }
}
