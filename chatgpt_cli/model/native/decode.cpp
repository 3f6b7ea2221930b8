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
  void* store;
  int64_t is_bfloat16;  // else float32
  int64_t rows, slots;
};

// Tokens, each at its slot of a row of the cache; those of one row follow each other.
struct Tokens {
  const int64_t *ids, *rows, *slots;
  int64_t count;
  int64_t several;  // of one row: each must see the keys of those before it
};

// What comes next after each token.
struct Scores {
  float* logits;  // (count, vocab)
  int64_t* best;  // the highest one's place, the first of several
  float* total;   // log of the sum of their exponentials
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
inline Floats exponential(Floats x) {
  const Floats most = spread(88.0f), least = spread(-87.0f);
  x = x < most ? x : most;
  x = x > least ? x : least;
  const Floats whole = (x * 1.44269504f + 12582912.0f) - 12582912.0f;  // rounds
  const Floats rest = x - whole * 0.693359375f + whole * 2.12194440e-4f;
  Floats sum = spread(1.9875691500e-4f);
  sum = sum * rest + 1.3981999507e-3f;
  sum = sum * rest + 8.3334519073e-3f;
  sum = sum * rest + 4.1665795894e-2f;
  sum = sum * rest + 1.6666665459e-1f;
  sum = sum * rest + 5.0000001201e-1f;
  sum = sum * rest * rest + rest + 1.0f;
  return sum * as_floats((Words)(__builtin_convertvector(whole, Ints) + 127) << 23);
}

// The types of numbers in the cache.
typedef uint16_t Half;
typedef Half Halves __attribute__((vector_size(32), aligned(2), may_alias));

inline float widened(float x) { return x; }
inline float widened(Half x) { return as_float((uint32_t)x << 16); }
inline Floats widened_vector(const float* x) { return load<Floats>(x); }
inline Floats widened_vector(const Half* x) {
  return as_floats(__builtin_convertvector(load<Halves>(x), Words) << 16);
}
inline void narrow(const float* x, int64_t n, float* to) { std::memcpy(to, x, n * 4); }
inline void narrow(const float* x, int64_t n, Half* to) {
  for (int64_t i = 0; i < n; i++) to[i] = rounded(load<uint32_t>(x + i));
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

// up = activation(gate) * up, or activation(up) where there is no gate; n fills vectors.
void activate(int64_t kind, const float* gate, float* up, int64_t n) {
  if (kind == GEGLU) {
    for (int64_t i = 0; i < n; i++)
      up[i] *= gate[i] * 0.5f * (1 + std::erf(gate[i] * 0.7071067812f));
    return;
  }
  for (int64_t i = 0; i < n; i += LANES) {
    Floats x = load<Floats>(up + i);
    if (kind == GELU) {
      // x / 2 * (1 + tanh(inner))
      const Floats inner = (x + x * x * x * 0.044715f) * 0.7978845608f;
      x = x / (exponential(inner * -2.0f) + 1.0f);
    } else {
      const Floats opening = load<Floats>(gate + i);
      x *= opening / (exponential(-opening) + 1.0f);
    }
    std::memcpy(up + i, &x, sizeof x);
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

// scores = query . keys of `count` slots; V vectors to a head, or 0: any size. Meanwhile as
// much is brought from `next` on, where this thread reads afterwards.
template <int V, class T>
void score(const float* query, const T* keys, int64_t count, int64_t size, float* scores,
           const T* next) {
  Floats q[V + 1];
  for (int v = 0; v < V; v++) q[v] = load<Floats>(query + v * LANES);
  for (int64_t slot = 0; slot < count; slot++) {
    const T* key = keys + slot * size;
    if (V == 0) {
      float sum = 0;
      for (int64_t i = 0; i < size; i++) sum += query[i] * widened(key[i]);
      scores[slot] = sum;
      continue;
    }
    Floats sum = {};
    for (int v = 0; v < V; v++) {
      sum += q[v] * widened_vector(key + v * LANES);
      fetch_ahead(next + slot * size + v * LANES);
    }
    scores[slot] = sum_of(sum);
  }
}

// mixed = shares . values; `next` as in score.
template <int V, class T>
void mix(const float* shares, const T* values, int64_t count, int64_t size, float* mixed,
         const T* next) {
  if (V == 0) {
    std::fill(mixed, mixed + size, 0.0f);
    for (int64_t slot = 0; slot < count; slot++)
      for (int64_t i = 0; i < size; i++) mixed[i] += shares[slot] * widened(values[slot * size + i]);
    return;
  }
  Floats sum[V + 1] = {};
  for (int64_t slot = 0; slot < count; slot++)
    for (int v = 0; v < V; v++) {
      sum[v] += widened_vector(values + slot * size + v * LANES) * shares[slot];
      fetch_ahead(next + slot * size + v * LANES);
    }
  std::memcpy(mixed, sum, V * sizeof(Floats));
}

// Softmax; there is room behind the scores to fill a vector.
void soften(float* scores, int64_t count) {
  const int64_t end = (count + LANES - 1) / LANES * LANES;
  std::fill(scores + count, scores + end, -INFINITY);
  Floats most = load<Floats>(scores), total = {};
  for (int64_t slot = LANES; slot < end; slot += LANES) {
    const Floats some = load<Floats>(scores + slot);
    most = some > most ? some : most;
  }
  const float highest = most_of(most);
  for (int64_t slot = 0; slot < end; slot += LANES) {
    const Floats some = exponential(load<Floats>(scores + slot) - highest);
    std::memcpy(scores + slot, &some, sizeof some);
    total += some;
  }
  const float scale = 1 / sum_of(total);
  for (int64_t slot = 0; slot < count; slot++) scores[slot] *= scale;
}

// The place of the highest logit, and the logarithm of the sum of all exponentials.
void summarise(const float* logits, int64_t count, int64_t* best, float* total) {
  const int64_t whole = count / LANES * LANES;
  Floats most = spread(-INFINITY), sums = {};
  for (int64_t i = 0; i < whole; i += LANES) {
    const Floats some = load<Floats>(logits + i);
    most = some > most ? some : most;
  }
  float highest = most_of(most), sum = 0;
  for (int64_t i = whole; i < count; i++) highest = std::max(highest, logits[i]);
  for (int64_t i = 0; i < whole; i += LANES)
    sums += exponential(load<Floats>(logits + i) - highest);
  for (int64_t i = whole; i < count; i++) sum += std::exp(logits[i] - highest);
  *best = std::find(logits, logits + count - 1, highest) - logits;
  *total = highest + std::log(sum + sum_of(sums));
}

template <int V, class T>
void attend_head(const float* query, const T* keys, const T* values, int64_t count, int64_t size,
                 float* scores, float* mixed, const T* next) {
  score<V>(query, keys, count, size, scores, values);
  soften(scores, count);
  mix<V>(scores, values, count, size, mixed, next);
}

// What all threads share while they compute.
class Step {
 public:
  Step(const Model& model, const Cache& cache, const Tokens& tokens, const Scores& scores, int threads)
      : m_(model), cache_(cache), tokens_(tokens), rows_(tokens.count), scores_(scores),
        threads_(threads), barrier_(threads) {
    const int64_t heads_width = m_.heads * m_.head_dim;
    qkv_width_ = heads_width + 2 * m_.kv_heads * m_.head_dim;
    int64_t longest = 1, widest = std::max(m_.head.inputs, m_.layers[0].out.inputs);
    for (int64_t row = 0; row < rows_; row++) longest = std::max(longest, tokens.slots[row] + 1);
    widest = std::max(widest, m_.layers[0].down.inputs) + 16;  // floats of a vector made ready
    own_size_ = 2 * widest + longest + LANES;
    const size_t size = rows_ * (m_.hidden + qkv_width_ + heads_width + 2 * m_.intermediate + widest) +
                        threads * own_size_;
    memory_.reset(new float[size]);
    float* at = memory_.get();
    x_ = at, at += rows_ * m_.hidden;
    qkv_ = at, at += rows_ * qkv_width_;
    mixed_ = at, at += rows_ * heads_width;
    gate_ = at, at += rows_ * m_.intermediate;
    up_ = at, at += rows_ * m_.intermediate;
    ready_ = reinterpret_cast<uint32_t*>(at), at += rows_ * widest;
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
      if (cache_.is_bfloat16) attention<Half>(thread, layer, index);
      else attention<float>(thread, layer, index);
      barrier_.wait();
      product(thread, layer.out, prepare(thread, layer.out, nullptr, mixed_), {x_, m_.hidden, true});
      barrier_.wait();
      expand(thread, layer);
      barrier_.wait();
      product(thread, layer.down, prepare(thread, layer.down, nullptr, up_), {x_, m_.hidden, true});
      barrier_.wait();
    }
    const int64_t vocab = m_.head.outputs;
    product(thread, m_.head, prepare(thread, m_.head, &m_.norm, x_), {scores_.logits, vocab, false});
    barrier_.wait();
    for (int64_t row = thread; row < rows_; row += threads_)
      summarise(scores_.logits + row * vocab, vocab, scores_.best + row, scores_.total + row);
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
  Ready prepare(int thread, const Matrix& matrix, const Norm* norm, const float* from) {
    const bool shared = threads_ > 1 && rows_ >= threads_;
    float* wide = own(thread);
    uint32_t* vector = reinterpret_cast<uint32_t*>(wide + widest_);
    const Ready ready = {shared || rows_ > 1 ? ready_ : vector, rows_, matrix.words()};
    const int64_t n = matrix.columns;
    for (int64_t row = shared ? thread : 0; row < rows_; row += shared ? threads_ : 1) {
      const float* x = from + row * n;
      if (norm) normalise(*norm, x, n, wide);
      else std::memcpy(wide, x, n * 4);
      std::fill(wide + n, wide + matrix.inputs, 0.0f);
      make_ready(matrix, wide, vector);
      if (ready.at != vector) ready.put(row, vector);
    }
    if (shared) barrier_.wait();
    return ready;
  }

  void product(int thread, const Matrix& matrix, const Ready& ready, const Target& to) const {
    const Share share(matrix.blocks(), thread, threads_);
    multiply(matrix, ready, share.first, share.end, to);
  }

  // The MLP's first half.
  void expand(int thread, const Layer& layer) {
    const Ready ready = prepare(thread, layer.up, &layer.mlp_norm, x_);
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
  template <class T> T* keys_of(int64_t layer, int64_t row, int64_t kv_head) const {
    const int64_t head = (layer * cache_.rows + tokens_.rows[row]) * 2 * m_.kv_heads + kv_head;
    return static_cast<T*>(cache_.store) + head * cache_.slots * m_.head_dim;
  }

  // One head's key and value of a token go to the cache.
  template <class T> void store(const Layer& layer, int64_t index, int64_t row, int64_t kv_head) const {
    const int64_t size = m_.head_dim, at = tokens_.slots[row];
    float* key = qkv_ + row * qkv_width_ + (m_.heads + kv_head) * size;
    T* keys = keys_of<T>(index, row, kv_head);
    place(layer, key, m_.heads + kv_head, at);
    narrow(key, size, keys + at * size);
    narrow(key + m_.kv_heads * size, size, keys + (m_.kv_heads * cache_.slots + at) * size);
  }

  // The queries of one token that share a key head.
  template <class T>
  void attend(const Layer& layer, int64_t index, int64_t row, int64_t kv_head, float* scores) const {
    const int64_t size = m_.head_dim, group = m_.heads / m_.kv_heads, at = tokens_.slots[row];
    float* queries = qkv_ + row * qkv_width_ + kv_head * group * size;
    const T* keys = keys_of<T>(index, row, kv_head);
    const T* values = keys + m_.kv_heads * cache_.slots * size;
    for (int64_t one = 0; one < group; one++) {
      float* query = queries + one * size;
      place(layer, query, kv_head * group + one, at);
      float* mixed = mixed_ + (row * m_.heads + kv_head * group + one) * size;
      const auto head = size == 32    ? attend_head<2, T>
                        : size == 64  ? attend_head<4, T>
                        : size == 96  ? attend_head<6, T>
                        : size == 128 ? attend_head<8, T>
                                      : attend_head<0, T>;
      const T* next = keys + (one + 1 < group ? 0 : threads_ * cache_.slots * size);
      head(query, keys, values, at + 1, size, scores, mixed, next);
    }
  }

  // Every token's attention in one layer.
  template <class T> void attention(int thread, const Layer& layer, int64_t index) {
    const int64_t items = rows_ * m_.kv_heads;
    for (int64_t item = thread; item < items; item += threads_) {
      const int64_t row = item / m_.kv_heads, kv_head = item % m_.kv_heads;
      store<T>(layer, index, row, kv_head);
      if (!tokens_.several) attend<T>(layer, index, row, kv_head, own(thread));
    }
    if (!tokens_.several) return;
    barrier_.wait();
    for (int64_t item = thread; item < items; item += threads_)
      attend<T>(layer, index, item / m_.kv_heads, item % m_.kv_heads, own(thread));
  }

  const Model& m_;
  const Cache& cache_;
  const Tokens& tokens_;
  const int64_t rows_;
  const Scores& scores_;
  const int threads_;
  Barrier barrier_;
  std::unique_ptr<float[]> memory_;
  int64_t qkv_width_, own_size_, widest_;
  float *x_, *qkv_, *mixed_, *gate_, *up_, *own_;
  uint32_t* ready_;
};

}  // namespace

extern "C" {

// Scores after each token; keys and values go to the cache.
void decode(const Model* model, const Cache* cache, const Tokens* tokens, const Scores* scores,
            int64_t threads) {
  std::unique_ptr<Step> step;
#pragma omp parallel num_threads((int)threads)
  {
    // There may be fewer threads than were asked for.
#pragma omp single
    step = std::make_unique<Step>(*model, *cache, *tokens, *scores, omp_get_num_threads());
    step->run(omp_get_thread_num());
  }
}

// out (rows, outputs) = x (rows, columns) times a matrix.
void product(const Matrix* matrix, const float* x, int64_t rows, float* out, int64_t threads) {
  const Matrix& m = *matrix;
  static thread_local std::vector<uint32_t> memory;
  if ((int64_t)memory.size() < rows * m.words()) memory.resize(rows * m.words());
  const Ready ready = {memory.data(), rows, m.words()};
#pragma omp parallel num_threads((int)threads)
  {
    std::vector<float> wide(m.inputs);
    std::vector<uint32_t> vector(m.words());
#pragma omp for
    for (int64_t row = 0; row < rows; row++) {
      std::memcpy(wide.data(), x + row * m.columns, m.columns * 4);
      make_ready(m, wide.data(), vector.data());
      ready.put(row, vector.data());
    }
    const Share share(m.blocks(), omp_get_thread_num(), omp_get_num_threads());
    multiply(m, ready, share.first, share.end, {out, m.outputs, false});
  }
}
}
