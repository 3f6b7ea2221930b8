// Products of a packed matrix with a few vectors.
//
// Sixteen outputs lie side by side, one in each lane of a vector: an input is broadcast to
// all lanes, so that nothing has to be added up across them. Within a lane stand as many
// inputs as one instruction multiplies: 1 in float32, 2 in bfloat16, 4 in 8 and 4 bits. Of
// the vectors that are multiplied together, such words lie side by side too.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

constexpr long LANES = 16;
// Inputs that share a scale when vectors are rounded to 8 bits, and weights in 4 bits.
constexpr long GROUP = 32;
// Vectors multiplied while a piece of the matrix is in registers.
constexpr long TILE = 16;

typedef float Floats __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t Words __attribute__((vector_size(64), aligned(4), may_alias));
typedef int8_t Bytes __attribute__((vector_size(16)));

enum Kind : int64_t { FLOAT32, BFLOAT16, INT8, INT4 };

// A matrix as linear.py writes it.
struct Matrix {
  int64_t kind;
  int64_t outputs;        // without the padding to whole blocks of LANES
  int64_t columns;        // inputs
  int64_t inputs;         // the same, padded with zeros to whole groups
  const uint8_t* weight;  // blocks one after the other
  const float* scale;     // INT8: for each output, padded
  const float* bias;      // for each output, padded, or null

  int64_t blocks() const { return (outputs + LANES - 1) / LANES; }
  int64_t groups() const { return inputs / GROUP; }
  int64_t block_bytes() const {
    switch (kind) {
      case FLOAT32: return inputs * LANES * 4;
      case BFLOAT16: return inputs * LANES * 2;
      case INT8: return inputs * LANES;
      default: return groups() * (GROUP * LANES / 2 + LANES * 4);
    }
  }
  // Words of a vector made ready.
  int64_t words() const {
    return kind == FLOAT32 ? inputs : kind == BFLOAT16 ? inputs / 2 : inputs / 4 + 2 * groups();
  }
};

template <class T> inline T load(const void* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
inline Floats spread(float value) { return Floats{} + value; }
inline Ints spread(int32_t value) { return Ints{} + value; }
inline Floats as_floats(Words bits) { return (Floats)bits; }
inline float as_float(uint32_t bits) { return load<float>(&bits); }

// Bits of a float32 number to those of the nearest bfloat16 one.
inline uint16_t rounded(uint32_t bits) {
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline float sum_of(Floats lanes) {
#ifdef __AVX512F__
  return _mm512_reduce_add_ps((__m512)lanes);
#else
  float sum = 0;
  for (int lane = 0; lane < LANES; lane++) sum += lanes[lane];
  return sum;
#endif
}

inline float most_of(Floats lanes) {
#ifdef __AVX512F__
  return _mm512_reduce_max_ps((__m512)lanes);
#else
  float most = lanes[0];
  for (int lane = 1; lane < LANES; lane++) most = std::max(most, lanes[lane]);
  return most;
#endif
}

// acc + a pair of bfloat16 products in each lane.
inline Floats dot2(Floats acc, Words weights, uint32_t pair) {
#ifdef __AVX512BF16__
  return (Floats)_mm512_dpbf16_ps((__m512)acc, (__m512bh)weights,
                                  (__m512bh)_mm512_set1_epi32((int)pair));
#else
  acc += as_floats(weights << 16) * as_float(pair << 16);
  return acc + as_floats(weights & 0xffff0000u) * as_float(pair & 0xffff0000u);
#endif
}

// acc + four products of an unsigned weight and a signed input in each lane.
inline Ints dot4(Ints acc, Words weights, uint32_t four) {
#ifdef __AVX512VNNI__
  return (Ints)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)weights, _mm512_set1_epi32((int)four));
#else
  for (int byte = 0; byte < 4; byte++)
    acc += (Ints)(weights >> (8 * byte) & 255u) * spread((int32_t)(int8_t)(four >> (8 * byte)));
  return acc;
#endif
}

// --- Vectors made ready ----------------------------------------------------------------

// A vector rounded to 8 bits: the numbers, then for every group its scale, then its sum.
inline void round_group(const float* x, int64_t groups, int64_t group, uint32_t* to) {
  static_assert(GROUP == 2 * LANES);
  const Floats low = load<Floats>(x + group * GROUP), high = load<Floats>(x + group * GROUP + LANES);
  const Floats low_size = as_floats((Words)low & 0x7fffffffu);
  const Floats high_size = as_floats((Words)high & 0x7fffffffu);
  const float most = most_of(low_size > high_size ? low_size : high_size);
  const float inverse = most > 0 ? 127 / most : 0, scale = most / 127;
  // Adding 1.5 * 2^23 rounds to the nearest whole number.
  const Floats low_whole = (low * inverse + 12582912.0f) - 12582912.0f;
  const Floats high_whole = (high * inverse + 12582912.0f) - 12582912.0f;
  const auto low_bytes = __builtin_convertvector(__builtin_convertvector(low_whole, Ints), Bytes);
  const auto high_bytes = __builtin_convertvector(__builtin_convertvector(high_whole, Ints), Bytes);
  std::memcpy(to + group * GROUP / 4, &low_bytes, LANES);
  std::memcpy(to + (group * GROUP + LANES) / 4, &high_bytes, LANES);
  const int64_t scales = groups * GROUP / 4;
  std::memcpy(to + scales + group, &scale, 4);
  to[scales + groups + group] = (uint32_t)(int32_t)sum_of(low_whole + high_whole);
}

