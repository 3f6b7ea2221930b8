// The model in C++: one token more for every text of a batch, or a few for one, in a single
// call; and products.
//
// The same function as model/inference.py computes with PyTorch, whose dozens of calls for
// a layer cost more than the arithmetic of a small model. Threads meet at barriers instead.

#include <omp.h>
#include <sched.h>

#include <atomic>
#include <memory>
#include <vector>

#include "products.h"

struct Norm {
  int64_t rms;  // else LayerNorm
  const float* weight;
  const float* bias;  // or null
  double eps;
};

enum Activation : int64_t { GELU, SWIGLU, GEGLU };

struct Layer {
  Norm norm, mlp_norm;
  Matrix qkv, out;
  Matrix gate;  // not for GELU
  Matrix up, down;
  const float* gain;  // of queries and keys: (heads + kv_heads, head_dim)
};

struct Model {
  int64_t hidden, heads, kv_heads, head_dim, intermediate, layer_count;
  int64_t activation;
  double qk_eps;  // negative: no norm of queries and keys
  int64_t embedding_is_bfloat16;
  const void* embedding;   // (vocab, hidden)
  const float* positions;  // (context, hidden), or null
  const float* rotations;  // (context, head_dim / 2, 2): cosine and sine; or null
  const Layer* layers;
  Norm norm;
  Matrix head;
};

// Keys and values: (layers, rows, 2 * kv_heads, slots, head_dim), keys first.
struct Cache {
  float* store;
  int64_t rows, slots;
};

// Tokens, each at its slot of a row of the cache; those of one row follow each other.
struct Tokens {
  const int64_t *ids, *rows, *slots;
  int64_t count;
  int64_t several;  // of one row: each must see the keys of those before it
};

namespace {

// Threads wait for each other awake; if that takes long, others may have the processor.
class Barrier {
 public:
  explicit Barrier(int threads) : threads_(threads) {}

  void wait() {
    if (threads_ == 1) return;
    const int round = round_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == threads_ - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; round_.load(std::memory_order_acquire) == round; spins++) {
      if (spins > 2000) sched_yield();
#if defined(__x86_64__)
      else __builtin_ia32_pause();
#endif
    }
  }

 private:
  const int threads_;
  std::atomic<int> arrived_{0}, round_{0};
};

// The share of one thread: blocks first .. end - 1.
struct Share {
  int64_t first, end;
  Share(int64_t count, int thread, int threads)
      : first(count * thread / threads), end(count * (thread + 1) / threads) {}
};

// e^x in float32: 2^whole times a polynomial (Cephes).
inline float exponential(float x) {
  x = std::min(88.0f, std::max(-87.0f, x));
  const float whole = x * 1.44269504f + 12582912.0f - 12582912.0f;  // rounds
  const float rest = x - whole * 0.693359375f + whole * 2.12194440e-4f;
  float sum = 1.9875691500e-4f;
  sum = sum * rest + 1.3981999507e-3f;
  sum = sum * rest + 8.3334519073e-3f;
  sum = sum * rest + 4.1665795894e-2f;
  sum = sum * rest + 1.6666665459e-1f;
  sum = sum * rest + 5.0000001201e-1f;
  sum = sum * rest * rest + rest + 1;
  return sum * as_float((uint32_t)((int32_t)whole + 127) << 23);
}

inline float dot(const float* a, const float* b, int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
  return sum;
}

void normalise(const Norm& norm, const float* x, int64_t n, float* to) {
  float mean = 0;
  if (!norm.rms) {
#pragma omp simd reduction(+ : mean)
    for (int64_t i = 0; i < n; i++) mean += x[i];
    mean /= n;
  }
  float square = 0;
#pragma omp simd reduction(+ : square)
  for (int64_t i = 0; i < n; i++) square += (x[i] - mean) * (x[i] - mean);
  const float scale = 1 / std::sqrt(square / n + (float)norm.eps);
  for (int64_t i = 0; i < n; i++) to[i] = (x[i] - mean) * scale * norm.weight[i];
  if (norm.bias)
    for (int64_t i = 0; i < n; i++) to[i] += norm.bias[i];
}

