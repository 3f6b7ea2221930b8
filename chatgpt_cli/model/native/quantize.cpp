// Matrices as whole numbers of 8 bits, and their products as floating point numbers again:
// the passes around a product of whole numbers, for training.
//
// A scale is the largest magnitude of a row or column divided by 127. Where there is a NaN
// or an infinity the scale is NaN, and with it everything that is multiplied by it.

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace {

constexpr int64_t kLine = 32;  // numbers that fill a cache line even at two bytes each

template <class To, class From>
To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

struct Float32 {
  using Bits = uint32_t;
  static constexpr Bits kMagnitude = 0x7fffffff;
  static float value(Bits bits) { return same_bits<float>(bits); }
  static Bits bits(float value) { return same_bits<uint32_t>(value); }
};

struct BFloat16 {
  using Bits = uint16_t;
  static constexpr Bits kMagnitude = 0x7fff;
  static float value(Bits bits) { return same_bits<float>(uint32_t(bits) << 16); }
  static Bits bits(float value) {
    const uint32_t wide = same_bits<uint32_t>(value);
    return Bits((wide + 0x7fff + ((wide >> 16) & 1)) >> 16);  // to the nearest, ties to even
  }
};

// Adding 1.5 * 2^23 leaves the nearest whole number in the lowest bits of the sum.
inline int8_t nearest(float value) {
  return int8_t(same_bits<uint32_t>(value + 12582912.0f));
}

struct Scale {
  float size, inverse;
  // From a magnitude's bits: as whole numbers those are in the order of the magnitudes,
  // infinity and NaN last.
  template <class Number>
  static Scale of(typename Number::Bits bits) {
    const float most = Number::value(bits);
    if (!(most <= std::numeric_limits<float>::max()))
      return {std::numeric_limits<float>::quiet_NaN(), 0.0f};
    // So that the inverse is finite.
    const float some = std::max(most, 1e-30f);
    return {some / 127, 127 / some};
  }
};

// The loops over a row stand alone, so that the compiler sees that nothing overlaps.

template <class Number, class Bits = typename Number::Bits>
Bits largest(const Bits* x, int64_t count) {
  Bits most = 0;
#pragma omp simd reduction(max : most)
  for (int64_t j = 0; j < count; ++j) most = std::max(most, Bits(x[j] & Number::kMagnitude));
  return most;
}

template <class Number, class Bits = typename Number::Bits>
void raise(const Bits* __restrict x, int64_t count, Bits* __restrict most) {
#pragma omp simd
  for (int64_t j = 0; j < count; ++j) {
    const Bits old = most[j], magnitude = x[j] & Number::kMagnitude;
    most[j] = magnitude > old ? magnitude : old;  // std::max is not vectorized here
  }
}

template <class Number, class Bits = typename Number::Bits>
void round(const Bits* __restrict x, int64_t count, float by, int8_t* __restrict out) {
#pragma omp simd
  for (int64_t j = 0; j < count; ++j) out[j] = nearest(Number::value(x[j]) * by);
}

template <class Number, class Bits = typename Number::Bits>
void round(const Bits* __restrict x, int64_t count, const float* __restrict by,
           int8_t* __restrict out) {
#pragma omp simd
  for (int64_t j = 0; j < count; ++j) out[j] = nearest(Number::value(x[j]) * by[j]);
}

template <class Number, class Bits = typename Number::Bits>
void quantize(const Bits* x, int64_t rows, int64_t columns, int8_t* by_rows, float* row_scales,
              int8_t* by_columns, float* column_scales, int threads) {
  const int64_t width = (columns / kLine + 2) * kLine;
  std::vector<Bits> most(threads * width);
#pragma omp parallel num_threads(threads)
  {
    // The system may grant fewer threads than were asked for.
    const int team = omp_get_num_threads(), mine = omp_get_thread_num();
    const int64_t first = rows * mine / team, last = rows * (mine + 1) / team;
    for (int64_t i = first; i < last; ++i) {
      const Bits* row = x + i * columns;
      const Scale scale = Scale::of<Number>(largest<Number>(row, columns));
      row_scales[i] = scale.size;
      round<Number>(row, columns, scale.inverse, by_rows + i * columns);
      raise<Number>(row, columns, most.data() + mine * width);
    }
#pragma omp barrier
    std::vector<float> inverse(columns);
    for (int64_t j = 0; j < columns; ++j) {
      Bits all = 0;
      for (int k = 0; k < team; ++k) all = std::max(all, most[k * width + j]);
      const Scale scale = Scale::of<Number>(all);
      inverse[j] = scale.inverse;
      if (mine == 0) column_scales[j] = scale.size;
    }
    // Backwards: the last rows are still in the cache.
    for (int64_t i = last - 1; i >= first; --i)
      round<Number>(x + i * columns, columns, inverse.data(), by_columns + i * columns);
  }
}

template <class Number>
void rescale(const int32_t* sums, int64_t rows, int64_t columns, const float* row_scales,
             const float* column_scales, typename Number::Bits* out, int threads) {
#pragma omp parallel for num_threads(threads)
  for (int64_t i = 0; i < rows; ++i) {
    const int32_t* from = sums + i * columns;
    typename Number::Bits* to = out + i * columns;
    const float scale = row_scales[i];
#pragma omp simd
    for (int64_t j = 0; j < columns; ++j)
      to[j] = Number::bits(float(from[j]) * (scale * column_scales[j]));
  }
}

}  // namespace

// (rows, columns) to whole numbers, once with a scale for each row and once with a scale for
// each column.
extern "C" void quantize_matrix(const void* x, int64_t is_bfloat16, int64_t rows,
                                int64_t columns, int8_t* by_rows, float* row_scales,
                                int8_t* by_columns, float* column_scales, int64_t threads) {
  if (is_bfloat16)
    quantize<BFloat16>(static_cast<const uint16_t*>(x), rows, columns, by_rows, row_scales,
                       by_columns, column_scales, int(threads));
  else
    quantize<Float32>(static_cast<const uint32_t*>(x), rows, columns, by_rows, row_scales,
                      by_columns, column_scales, int(threads));
}

// Sums of products to what they stand for: sums[i, j] * row_scales[i] * column_scales[j].
extern "C" void rescale_sums(const int32_t* sums, int64_t is_bfloat16, int64_t rows,
                             int64_t columns, const float* row_scales,
                             const float* column_scales, void* out, int64_t threads) {
  if (is_bfloat16)
    rescale<BFloat16>(sums, rows, columns, row_scales, column_scales,
                      static_cast<uint16_t*>(out), int(threads));
  else
    rescale<Float32>(sums, rows, columns, row_scales, column_scales,
                     static_cast<uint32_t*>(out), int(threads));
}
