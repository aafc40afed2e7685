/**
 * Quantized matrix products of Sabrewing as a C library.
 *
 * c[M, N] = a[M, K] * dequantize(b)[N, K]^T (+ bias[N]), on the CPU or on an NVIDIA GPU. A context is a
 * device, a plan is a decision for one product, a weight is a matrix packed for a plan's kernels;
 * `sabrewing_gemm_enqueue` runs a plan.
 *
 * - Functions return a status; `sabrewing_last_error` then has one sentence that names the field. Nothing
 * aborts, prints or throws.
 * - Every descriptor begins with `struct_size`, which the caller sets to the structure's size; zero the rest
 * first. The library accepts the sizes of older versions and refuses non-zero bytes behind the fields that it
 * knows.
 * - Handles are numbers in the shape of pointers and are never used twice: one that was destroyed, or that is
 * of another kind, is refused. What a handle needs stays alive with it, so they may be destroyed in any
 * order.
 * - Functions may be called from any thread. Calls on one CPU context take turns.
 * - Functions named *_destroy accept NULL.
 */
#ifndef SABREWING_SABREWING_H
#define SABREWING_SABREWING_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Changes when a function or a field changes its meaning; a new function or a new last field does not change
 * it. */
#define SABREWING_ABI_VERSION 1

#ifndef SABREWING_API
#if defined(__GNUC__)
#define SABREWING_API __attribute__((visibility("default")))
#else
#define SABREWING_API
#endif
#endif

/* Enumerations are stored in int32_t fields. */

typedef enum sabrewing_status {
  SABREWING_OK = 0,
  SABREWING_INVALID_ARGUMENT = 1, /**< the caller's value is wrong */
  SABREWING_UNSUPPORTED = 2,      /**< understood, but not implemented or not exactly computable */
  SABREWING_NOT_FOUND = 3,        /**< a named file or library is absent */
  SABREWING_IO = 4,               /**< the operating system refused */
  SABREWING_CORRUPT = 5,          /**< data contradict their format */
  SABREWING_OUT_OF_MEMORY = 6,
  SABREWING_DEVICE = 7,  /**< driver or GPU failure, or no driver */
  SABREWING_INTERNAL = 8 /**< a bug of the library */
} sabrewing_status;

typedef enum sabrewing_element_kind {
  SABREWING_KIND_NONE = 0, /**< no element: "not scaled" */
  SABREWING_KIND_INT = 1,  /**< two's complement, 1 to 8 bits */
  SABREWING_KIND_UINT = 2, /**< unsigned, 1 to 8 bits */
  SABREWING_KIND_MINIFLOAT =
      3,                   /**< sign, `exponent` and `mantissa` bits, 3 to 8 in all; E4M3 is the FN variant */
  SABREWING_KIND_IEEE = 4, /**< BF16 (8, 7), FP16 (5, 10), FP32 (8, 23) */
  SABREWING_KIND_EXPONENT = 5 /**< E8M0: 2^(code - 127); 255 is NaN */
} sabrewing_element_kind;

typedef enum sabrewing_zero_point {
  SABREWING_ZERO_POINT_NONE = 0,
  SABREWING_ZERO_POINT_INTEGER = 1, /**< value = (code - zero) * scale */
  SABREWING_ZERO_POINT_FLOAT = 2    /**< value = code * scale + zero */
} sabrewing_zero_point;

typedef enum sabrewing_granularity {
  SABREWING_SCALE_NONE = 0,
  SABREWING_SCALE_TENSOR = 1, /**< one scale */
  SABREWING_SCALE_TOKEN = 2,  /**< one scale per row */
  SABREWING_SCALE_GROUP = 3   /**< one scale per row and `group` columns */
} sabrewing_granularity;

typedef enum sabrewing_dtype {
  SABREWING_BF16 = 1,
  SABREWING_F16 = 2,
  SABREWING_F32 = 3,
  SABREWING_F8_E4M3 = 4, /**< of quantized activations, as the following */
  SABREWING_F8_E5M2 = 5,
  SABREWING_I8 = 6 /**< also INT4 numbers; FP4 ones doubled, their scales halved */
} sabrewing_dtype;

