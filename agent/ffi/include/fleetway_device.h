// The agent of Fleetway inside a C program: libfleetway_device.
//
// Every function may be called from any thread, also at the same time. A failed one says why in
// fleetway_message, and has written nothing. Text is UTF-8. What a function gives away is freed by
// the function that its comment names, once. Handles are numbers; one that was closed is refused,
// not followed. After fork() the child must not use the library. docs/library.md has an example.
//
// SPDX-License-Identifier: Apache-2.0 OR MIT

#ifndef FLEETWAY_DEVICE_H
#define FLEETWAY_DEVICE_H

// Made by `cargo xtask bindings` from agent/ffi/src; a test compares. Do not edit.

#include <stdint.h>

// For `fleetway_open`: the sockets of the configuration are opened too, for other applications.
#define FLEETWAY_SOCKETS 1

// For `fleetway_open`: there is no program to try models in. Nothing new is installed then.
#define FLEETWAY_NO_CHILD 2

// What became of a call.
enum FleetwayCode
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // Done.
  FLEETWAY_CODE_OK = 0,
  // A null pointer, text that is not UTF-8, an unknown flag or type: a mistake in the calling program.
  FLEETWAY_CODE_ARGUMENT = 1,
  // No such agent or subscription; it was closed, or never opened.
  FLEETWAY_CODE_HANDLE = 2,
  // The configuration is missing or wrong.
  FLEETWAY_CODE_CONFIG = 3,
  // Somebody has this device open: this program, or another.
  FLEETWAY_CODE_IN_USE = 4,
  // The agent cannot be opened, for another reason.
  FLEETWAY_CODE_OPEN = 5,
  // The device knows no such model.
  FLEETWAY_CODE_UNKNOWN_MODEL = 6,
  // Nothing of the model is loaded yet.
  FLEETWAY_CODE_NOT_READY = 7,
  // The inputs do not fit the model.
  FLEETWAY_CODE_INPUT = 8,
  // Too much at once; ask again later.
  FLEETWAY_CODE_BUSY = 9,
  // The run did not end within its deadline.
  FLEETWAY_CODE_TIMEOUT = 10,
  // The release failed on these inputs.
  FLEETWAY_CODE_FAILED = 11,
  // The agent has ended.
  FLEETWAY_CODE_CLOSED = 12,
  // There are as many subscriptions as there can be.
  FLEETWAY_CODE_TOO_MANY = 13,
  // A bug of fleetway's, which was caught.
  FLEETWAY_CODE_BUG = 14,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum FleetwayCode FleetwayCode;
#else
typedef int32_t FleetwayCode;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Type of the elements of a tensor.
enum FleetwayType
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // 32-bit float.
  FLEETWAY_TYPE_F32 = 1,
  // 64-bit float.
  FLEETWAY_TYPE_F64 = 2,
  // 8-bit signed.
  FLEETWAY_TYPE_I8 = 3,
  // 8-bit unsigned.
  FLEETWAY_TYPE_U8 = 4,
  // 16-bit signed.
  FLEETWAY_TYPE_I16 = 5,
  // 16-bit unsigned.
  FLEETWAY_TYPE_U16 = 6,
  // 32-bit signed.
  FLEETWAY_TYPE_I32 = 7,
  // 64-bit signed.
  FLEETWAY_TYPE_I64 = 8,
  // One byte, 0 or 1.
  FLEETWAY_TYPE_BOOL = 9,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum FleetwayType FleetwayType;
#else
typedef uint32_t FleetwayType;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// A tensor with its name: elements in row-major order, as they lie in memory (little-endian).
typedef struct FleetwayTensor {
  // Name of the input or output.
  const char *name;
  // A `FleetwayType`.
  uint32_t datatype;
  // Number of axes.
  uint32_t rank;
  // Elements on each axis.
  const uint64_t *shape;
  // The elements; need not be aligned where they are an input.
  const void *data;
  // Bytes of `data`.
  uint64_t data_bytes;
} FleetwayTensor;