// up = activation(gate) * up, or activation(up) where there is no gate.
void activate(int64_t kind, const float* gate, float* up, int64_t n) {
  if (kind == GELU) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
      const float x = up[i], inner = 0.7978845608f * (x + 0.044715f * x * x * x);
      up[i] = x / (1 + exponential(-2 * inner));  // x / 2 * (1 + tanh(inner))
    }
  } else if (kind == SWIGLU) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) up[i] *= gate[i] / (1 + exponential(-gate[i]));
  } else {
    for (int64_t i = 0; i < n; i++)
      up[i] *= gate[i] * 0.5f * (1 + std::erf(gate[i] * 0.7071067812f));
  }
}

// (value, next) of each pair turned by an angle.
void rotate(float* x, const float* turn, int64_t n) {
  for (int64_t i = 0; i < n; i += 2) {
    const float a = x[i], b = x[i + 1];
    x[i] = a * turn[i] - b * turn[i + 1];
    x[i + 1] = a * turn[i + 1] + b * turn[i];
  }
}

// scores = queries . keys of `count` slots; V vectors to a head, or 0: any size.
template <int V>
void score(const float* query, const float* keys, int64_t count, int64_t size, float* scores) {
  Floats q[V + 1];
  for (int v = 0; v < V; v++) q[v] = load<Floats>(query + v * LANES);
  for (int64_t slot = 0; slot < count; slot++) {
    const float* key = keys + slot * size;
    if (V == 0) {
      scores[slot] = dot(query, key, size);
      continue;
    }
    Floats sum = {};
    for (int v = 0; v < V; v++) sum += q[v] * load<Floats>(key + v * LANES);
    scores[slot] = sum_of(sum);
  }
}

// mixed = shares . values.
template <int V>
void mix(const float* shares, const float* values, int64_t count, int64_t size, float* mixed) {
  if (V == 0) {
    std::fill(mixed, mixed + size, 0.0f);
    for (int64_t slot = 0; slot < count; slot++)
      for (int64_t i = 0; i < size; i++) mixed[i] += shares[slot] * values[slot * size + i];
    return;
  }
  Floats sum[V + 1] = {};
  for (int64_t slot = 0; slot < count; slot++)
    for (int v = 0; v < V; v++) sum[v] += load<Floats>(values + slot * size + v * LANES) * shares[slot];
  std::memcpy(mixed, sum, V * sizeof(Floats));
}

// Softmax.
void soften(float* scores, int64_t count) {
  float most = -INFINITY, total = 0;
#pragma omp simd reduction(max : most)
  for (int64_t slot = 0; slot < count; slot++) most = std::max(most, scores[slot]);
#pragma omp simd reduction(+ : total)
  for (int64_t slot = 0; slot < count; slot++) {
    scores[slot] = exponential(scores[slot] - most);
    total += scores[slot];
  }
  const float scale = 1 / total;
  for (int64_t slot = 0; slot < count; slot++) scores[slot] *= scale;
}

template <int V>
void attend_head(const float* query, const float* keys, const float* values, int64_t count,
                 int64_t size, float* scores, float* mixed) {
  score<V>(query, keys, count, size, scores);
  soften(scores, count);
  mix<V>(scores, values, count, size, mixed);
}

// What all threads share while they compute.
class Step {
 public:
  Step(const Model& model, const Cache& cache, const Tokens& tokens, float* logits, int threads)
      : m_(model), cache_(cache), tokens_(tokens), rows_(tokens.count), logits_(logits),
        threads_(threads), barrier_(threads) {
    const int64_t heads_width = m_.heads * m_.head_dim;
    qkv_width_ = heads_width + 2 * m_.kv_heads * m_.head_dim;
    int64_t longest = 1, widest = std::max(m_.head.inputs, m_.layers[0].out.inputs);
    for (int64_t row = 0; row < rows_; row++) longest = std::max(longest, tokens.slots[row] + 1);
    widest = std::max(widest, m_.layers[0].down.inputs) + 16;  // floats of a vector made ready
    own_size_ = 2 * widest + m_.heads / m_.kv_heads * longest;
    const size_t size = rows_ * (m_.hidden + qkv_width_ + heads_width + 2 * m_.intermediate + widest) +
                        threads * own_size_;
    memory_.reset(new float[size]);
    float* at = memory_.get();
    x_ = at, at += rows_ * m_.hidden;
    qkv_ = at, at += rows_ * qkv_width_;
    mixed_ = at, at += rows_ * heads_width;
    gate_ = at, at += rows_ * m_.intermediate;
    up_ = at, at += rows_ * m_.intermediate;
    ready_ = at, at += rows_ * widest;
    own_ = at;
    widest_ = widest;
  }