typedef enum sabrewing_accuracy {
  SABREWING_ACCURACY_DEFAULT = 0, /**< the fastest kernel whose stated error bound holds */
  SABREWING_ACCURACY_HIGH = 1,    /**< scales applied in FP32 after the inner product */
  SABREWING_ACCURACY_EXACT = 2    /**< FP32 arithmetic on dequantized weights */
} sabrewing_accuracy;

typedef enum sabrewing_log_level {
  SABREWING_LOG_DEBUG = 0,
  SABREWING_LOG_INFO = 1,
  SABREWING_LOG_WARNING = 2,
  SABREWING_LOG_ERROR = 3
} sabrewing_log_level;

typedef struct sabrewing_context sabrewing_context;
typedef struct sabrewing_plan sabrewing_plan;
typedef struct sabrewing_weight sabrewing_weight;

/** A number's encoding; a plain value without a size. */
typedef struct sabrewing_element_type {
  uint8_t kind; /**< sabrewing_element_kind */
  uint8_t bits;
  uint8_t exponent; /**< bits; 0 for integers */
  uint8_t mantissa; /**< stored bits; 0 for integers */
} sabrewing_element_type;

/** value = decode(element, code) * scale of its block * second-level scale of the tensor. */
typedef struct sabrewing_weight_format {
  size_t struct_size;
  sabrewing_element_type element;
  sabrewing_element_type scale;        /**< of the blocks */
  sabrewing_element_type second_scale; /**< of the tensor */
  int32_t zero_point;                  /**< sabrewing_zero_point */
  int64_t block_n;                     /**< rows that share a scale; 0: all */
  int64_t block_k;                     /**< columns that share a scale (the group size); 0: all */
} sabrewing_weight_format;

/**
 * What the inner product reads as its activations. On the CPU they are handed over as F32 or BF16 and
 * converted on the way; on CUDA they are handed over so, the quantized ones with their scales.
 */
typedef struct sabrewing_activation_format {
  size_t struct_size;
  sabrewing_element_type element;
  sabrewing_element_type scale; /**< SABREWING_KIND_NONE with SABREWING_SCALE_NONE */
  int32_t granularity;          /**< sabrewing_granularity */
  int32_t reserved;             /**< 0 */
  int64_t group;                /**< columns; only with SABREWING_SCALE_GROUP */
} sabrewing_activation_format;

typedef struct sabrewing_context_desc {
  size_t struct_size;
  const char* device;       /**< "cpu", "cuda" or "cuda:N" */
  const char* cpu_tier;     /**< "scalar", "avx2", "avx512"; NULL: the best of this machine */
  const char* nvrtc_path;   /**< file or folder with NVRTC; NULL: the usual places */
  const char* kernel_cache; /**< folder of compiled kernels; NULL: the user's; "": none */
  int32_t threads;          /**< of a CPU context; 0: every processor of this process */
  int32_t reserved;         /**< 0 */
} sabrewing_context_desc;

typedef struct sabrewing_gemm_desc {
  size_t struct_size;
  const sabrewing_weight_format* weight;
  const sabrewing_activation_format* activation; /**< NULL: what the fastest kernel of `accuracy` reads */
  int64_t n;                                     /**< output features, up to 2^31 - 1 */
  int64_t k;                                     /**< reduction, up to 2^31 - 1 */
  int64_t min_m;    /**< fewest rows of a call that is not empty; 0 stands for 1 */
  int64_t max_m;    /**< most rows of a call; from 1 */
  int32_t output;   /**< sabrewing_dtype of c */
  int32_t accuracy; /**< sabrewing_accuracy */
  int32_t bias;     /**< whether calls have a bias */
  int32_t reserved; /**< 0 */
} sabrewing_gemm_desc;