// x has m.inputs numbers, zeros behind the last; `to` has room for m.words().
inline void make_ready(const Matrix& m, const float* x, uint32_t* to) {
  if (m.kind == FLOAT32) {
    std::memcpy(to, x, m.inputs * 4);
  } else if (m.kind == BFLOAT16) {
    uint16_t* half = reinterpret_cast<uint16_t*>(to);
    const uint32_t* bits = reinterpret_cast<const uint32_t*>(x);
    for (int64_t i = 0; i < m.inputs; i++) half[i] = rounded(bits[i]);
  } else {
    for (int64_t group = 0; group < m.groups(); group++) round_group(x, m.groups(), group, to);
  }
}

// Vectors ready to be multiplied, TILE at a time; those of a tile lie word by word.
struct Ready {
  uint32_t* at;
  int64_t rows, words;

  uint32_t* tile(int64_t row) const { return at + row / TILE * TILE * words; }
  int64_t width(int64_t row) const { return std::min(TILE, rows - row / TILE * TILE); }
  void put(int64_t row, const uint32_t* vector) const {
    uint32_t* to = tile(row) + row % TILE;
    const int64_t step = width(row);
    for (int64_t i = 0; i < words; i++) to[i * step] = vector[i];
  }
};

// --- Products ----------------------------------------------------------------------------

// Word i of vector r of a tile of R.
template <class T, int R> inline T word(const uint32_t* x, int64_t i, int r) {
  return load<T>(x + i * R + r);
}

// While blocks are multiplied, those that come next are brought from memory. The processor
// foresees that by itself only within a page, and waits at the beginning of each.
inline void fetch_ahead(const void* at) { __builtin_prefetch(at, 0, 2); }

// B blocks of outputs times R vectors: result[r][b].
template <int R, int B>
inline void float_tile(const Matrix& m, const uint8_t* w, const uint32_t* x, Floats (&result)[R][B]) {
  const int64_t block = m.block_bytes();
  for (int64_t i = 0; i < m.inputs; i++) {
    Floats weights[B];
    for (int b = 0; b < B; b++) {
      weights[b] = load<Floats>(w + b * block + i * 64);
      fetch_ahead(w + (B + b) * block + i * 64);
    }
    for (int r = 0; r < R; r++) {
      const Floats input = spread(word<float, R>(x, i, r));
      for (int b = 0; b < B; b++) result[r][b] += weights[b] * input;
    }
  }
}

template <int R, int B>
inline void bfloat16_tile(const Matrix& m, const uint8_t* w, const uint32_t* x, Floats (&result)[R][B]) {
  const int64_t block = m.block_bytes();
  for (int64_t i = 0; i < m.inputs / 2; i++) {
    Words weights[B];
    for (int b = 0; b < B; b++) {
      weights[b] = load<Words>(w + b * block + i * 64);
      fetch_ahead(w + (B + b) * block + i * 64);
    }
    for (int r = 0; r < R; r++) {
      const uint32_t pair = word<uint32_t, R>(x, i, r);
      for (int b = 0; b < B; b++) result[r][b] = dot2(result[r][b], weights[b], pair);
    }
  }
}

// Weights are stored with 128 added, to be unsigned: 128 * sum is taken off beforehand.
template <int R, int B>
inline void int8_tile(const Matrix& m, const uint8_t* w, const uint32_t* x, Floats (&result)[R][B]) {
  const int64_t block = m.block_bytes(), scales = m.inputs / 4, sums = scales + m.groups();
  for (int64_t group = 0; group < m.groups(); group++) {
    Ints acc[R][B];
    for (int r = 0; r < R; r++) {
      const Ints start = spread(-128 * word<int32_t, R>(x, sums + group, r));
      for (int b = 0; b < B; b++) acc[r][b] = start;
    }
    for (int64_t i = group * (GROUP / 4); i < (group + 1) * (GROUP / 4); i++) {
      Words weights[B];
      for (int b = 0; b < B; b++) {
        weights[b] = load<Words>(w + b * block + i * 64);
        fetch_ahead(w + (B + b) * block + i * 64);
      }
      for (int r = 0; r < R; r++) {
        const uint32_t four = word<uint32_t, R>(x, i, r);
        for (int b = 0; b < B; b++) acc[r][b] = dot4(acc[r][b], weights[b], four);
      }
    }
    for (int r = 0; r < R; r++) {
      const Floats scale = spread(word<float, R>(x, scales + group, r));
      for (int b = 0; b < B; b++) result[r][b] += __builtin_convertvector(acc[r][b], Floats) * scale;
    }
  }
  for (int b = 0; b < B; b++) {
    const Floats scale = load<Floats>(m.scale + (w - m.weight) / block * LANES + b * LANES);
    for (int r = 0; r < R; r++) result[r][b] *= scale;
  }
}

