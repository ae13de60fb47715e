/* heed/base.h: status codes, errors, limits, the allocator and the context that every other header builds on.
 *
 * Every fallible call returns a heed_status: 0, or a negative code that never changes its meaning. Details go to
 * a heed_error owned by the caller; passing NULL for it is always allowed. The library never aborts, exits or prints. */
#ifndef HEED_BASE_H
#define HEED_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HEED_VERSION "0.1.0"

#if defined(__GNUC__)
#define HEED_API __attribute__((visibility("default")))
#define HEED_MUST_CHECK __attribute__((warn_unused_result))
#define HEED_PRINTF(text_at, args_at) __attribute__((format(printf, text_at, args_at)))
#else
#define HEED_API
#define HEED_MUST_CHECK
#define HEED_PRINTF(text_at, args_at)
#endif

/** What a call ended with. The numbers are pinned: programs may store them. */
typedef enum heed_status {
    HEED_OK = 0,
    HEED_ERR_MEMORY = -1,   /**< an allocation failed or would pass the context's limit */
    HEED_ERR_USAGE = -2,    /**< the call or the command line is wrong */
    HEED_ERR_SHAPE = -3,    /**< sizes do not fit together */
    HEED_ERR_DTYPE = -4,    /**< element types do not fit together */
    HEED_ERR_SPEC = -5,     /**< a combination of options that has no meaning */
    HEED_ERR_FORMAT = -6,   /**< a file breaks a rule of its format */
    HEED_ERR_LIMIT = -7,    /**< a number is outside what is allowed */
    HEED_ERR_IO = -8,       /**< the operating system refused to read or write */
    HEED_ERR_EXISTS = -9,   /**< the output exists and overwriting was not asked for */
    HEED_ERR_MISSING = -10, /**< not built in */
    HEED_ERR_DEVICE = -11,  /**< this machine or device cannot do it */
    HEED_ERR_NUMERIC = -12, /**< a number became NaN or infinite */
    HEED_ERR_STOPPED = -13, /**< the caller asked to stop */
    HEED_ERR_BUG = -14      /**< a rule inside heed was broken: please report it */
} heed_status;

/** "HEED_ERR_SHAPE" and so on; "HEED_ERR_?" for a number that is no status. Never NULL. */
HEED_API const char *heed_status_name(heed_status status);

/** The exit code of the command for a status: 0 ok, 1 failed, 2 usage, 3 bad input, 4 missing feature, 130 stopped. */
HEED_API int heed_status_exit_code(heed_status status);

/** What went wrong. Start with `heed_error err = {0};`. The first failure fills it; later ones leave it alone. */
typedef struct heed_error {
    heed_status code;
    char text[512]; /**< what, where, what to do; one sentence, UTF-8 */
    char path[192]; /**< the scope path of the node or the file concerned, or "" */
} heed_error;

/** Numbers of which zero means something: `.set` tells a given zero from nothing given. */
typedef struct heed_maybe_i64 {
    bool set;
    int64_t value;
} heed_maybe_i64;
typedef struct heed_maybe_f32 {
    bool set;
    float value;
} heed_maybe_f32;
#define HEED_SET(number) { true, (number) }

/** Where memory comes from.
 *
 *  resize(user, NULL, 0, n)  gives a new block of n > 0 bytes, aligned to 16 or more
 *  resize(user, p, m, n)     gives a block of n bytes that begins with the first min(m, n) bytes of p and takes p over
 *  resize(user, p, m, 0)     gives p back and returns NULL; it cannot fail
 *
 *  m is exactly the size with which p was made. NULL for n > 0 means failure and leaves p as it was.
 *  It may be called from several threads at a time. */
typedef struct heed_allocator {
    void *(*resize)(void *user, void *block, size_t old_size, size_t new_size);
    void *user;
} heed_allocator;