/**
 * Consecutive rows of a weight as a checkpoint stores them, in host memory at any alignment: 16- and 32-bit
 * elements little-endian, others a dense bit stream, lowest bits first, that starts on a byte in each row;
 * MXFP4 so has element 2j in the low half of byte j. Scales and zero points: row-major, one row of them for
 * `block_n` rows counted from the part's first (block_n 0: for all); integer zero points are a bit stream of
 * the element's width, others have the scale's type.
 */
typedef struct sabrewing_weight_rows {
  size_t struct_size;
  const void* values;
  size_t values_bytes; /**< that may be read */
  int64_t row_stride;  /**< bytes from row to row; 0: rows follow each other */
  const void* scales;  /**< NULL where the format has none */
  size_t scales_bytes;
  int64_t scale_row_stride; /**< bytes; 0: rows follow each other */
  int64_t rows;
  const void* zeros; /**< NULL where the format has none */
  size_t zeros_bytes;
  int64_t zero_row_stride; /**< bytes; 0: rows follow each other */
} sabrewing_weight_rows;

/** Parts stacked along N; together they have the plan's N rows. */
typedef struct sabrewing_weight_source {
  size_t struct_size;
  const sabrewing_weight_rows* parts; /**< all with the same struct_size */
  size_t part_count;
  float second_scale; /**< of a format that has one, else 0 */
  int32_t reserved;   /**< 0 */
} sabrewing_weight_source;

typedef struct sabrewing_gemm_args {
  size_t struct_size;
  const void* a;    /**< (M, K) in the context's memory, aligned to its elements; on CUDA to 16 bytes */
  int64_t a_stride; /**< elements from row to row; 0 stands for K; on CUDA a multiple of 8 */
  const sabrewing_weight* b; /**< packed for a plan of the same format and shape */
  const float* bias;         /**< (N); NULL exactly when the plan has none */
  void* c;                   /**< (M, N), aligned to its elements */
  int64_t c_stride;          /**< elements; 0 stands for N */
  int64_t m;                 /**< rows; with 0 nothing is done */
  void* workspace;           /**< aligned to 64 bytes; NULL when the plan needs none */
  size_t workspace_bytes;
  int32_t a_dtype; /**< sabrewing_dtype: F32 or BF16 on the CPU; on CUDA that of the plan's activations */
  int32_t overlap; /**< CUDA: the kernel may start while the one before it in the stream finishes; the weight
                      was then complete before that one started */
  /**
   * CUDA: the scales of quantized activations, else NULL. FP32 (M) with SABREWING_SCALE_TOKEN, and with
   * SABREWING_SCALE_TENSOR the one scale M times; FP32 or E8M0 (K / group rounded up, M), rows following each
   * other, with SABREWING_SCALE_GROUP.
   */
  const void* a_scales;
} sabrewing_gemm_args;

/** SABREWING_ABI_VERSION of the library; compare it with the header's before any other call. */
SABREWING_API uint32_t sabrewing_abi_version(void);
/** "0.1.0" */
SABREWING_API const char* sabrewing_version(void);
/** "ok", "invalid_argument", ...; "unknown" for other numbers. */
SABREWING_API const char* sabrewing_status_name(int32_t status);
/**
 * Why the latest call that failed on this thread did; "" when none has. Valid until the next failure on this
 * thread.
 */
SABREWING_API const char* sabrewing_last_error(void);

typedef void (*sabrewing_log_callback)(int32_t level, const char* message, void* user);
/** Where warnings of the library go, from any thread; NULL drops them, which is how it starts. */
SABREWING_API sabrewing_status sabrewing_set_log_callback(sabrewing_log_callback callback, void* user);

/** "int4", "uint3", "float4e2m1", "float8e4m3", "float8e8m0", "bf16", "fp16", "fp32". */
SABREWING_API sabrewing_status sabrewing_parse_element_type(const char* name, sabrewing_element_type* type);

/**
 * Opens a device. A CUDA context shares the device's primary context with the CUDA runtime; every call makes
 * it current for its duration and puts the thread's own back. SABREWING_DEVICE without a usable driver, with
 * the paths that were tried.
 */