// An answer and which signed release gave it. Everything in it is the library's, until
// `fleetway_answer_free`.
typedef struct FleetwayAnswer {
  // The model that was asked.
  const char *model;
  // What people call the release.
  const char *version;
  // Digest of its manifest, hexadecimal.
  const char *release;
  // Where its bytes are: `a`, `b` or `factory`.
  const char *slot;
  // The outputs in the model's order.
  const struct FleetwayTensor *outputs;
  // How many.
  uint32_t output_count;
} FleetwayAnswer;

// Another release answers for a model, or none. Lives as long as the call that brings it.
typedef struct FleetwayChange {
  // Which model.
  const char *model;
  // What people call the release that answers now; null if nothing answers.
  const char *version;
  // Digest of its manifest, hexadecimal; null if nothing answers.
  const char *release;
  // Where its bytes are: `a`, `b` or `factory`; null if nothing answers.
  const char *slot;
} FleetwayChange;

// Is called on a thread of the library's, one call of a subscription at a time. Must not throw or
// jump out; may call every function of this library.
typedef void (*FleetwayCallback)(void *user, const struct FleetwayChange *change);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of this library. It must be the version of the program that tries models.
const char *fleetway_version(void);

// Why the last call on this thread failed, in one sentence; empty if it did not. Good until the next
// call on this thread; never freed by the caller.
const char *fleetway_message(void);

// Opens the device whose configuration is the file `at`, or `agent.toml` in the directory `at`.
//
// `child` is the program in which new models are tried, such as `fleetway-agent` of the same version;
// null looks for that beside this program and where packages put it. `flags` are `FLEETWAY_SOCKETS`
// and `FLEETWAY_NO_CHILD`, or 0. `*agent` is closed by `fleetway_close`.
//
// # Safety
// `at` is a C string; `child` is null or one; `agent` points to a `uint64_t`.
FleetwayCode fleetway_open(const char *at,
                           const char *child,
                           uint32_t flags,
                           uint64_t *agent);

// Ends an agent gracefully: within ten seconds, and when callbacks that run have returned. Its
// subscriptions end with it. Called by a callback it does not wait for that one.
FleetwayCode fleetway_close(uint64_t agent);

// What runs on the device, why, and what is wrong: the JSON of `fleetway-agent status -o json`.
// `*json` is freed by `fleetway_text_free`.
//
// # Safety
// `json` points to a `char *`.
FleetwayCode fleetway_status(uint64_t agent, char **json);

// Frees a text that this library gave. Null is allowed.
//
// # Safety
// `text` came from `fleetway_status` and was not freed before.
void fleetway_text_free(char *text);

// Asks a model and waits for the answer: at most one second for a turn and ten for the run.
// `inputs` are copied. `*answer` is freed by `fleetway_answer_free`.
//
// # Safety
// `model` is a C string; `inputs` points to `input_count` tensors whose pointers are as their fields
// say, and nobody writes there during the call; `answer` points to a `FleetwayAnswer *`.
FleetwayCode fleetway_infer(uint64_t agent,
                            const char *model,
                            const struct FleetwayTensor *inputs,
                            uint32_t input_count,
                            struct FleetwayAnswer **answer);

// Frees an answer and everything in it. Null is allowed.
//
// # Safety
// `answer` came from `fleetway_infer` and was not freed before.
void fleetway_answer_free(struct FleetwayAnswer *answer);

// Calls `callback` with `user` for every model that answers now, and from then on whenever another
// release, or none, answers for a model. A slow callback sees the newest state, not what came and
// went meanwhile. `*subscription` is ended by `fleetway_unsubscribe`, or with its agent.
//
// # Safety
// `callback` may be called with `user` on another thread until the subscription has ended;
// `subscription` points to a `uint64_t`.
FleetwayCode fleetway_on_model_changed(uint64_t agent,
                                       FleetwayCallback callback,
                                       void *user,
                                       uint64_t *subscription);

// Ends a subscription. When this returns no call of it is under way and none will come, unless a
// call of its own does it: then that one is the last.
FleetwayCode fleetway_unsubscribe(uint64_t subscription);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* FLEETWAY_DEVICE_H */