/** Limits against files and requests that lie. Zero takes the default named in docs/limits.md. */
typedef struct heed_limits {
    uint64_t memory_bytes;             /**< bytes alive at any time in this context; 0: no limit */
    uint64_t safetensors_header_bytes; /**< 16 MiB */
    uint64_t name_bytes;               /**< a tensor's name: 512 */
    uint64_t json_bytes;               /**< 16 MiB */
    uint64_t yaml_bytes;               /**< 256 KiB */
    uint64_t yaml_events;              /**< 20,000 */
    uint64_t nesting;                  /**< JSON, YAML, protobuf: 64 */
    uint64_t image_side;               /**< 65,535 */
    uint64_t image_pixels;             /**< 64 Mpx */
    uint64_t file_bytes;               /**< a file that is read whole: 4 GiB */
} heed_limits;

/** Instruction level. Same level, same bits; HEED_ISA_AUTO takes the best that this CPU has. */
typedef enum heed_isa {
    HEED_ISA_AUTO = 0,
    HEED_ISA_PORTABLE, /**< plain C in scalar order: the same bits from every compiler and CPU */
    HEED_ISA_X86_64_V3,
    HEED_ISA_X86_64_V4,
    HEED_ISA_NEON
} heed_isa;

/** "portable", "x86-64-v3", "x86-64-v4", "neon"; "auto" for HEED_ISA_AUTO. */
HEED_API const char *heed_isa_name(heed_isa isa);

/** The level of that name in *out, or HEED_ERR_USAGE. It need not be available on this CPU. */
HEED_MUST_CHECK HEED_API heed_status heed_isa_from_name(heed_isa *out, const char *name, heed_error *err);

/** True when kernels of this level are built in and this CPU runs them. */
HEED_API bool heed_isa_available(heed_isa isa);

/** An optional library: whether this build has it, and which Debian packages bring it. */
typedef struct heed_feature {
    const char *name; /**< "protobuf"; NULL ends the list */
    bool present;
    const char *library, *packages, *version; /**< version "" when it is not present */
} heed_feature;

/** Every optional library of this version, ended by a row whose name is NULL. */
HEED_API const heed_feature *heed_features(void);

/** Was this build given that library ("png", "json", ...: heed_features)? False for a name that no row has. */
HEED_API bool heed_has_feature(const char *name);

/** The name of this machine's processor, "" when the system does not tell. */
HEED_API void heed_cpu_name(char name[96]);

/** The word (of a list ended by NULL) that `text` was probably meant to be, or NULL: at most three letters wrong. */
HEED_API const char *heed_nearest(const char *text, const char *const *words);

/** A context owns a pool of threads, an allocator and limits. Two contexts never meet. Several threads may use one context, each
 *  with builders, stores of weights and sessions of its own: the pool serves one of them at a time, the others run meanwhile on
 *  their own thread, with the same bytes. */
typedef struct heed_context heed_context;

typedef struct heed_context_opts {
    int threads;                     /**< 0: one for each CPU this process may use */
    heed_isa isa;                    /**< HEED_ISA_AUTO: the best of this CPU */
    const heed_allocator *allocator; /**< copied; NULL: malloc and free */
    heed_limits limits;
} heed_context_opts;

/** Makes a context. HEED_ERR_DEVICE when the level asked for is not available, HEED_ERR_MEMORY, HEED_ERR_LIMIT
 *  (threads outside 0..1024). The caller frees it after everything that was made from it. */
HEED_MUST_CHECK HEED_API heed_status heed_context_new(heed_context **out, const heed_context_opts *opts,
                                                      heed_error *err);

/** Frees the context; NULL is fine. */
HEED_API void heed_context_free(heed_context *ctx);

/** Threads of the pool, the caller's among them. */
HEED_API int heed_context_threads(const heed_context *ctx);

/** The level in use, never HEED_ISA_AUTO. */
HEED_API heed_isa heed_context_isa(const heed_context *ctx);

/** Bytes alive now, and the most that were alive at one time since the last call of heed_context_peak_reset. */
HEED_API uint64_t heed_context_bytes(const heed_context *ctx);
HEED_API uint64_t heed_context_peak_bytes(const heed_context *ctx);
HEED_API void heed_context_peak_reset(heed_context *ctx);

#ifdef __cplusplus
}
#endif
#endif