SABREWING_API sabrewing_status sabrewing_context_create(const sabrewing_context_desc* desc,
                                                        sabrewing_context** context);
SABREWING_API sabrewing_status sabrewing_context_destroy(sabrewing_context* context);
/** One line for people, valid while the context lives: "cpu avx512, 2 threads, ...". */
SABREWING_API sabrewing_status sabrewing_context_describe(const sabrewing_context* context,
                                                          const char** text);

/** SABREWING_OK, or SABREWING_UNSUPPORTED with the rule that is broken in `sabrewing_last_error`. */
SABREWING_API sabrewing_status sabrewing_can_implement(const sabrewing_context* context,
                                                       const sabrewing_gemm_desc* desc);
/** What `activation` NULL stands for. The caller sets `activation->struct_size`. */
SABREWING_API sabrewing_status sabrewing_preferred_activation(const sabrewing_context* context,
                                                              const sabrewing_weight_format* weight,
                                                              int32_t accuracy,
                                                              sabrewing_activation_format* activation);

/** Chooses kernels, and on CUDA compiles and loads them: seconds when they are not in the cache. */
SABREWING_API sabrewing_status sabrewing_plan_create(const sabrewing_context* context,
                                                     const sabrewing_gemm_desc* desc, sabrewing_plan** plan);
SABREWING_API sabrewing_status sabrewing_plan_destroy(sabrewing_plan* plan);
/** Kernel and what matters of its numbers, valid while the plan lives: "cpu_avx512 mxfp4 x int8 g32". */
SABREWING_API sabrewing_status sabrewing_plan_kernel_name(const sabrewing_plan* plan, const char** text);
/** Tiles, predicted times and why others were rejected, for people; valid while the plan lives. */
SABREWING_API sabrewing_status sabrewing_plan_explain(const sabrewing_plan* plan, const char** text);
/** Scratch that a call of `m` rows needs. */
SABREWING_API sabrewing_status sabrewing_plan_workspace_bytes(const sabrewing_plan* plan, int64_t m,
                                                              size_t* bytes);
/** Bytes of a packed weight. */
SABREWING_API sabrewing_status sabrewing_plan_packed_bytes(const sabrewing_plan* plan, size_t* bytes);

/**
 * Packs a weight for the plan's kernels; complete when it returns. `buffer` NULL: the library owns the
 * memory. Else `buffer` is memory of the context's device of at least `sabrewing_plan_packed_bytes`, aligned
 * to 256 bytes, and outlives the weight.
 */
SABREWING_API sabrewing_status sabrewing_weight_pack(const sabrewing_plan* plan,
                                                     const sabrewing_weight_source* source, void* buffer,
                                                     size_t buffer_bytes, sabrewing_weight** weight);
/**
 * The same weight in other memory of the device, complete when it returns; `buffer` as in
 * `sabrewing_weight_pack`.
 */
SABREWING_API sabrewing_status sabrewing_weight_copy(const sabrewing_weight* weight, void* buffer,
                                                     size_t buffer_bytes, sabrewing_weight** copy);
/** Memory that the library owns must not be in use on a stream any more. */
SABREWING_API sabrewing_status sabrewing_weight_destroy(sabrewing_weight* weight);
/** The packed bytes, in the memory of the context's device. */
SABREWING_API sabrewing_status sabrewing_weight_data(const sabrewing_weight* weight, const void** data,
                                                     size_t* bytes);

/**
 * Computes c. `stream` is a CUstream or cudaStream_t, NULL the default stream; on a CPU context it is NULL
 * and the work is done on return. Allocates nothing, compiles nothing, does not synchronise, and may be
 * captured into a CUDA graph.
 */
SABREWING_API sabrewing_status sabrewing_gemm_enqueue(const sabrewing_plan* plan,
                                                      const sabrewing_gemm_args* args, void* stream);

#ifdef __cplusplus
}
#endif

#endif