  void run(int thread) {
    for (int64_t row = thread; row < rows_; row += threads_) embed(row);
    barrier_.wait();
    for (int64_t index = 0; index < m_.layer_count; index++) {
      const Layer& layer = m_.layers[index];
      product(thread, layer.qkv, prepare(thread, layer.qkv, &layer.norm, x_), {qkv_, qkv_width_, false});
      barrier_.wait();
      const int64_t items = rows_ * m_.kv_heads;
      for (int64_t item = thread; item < items; item += threads_) {
        store(layer, index, item / m_.kv_heads, item % m_.kv_heads);
        if (!tokens_.several) attend(layer, index, item / m_.kv_heads, item % m_.kv_heads, own(thread));
      }
      barrier_.wait();
      if (tokens_.several) {
        for (int64_t item = thread; item < items; item += threads_)
          attend(layer, index, item / m_.kv_heads, item % m_.kv_heads, own(thread));
        barrier_.wait();
      }
      product(thread, layer.out, prepare(thread, layer.out, nullptr, mixed_), {x_, m_.hidden, true});
      barrier_.wait();
      expand(thread, layer);
      barrier_.wait();
      product(thread, layer.down, prepare(thread, layer.down, nullptr, up_), {x_, m_.hidden, true});
      barrier_.wait();
    }
    product(thread, m_.head, prepare(thread, m_.head, &m_.norm, x_), {logits_, m_.head.outputs, false});
  }

 private:
  // Memory of one thread: two vectors, and scores.
  float* own(int thread) const { return own_ + thread * own_size_; }

  void embed(int64_t row) {
    float* to = x_ + row * m_.hidden;
    const int64_t from = tokens_.ids[row] * m_.hidden;
    if (m_.embedding_is_bfloat16) {
      const uint16_t* half = static_cast<const uint16_t*>(m_.embedding) + from;
      for (int64_t i = 0; i < m_.hidden; i++) to[i] = as_float((uint32_t)half[i] << 16);
    } else {
      std::memcpy(to, static_cast<const float*>(m_.embedding) + from, m_.hidden * 4);
    }
    if (m_.positions)
      for (int64_t i = 0; i < m_.hidden; i++) to[i] += m_.positions[tokens_.slots[row] * m_.hidden + i];
  }

  // Inputs of a product, (rows, matrix.columns), made ready; normalised before if there is a
  // norm. A few rows every thread prepares for itself, of many each its share.
  const uint8_t* prepare(int thread, const Matrix& matrix, const Norm* norm, const float* from) {
    const bool shared = threads_ > 1 && rows_ >= threads_;
    float* wide = own(thread);
    uint8_t* to = reinterpret_cast<uint8_t*>(shared || rows_ > 1 ? ready_ : wide + widest_);
    const int64_t n = matrix.columns;
    for (int64_t row = shared ? thread : 0; row < rows_; row += shared ? threads_ : 1) {
      const float* x = from + row * n;
      if (norm) normalise(*norm, x, n, wide);
      else std::memcpy(wide, x, n * 4);
      std::fill(wide + n, wide + matrix.inputs, 0.0f);
      make_ready(matrix, wide, to + row * matrix.vector_bytes());
    }
    if (shared) barrier_.wait();
    return to;
  }

  void product(int thread, const Matrix& matrix, const uint8_t* ready, const Target& to) const {
    const Share share(matrix.blocks(), thread, threads_);
    multiply(matrix, ready, rows_, share.first, share.end, to);
  }

  // The MLP's first half.
  void expand(int thread, const Layer& layer) {
    const uint8_t* ready = prepare(thread, layer.up, &layer.mlp_norm, x_);
    product(thread, layer.up, ready, {up_, m_.intermediate, false});
    if (m_.activation != GELU) product(thread, layer.gate, ready, {gate_, m_.intermediate, false});
    const Share share(layer.up.blocks(), thread, threads_);
    const int64_t first = share.first * LANES, end = std::min(share.end * LANES, m_.intermediate);
    for (int64_t row = 0; row < rows_ && first < end; row++) {
      const int64_t at = row * m_.intermediate + first;
      activate(m_.activation, gate_ + at, up_ + at, end - first);
    }
  }