// A weight is (number - 8) * scale + offset; scale and offset are bfloat16 and follow the
// numbers of their group.
template <int R, int B>
inline void int4_tile(const Matrix& m, const uint8_t* w, const uint32_t* x, Floats (&result)[R][B]) {
  const int64_t block = m.block_bytes(), scales = m.inputs / 4, sums = scales + m.groups();
  const int64_t bytes = GROUP * LANES / 2 + LANES * 4;
  for (int64_t group = 0; group < m.groups(); group++) {
    Ints acc[R][B];
    for (int r = 0; r < R; r++) {
      const Ints start = spread(-8 * word<int32_t, R>(x, sums + group, r));
      for (int b = 0; b < B; b++) acc[r][b] = start;
    }
    for (int i = 0; i < GROUP / 8; i++) {
      Words low[B], high[B];
      for (int b = 0; b < B; b++) {
        const Words both = load<Words>(w + b * block + group * bytes + i * 64);
        fetch_ahead(w + (B + b) * block + group * bytes + i * 64);
        low[b] = both & 0x0f0f0f0fu;
        high[b] = both >> 4 & 0x0f0f0f0fu;
      }
      for (int r = 0; r < R; r++) {
        const int64_t at = group * (GROUP / 4) + i * 2;
        const uint32_t first = word<uint32_t, R>(x, at, r), second = word<uint32_t, R>(x, at + 1, r);
        for (int b = 0; b < B; b++)
          acc[r][b] = dot4(dot4(acc[r][b], low[b], first), high[b], second);
      }
    }
    for (int b = 0; b < B; b++) {
      const Words table = load<Words>(w + b * block + group * bytes + GROUP * LANES / 2);
      const Floats scale = as_floats(table & 0xffff0000u), offset = as_floats(table << 16);
      for (int r = 0; r < R; r++) {
        const Floats product = __builtin_convertvector(acc[r][b], Floats) * scale;
        const Floats shift = offset * (float)word<int32_t, R>(x, sums + group, r);
        result[r][b] += (product + shift) * word<float, R>(x, scales + group, r);
      }
    }
  }
}

// Where the products of blocks first .. end go: out[row * stride + output].
struct Target {
  float* out;
  int64_t stride;
  bool add;  // to what is there
};

template <int R, int B>
void tile(const Matrix& m, const uint32_t* x, int64_t block, const Target& to) {
  Floats result[R][B] = {};
  const uint8_t* w = m.weight + block * m.block_bytes();
  switch (m.kind) {
    case FLOAT32: float_tile<R, B>(m, w, x, result); break;
    case BFLOAT16: bfloat16_tile<R, B>(m, w, x, result); break;
    case INT8: int8_tile<R, B>(m, w, x, result); break;
    default: int4_tile<R, B>(m, w, x, result);
  }
  for (int b = 0; b < B; b++) {
    const int64_t output = (block + b) * LANES;
    const int64_t count = std::min(LANES, m.outputs - output);
    const Floats bias = m.bias ? load<Floats>(m.bias + output) : Floats{};
    for (int r = 0; r < R; r++) {
      float* out = to.out + r * to.stride + output;
      Floats value = result[r][b] + bias;
      if (count == LANES) {
        if (to.add) value += load<Floats>(out);
        std::memcpy(out, &value, sizeof value);
      } else {
        for (int64_t lane = 0; lane < count; lane++)
          out[lane] = value[lane] + (to.add ? out[lane] : 0);
      }
    }
  }
}

// Several blocks at a time while rows are few: a product must not wait for the one before.
template <int R> void tiles(const Matrix& m, const uint32_t* x, int64_t first, int64_t end, const Target& to) {
  constexpr int B = R <= 2 ? 4 : R <= 8 ? 2 : 1;
  int64_t block = first;
  for (; block + B <= end; block += B) tile<R, B>(m, x, block, to);
  for (; block < end; block++) tile<R, 1>(m, x, block, to);
}

// Products of the vectors with the blocks first .. end - 1.
inline void multiply(const Matrix& m, const Ready& x, int64_t first, int64_t end, const Target& to) {
  typedef void (*Tiles)(const Matrix&, const uint32_t*, int64_t, int64_t, const Target&);
  static const Tiles sizes[] = {tiles<1>, tiles<2>, tiles<3>, tiles<4>, tiles<5>, tiles<6>,
                                tiles<7>, tiles<8>, tiles<9>, tiles<10>, tiles<11>, tiles<12>,
                                tiles<13>, tiles<14>, tiles<15>, tiles<16>};
  static_assert(sizeof sizes / sizeof *sizes == TILE);
  // A few blocks stay in the cache while all rows pass.
  const int64_t together = x.rows > TILE ? 4 : end - first;
  for (int64_t block = first; block < end; block += together) {
    const int64_t stop = std::min(end, block + together);
    for (int64_t row = 0; row < x.rows; row += TILE) {
      const Target part = {to.out + row * to.stride, to.stride, to.add};
      sizes[x.width(row) - 1](m, x.tile(row), block, stop, part);
    }
  }
}