  // Norm, gain and position of queries or keys that are one head's.
  void place(const Layer& layer, float* x, int64_t head, int64_t position) const {
    if (m_.qk_eps >= 0) {
      const float scale = 1 / std::sqrt(dot(x, x, m_.head_dim) / m_.head_dim + (float)m_.qk_eps);
      for (int64_t i = 0; i < m_.head_dim; i++) x[i] *= scale;
    }
    const float* gain = layer.gain + head * m_.head_dim;
    for (int64_t i = 0; i < m_.head_dim; i++) x[i] *= gain[i];
    if (m_.rotations) rotate(x, m_.rotations + position * m_.head_dim, m_.head_dim);
  }

  // The keys of a head in a token's row of the cache; its values lie kv_heads further.
  float* keys_of(int64_t layer, int64_t row, int64_t kv_head) const {
    const int64_t head = (layer * cache_.rows + tokens_.rows[row]) * 2 * m_.kv_heads + kv_head;
    return cache_.store + head * cache_.slots * m_.head_dim;
  }

  // One head's key and value of a token go to the cache.
  void store(const Layer& layer, int64_t index, int64_t row, int64_t kv_head) const {
    const int64_t size = m_.head_dim, at = tokens_.slots[row];
    float* key = qkv_ + row * qkv_width_ + (m_.heads + kv_head) * size;
    float* keys = keys_of(index, row, kv_head);
    place(layer, key, m_.heads + kv_head, at);
    std::memcpy(keys + at * size, key, size * 4);
    std::memcpy(keys + (m_.kv_heads * cache_.slots + at) * size, key + m_.kv_heads * size, size * 4);
  }

  // The queries of one token that share a key head.
  void attend(const Layer& layer, int64_t index, int64_t row, int64_t kv_head, float* scores) const {
    const int64_t size = m_.head_dim, group = m_.heads / m_.kv_heads, at = tokens_.slots[row];
    float* queries = qkv_ + row * qkv_width_ + kv_head * group * size;
    const float* keys = keys_of(index, row, kv_head);
    const float* values = keys + m_.kv_heads * cache_.slots * size;
    for (int64_t one = 0; one < group; one++) {
      float* query = queries + one * size;
      place(layer, query, kv_head * group + one, at);
      float* mixed = mixed_ + (row * m_.heads + kv_head * group + one) * size;
      const auto head = size == 32    ? attend_head<2>
                        : size == 64  ? attend_head<4>
                        : size == 96  ? attend_head<6>
                        : size == 128 ? attend_head<8>
                                      : attend_head<0>;
      head(query, keys, values, at + 1, size, scores, mixed);
    }
  }

  const Model& m_;
  const Cache& cache_;
  const Tokens& tokens_;
  const int64_t rows_;
  float* const logits_;
  const int threads_;
  Barrier barrier_;
  std::unique_ptr<float[]> memory_;
  int64_t qkv_width_, own_size_, widest_;
  float *x_, *qkv_, *mixed_, *gate_, *up_, *ready_, *own_;
};

}  // namespace

extern "C" {

// Logits (count, vocab) after each token; keys and values go to the cache.
void decode(const Model* model, const Cache* cache, const Tokens* tokens, float* logits,
            int64_t threads) {
  std::unique_ptr<Step> step;
#pragma omp parallel num_threads((int)threads)
  {
    // There may be fewer threads than were asked for.
#pragma omp single
    step = std::make_unique<Step>(*model, *cache, *tokens, logits, omp_get_num_threads());
    step->run(omp_get_thread_num());
  }
}

// out (rows, outputs) = x (rows, columns) times a matrix.
void product(const Matrix* matrix, const float* x, int64_t rows, float* out, int64_t threads) {
  const Matrix& m = *matrix;
  static thread_local std::vector<uint8_t> memory;
  if ((int64_t)memory.size() < rows * m.vector_bytes()) memory.resize(rows * m.vector_bytes());
  uint8_t* ready = memory.data();
#pragma omp parallel num_threads((int)threads)
  {
    std::vector<float> wide(m.inputs);
#pragma omp for
    for (int64_t row = 0; row < rows; row++) {
      std::memcpy(wide.data(), x + row * m.columns, m.columns * 4);
      make_ready(m, wide.data(), ready + row * m.vector_bytes());
    }
    const Share share(m.blocks(), omp_get_thread_num(), omp_get_num_threads());
    multiply(m, ready, rows, share.first, share.end, {out, m.outputs, false});
  }
}
}
